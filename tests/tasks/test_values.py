"""Settings of tasks: those that are refused, each with its whole message, and the defaults."""

import math
import re
from functools import partial
from inspect import signature

import pytest
import yaml

from tracetorch.cli.adapter import conf_dir
from tracetorch.tasks import (
    MNIST,
    CueAccumulation,
    File,
    Gym,
    Patterns,
    PoissonClicks,
    SequentialMNIST,
    StoreRecall,
    dvs_gesture,
    nmnist,
    shd,
)
from tracetorch.tasks.wrappers import Blocks, ContextSchedule

LEAST_OF_TRIALS = {"neurons_per_channel": 1, "batch_size": 1, "test_trials": 1, "validation_trials": 0, "noise": 0}
LEAST = {
    MNIST: {"steps": 1, "batch_size": 1},
    SequentialMNIST: {"steps_per_part": 1, "levels": 1, "batch_size": 1},
    Patterns: {"patterns": 1, "inputs": 1, "outputs": 1, "steps": 1, "batch_size": 1, "repeats": 1},
    CueAccumulation: LEAST_OF_TRIALS | {"interval": 0, "delay": 0, "recall": 0, "rate": 0},
    StoreRecall: LEAST_OF_TRIALS | {"intervals": 2, "rate": 0},
    PoissonClicks: LEAST_OF_TRIALS | {"total_rate": 0, "cue_rate": 0, "delay": 0, "cue": 0},
    Gym: {"num_envs": 1, "steps": 1, "test_episodes": 1, "validation_episodes": 0, "neurons": 2},
    ContextSchedule: {"every": 1},
}


@pytest.mark.parametrize("task", LEAST, ids=lambda task: task.__name__)
def test_settings_below_their_minimum_are_refused(task):
    said = {}
    for name, least in LEAST[task].items():
        try:
            task(**{name: least - 1})
        except ValueError as error:
            said[name] = str(error)
    assert said == {name: f"{name} must be at least {least}, got {least - 1}" for name, least in LEAST[task].items()}


COUNTS = [
    (task, name)
    for task in (*LEAST, partial(Blocks, MNIST()))
    for name, option in signature(task).parameters.items()
    if option.annotation == "int" and name != "seed"
]


@pytest.mark.parametrize(("task", "name"), COUNTS)
def test_a_count_must_be_a_whole_number(task, name):
    with pytest.raises(TypeError, match=f"^{name} must be a whole number, got 1.5$"):
        task(**{name: 1.5})


def parts_of(node):
    """A part of a preset, and the parts inside of it."""
    return [node, *(part for value in node.values() if isinstance(value, dict) for part in parts_of(value))]


PRESETS = [part for path in (conf_dir() / "task").glob("*.yaml") for part in parts_of(yaml.safe_load(path.read_text()))]


NEED_DATA = (File, dvs_gesture, nmnist, shd)


@pytest.mark.parametrize("task", [*list(LEAST)[:-1], Blocks, *NEED_DATA], ids=lambda task: task.__name__)
def test_a_default_in_python_is_the_value_in_a_preset(task):
    if task is Gym:
        pytest.importorskip("gymnasium", reason="the extra rl is not installed")
    presets = [part for part in PRESETS if part.get("_target_") == f"tracetorch.tasks.{task.__name__}"]
    for name, option in signature(task).parameters.items():
        default = list(option.default) if isinstance(option.default, tuple) else option.default
        if name == "seed":
            assert default == 0
        elif name not in ("task", "options", "path"):
            assert default in [part.get(name) for part in presets], name
    if task not in NEED_DATA:
        task(*[MNIST()] if task is Blocks else [])  # the defaults fit together


SPLIT = partial(MNIST, validation_digits=200)
RATE = "max_rate must be above 0 and at most 1, got {}"
PATTERN = "0 ≤ background ≤ rate ≤ 1 must hold, got background="
STEP = "dt must be above 0 and short enough for at most one "
DISTRACTORS = (
    "distractors must be whole numbers, at most 6, because one of the 8 intervals is for store and one for recall, "
    "got {}"
)
SAMPLES = "must be a list of numbers or a range such as 0.1..1.2, none below 0, got {}"
REFUSED = [
    (SPLIT, "batch_size", (801,), "batch_size is at most the 800 training digits, got {}"),
    (MNIST, "max_rate", (0.0, 1.1, math.nan), RATE),
    (MNIST, "validation_digits", (-1, 1000), "validation_digits must leave some of the 1,000 training digits, got {}"),
    (MNIST, "encoding", ("poison",), "encoding must be one of poisson, latency, constant, got {}"),
    (SequentialMNIST, "by", ("columns",), "by must be one of rows, pixels, got {}"),
    (SequentialMNIST, "order", ("random",), "order must be one of fixed, permuted, got {}"),
    (SequentialMNIST, "encoding", ("latency",), "encoding must be one of poisson, constant, got {}"),
    (SequentialMNIST, "max_rate", (0.0,), RATE),
    (Patterns, "rate", (0.01, 1.5, math.nan), PATTERN + "0.05 and rate={}"),
    (Patterns, "background", (-0.1,), PATTERN + "{} and rate=0.5"),
    (Patterns, "encoding", ("rate",), "encoding must be one of poisson, latency, constant, got {}"),
    (CueAccumulation, "cues", (6, -1), "cues must be an odd number, so that one side has more, got {}"),
    (CueAccumulation, "bias", (0.4, 1.1), "bias is the probability of a cue on the trial's side, 0.5 to 1, got {}"),
    (CueAccumulation, "interval", (math.inf,), "interval must be finite, got {}"),
    (CueAccumulation, "cue", (0.2, 0.0), "cue must be at least a step and at most the interval of 0.15 s, got {} s"),
    (CueAccumulation, "recall", (0.0001,), "recall must be at least a step of 0.001 s, got {} s"),
    (CueAccumulation, "dt", (0.0,), STEP + "spike in a step, got {} s"),
    (CueAccumulation, "rate", (1001.0,), STEP + "spike in a step, got 0.001 s"),
    (CueAccumulation, "noise", (1001.0,), STEP + "spike in a step, got 0.001 s"),
    (StoreRecall, "distractors", ("0..7", [1.5], "0.5..3"), DISTRACTORS),
    (StoreRecall, "distractors", ([-1],), "distractors " + SAMPLES),
    (StoreRecall, "interval", (0.0, math.inf), "interval must be finite, and at least a step of 0.001 s, got {} s"),
    (StoreRecall, "dt", (0.0,), STEP + "spike in a step, got {} s"),
    (StoreRecall, "rate", (1001.0,), STEP + "spike in a step, got 0.001 s"),
    (StoreRecall, "noise", (1001.0,), STEP + "spike in a step, got 0.001 s"),
    (PoissonClicks, "gamma", ([], "steep", "1..2..3", [1.0, math.nan], [math.inf]), "gamma " + SAMPLES),
    (PoissonClicks, "duration", ([0.001],), "duration " + SAMPLES.replace("below 0", "below 0.01")),
    (PoissonClicks, "delay", ("1..", [1.0, -1.0]), "delay " + SAMPLES.replace("a list", "a number, a list")),
    (PoissonClicks, "delay", (math.inf,), "delay must be finite, got {}"),
    (PoissonClicks, "label", ("sides",), "label must be one of side, count, got {}"),
    (PoissonClicks, "dt", (0.0, math.nan), STEP + "click in a step, got {} s"),
    (PoissonClicks, "total_rate", (101.0,), STEP + "click in a step, got 0.01 s"),
    (PoissonClicks, "cue_rate", (101.0,), STEP + "click in a step, got 0.01 s"),
    (PoissonClicks, "noise", (101.0,), STEP + "click in a step, got 0.01 s"),
    (partial(ContextSchedule, 5), "jitter", (1.0, -0.1, math.nan), "jitter must be at least 0 and below 1, got {}"),
]


@pytest.mark.parametrize(
    ("task", "name", "value", "message"), [(*case, value, said) for *case, values, said in REFUSED for value in values]
)
def test_an_invalid_setting_is_refused(task, name, value, message):
    shown = f"{value:g}" if isinstance(value, int | float) else repr(value)
    with pytest.raises(ValueError, match=f"^{re.escape(message.format(shown))}$"):
        task(**{name: value})
