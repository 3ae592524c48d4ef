"""Values that make no task: what is said of them, in one sentence."""

import math

import pytest

from tracetorch.tasks import MNIST, CueAccumulation, Gym, Patterns, PoissonClicks, SequentialMNIST, StoreRecall
from tracetorch.tasks.wrappers import ContextSchedule

TRIALS = {"neurons_per_channel": 1, "batch_size": 1, "test_trials": 1, "validation_trials": 0, "noise": 0}
LEAST = {
    MNIST: {"steps": 1, "batch_size": 1},
    SequentialMNIST: {"steps_per_part": 1, "levels": 1, "batch_size": 1},
    Patterns: {"patterns": 1, "inputs": 1, "outputs": 1, "steps": 1, "batch_size": 1, "repeats": 1},
    CueAccumulation: TRIALS | {"interval": 0, "delay": 0, "recall": 0, "rate": 0},
    StoreRecall: TRIALS | {"intervals": 2, "rate": 0},
    PoissonClicks: TRIALS | {"total_rate": 0, "cue_rate": 0, "delay": 0, "cue": 0},
    Gym: {
        "num_envs": 1,
        "steps": 1,
        "test_episodes": 1,
        "validation_episodes": 0,
        "neurons": 2,
        "max_episode_steps": 1,
    },
    ContextSchedule: {"every": 1},
}


@pytest.mark.parametrize("task", LEAST, ids=lambda task: task.__name__)
def test_what_is_too_little_is_refused(task):
    said = {}
    for name, least in LEAST[task].items():
        try:
            task(**{name: least - 1})
        except ValueError as error:
            said[name] = str(error)
    assert said == {name: f"{name} must be at least {least}, got {least - 1}" for name, least in LEAST[task].items()}


REFUSED = [
    (MNIST, {"batch_size": 1001}, "batch_size is at most the 1,000 training digits, got 1001"),
    (MNIST, {"batch_size": 900, "validation_digits": 200}, "batch_size is at most the 800 training digits"),
    (MNIST, {"max_rate": 0.0}, "max_rate must be above 0 and at most 1 spike per step, got 0"),
    (MNIST, {"max_rate": 1.1}, "max_rate must be above 0 and at most 1 spike per step, got 1.1"),
    (MNIST, {"max_rate": math.nan}, "max_rate must be above 0"),
    (MNIST, {"validation_digits": -1}, "validation_digits must leave some of the 1,000 training digits, got -1"),
    (MNIST, {"validation_digits": 1000}, "validation_digits must leave some"),
    (MNIST, {"encoding": "poison"}, "encoding must be one of poisson, latency, constant, got 'poison'"),
    (SequentialMNIST, {"by": "columns"}, "by must be one of rows, pixels, got 'columns'"),
    (SequentialMNIST, {"order": "random"}, "order must be one of fixed, permuted, got 'random'"),
    (SequentialMNIST, {"encoding": "latency"}, "encoding must be one of poisson, constant, got 'latency'"),
    (SequentialMNIST, {"source": "nowhere"}, "source=nowhere: there is no such folder; give one with the MNIST files"),
    (Patterns, {"rate": 0.1, "background": 0.2}, "must satisfy 0 ≤ background ≤ rate ≤ 1, got 0.2 and 0.1"),
    (Patterns, {"rate": 1.5}, "rates must satisfy"),
    (Patterns, {"background": -0.1}, "rates must satisfy"),
    (Patterns, {"rate": math.nan}, "rates must satisfy"),
    (Patterns, {"encoding": "rate"}, "encoding must be one of poisson, latency, constant, got 'rate'"),
    (CueAccumulation, {"cues": 6}, "cues must be an odd number, or no side need have more, got 6"),
    (CueAccumulation, {"cues": -1}, "cues must be an odd number"),
    (CueAccumulation, {"bias": 0.4}, "bias is the probability of a cue on the trial's side, 0.5 to 1, got 0.4"),
    (CueAccumulation, {"bias": 1.1}, "bias is the probability"),
    (CueAccumulation, {"interval": math.inf}, "interval must be finite, got inf"),
    (CueAccumulation, {"cue": 0.2}, "a cue lasts at least a step and at most the interval of 0.15 s, got 0.2 s"),
    (CueAccumulation, {"cue": 0.0}, "a cue lasts at least a step"),
    (CueAccumulation, {"recall": 0.0001}, "the recall lasts at least a step of 0.001 s, got 0.0001 s"),
    (CueAccumulation, {"dt": 0.0}, "dt must be above 0 and short enough for at most one spike in a step, got 0 s"),
    (CueAccumulation, {"rate": 1001.0}, "short enough for at most one spike"),
    (CueAccumulation, {"noise": 1001.0}, "short enough for at most one spike"),
    (StoreRecall, {"distractors": "0..7"}, "distractors are whole numbers, at most 6, because one .* got '0..7'"),
    (StoreRecall, {"intervals": 4}, "distractors are whole numbers, at most 2"),
    (StoreRecall, {"distractors": [1.5]}, r"distractors are whole numbers, .* got \[1.5\]"),
    (StoreRecall, {"distractors": "0.5..3"}, "distractors are whole numbers"),
    (StoreRecall, {"distractors": [-1]}, "distractors must be a list of numbers or a range such as .* none below 0,"),
    (StoreRecall, {"interval": 0.0}, "interval must be finite, and at least a step of 0.001 s, got 0 s"),
    (StoreRecall, {"interval": math.inf}, "interval must be finite"),
    (StoreRecall, {"dt": 0.0}, "dt must be above 0"),
    (StoreRecall, {"rate": 1001.0}, "short enough for at most one spike"),
    (StoreRecall, {"noise": 1001.0}, "short enough for at most one spike"),
    (PoissonClicks, {"gamma": []}, r"gamma must be a list of numbers or a range such as .*, none below 0, got \[\]"),
    (PoissonClicks, {"gamma": "steep"}, "gamma must be a list of numbers or a range such as .*, got 'steep'"),
    (PoissonClicks, {"gamma": "1..2..3"}, "gamma must be .*, got '1..2..3'"),
    (PoissonClicks, {"gamma": [1.0, math.nan]}, "gamma must be"),
    (PoissonClicks, {"gamma": [math.inf]}, "gamma must be"),
    (PoissonClicks, {"duration": [0.001]}, "duration must be .* none below 0.01"),
    (PoissonClicks, {"delay": "1.."}, "delay must be a number, a list of numbers or a range .* below 0, got '1..'"),
    (PoissonClicks, {"delay": [1.0, -1.0]}, "delay must be .* none below 0"),
    (PoissonClicks, {"delay": math.inf}, "delay must be finite, got inf"),
    (PoissonClicks, {"label": "sides"}, "label must be one of side, count, got 'sides'"),
    (PoissonClicks, {"total_rate": 101.0}, "dt must be .* short enough for at most one click in a step, got 0.01 s"),
    (PoissonClicks, {"cue_rate": 101.0}, "short enough for at most one click"),
    (PoissonClicks, {"noise": 101.0}, "short enough for at most one click"),
    (PoissonClicks, {"dt": 0.0}, "dt must be above 0"),
    (PoissonClicks, {"dt": math.nan}, "dt must be above 0"),
    (ContextSchedule, {"every": 5, "jitter": 1.0}, "jitter must be at least 0 and below 1, got 1"),
    (ContextSchedule, {"every": 5, "jitter": -0.1}, "jitter must be at least 0 and below 1"),
    (ContextSchedule, {"every": 5, "jitter": math.nan}, "jitter must be at least 0 and below 1, got nan"),
]


@pytest.mark.parametrize(("task", "given", "phrase"), REFUSED, ids=lambda part: getattr(part, "__name__", str(part)))
def test_what_makes_no_task_is_refused(task, given, phrase):
    with pytest.raises((ValueError, FileNotFoundError), match=phrase) as caught:
        task(**given)
    assert "\n" not in str(caught.value)
