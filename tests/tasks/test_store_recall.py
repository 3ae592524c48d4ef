"""Store and recall: who fires when, what is asked, that the command must be heard with the value, and the shortcuts."""

from itertools import product

import pytest
import torch

from tracetorch.tasks import StoreRecall
from tracetorch.tasks.samplers import UniformSampler

EACH, INTERVAL = 5, 40


def trials(count=300, **changes):
    """A small task and a batch of it: (task, batch, spikes (intervals, batch, populations), counted)."""
    given = {"interval": 0.04, "rate": 200.0, "neurons_per_channel": EACH, "batch_size": count} | changes
    task = StoreRecall(**given)
    batch = task.train_batch(0)
    counted = batch.xs.dense().view(task.intervals, INTERVAL, count, 4, EACH).sum(dim=(1, 4))
    return task, batch, counted


def test_by_default_it_lasts_eight_intervals_of_which_the_last_is_recall():
    task = StoreRecall()
    assert (task.steps, task.input_size, task.readout_window) == (8 * 200, 40, 200)
    batch, marks = task.example()
    store = 200 * (6 - int(batch.conditions["distractors"]))
    assert marks == {"store": (store, store + 200), "recall": (1400, 1600)}


def test_each_interval_shows_one_value_and_the_last_none():
    _, _, counted = trials()
    zero, one, _, recall = (counted > 0).unbind(dim=-1)
    assert torch.equal(zero[:-1], ~one[:-1])
    assert not bool((zero | one)[-1].any() | recall[:-1].any())
    assert bool(recall[-1].all())
    assert float(one[:-1].float().mean()) == pytest.approx(0.5, abs=4 * 0.5 / 2100**0.5)


def test_store_comes_once_and_so_many_intervals_before_recall_as_the_trial_says():
    _, batch, counted = trials()
    store = counted[..., 2] > 0
    assert torch.equal(store.sum(dim=0), torch.ones(300, dtype=torch.int64))
    assert torch.equal(6 - store.long().argmax(dim=0), batch.conditions["distractors"])
    times = torch.bincount(batch.conditions["distractors"], minlength=7) / 300
    assert float((times - 1 / 7).abs().max()) < 4 * (1 / 7 * 6 / 7 / 300) ** 0.5


def test_the_answer_is_the_value_that_came_with_store():
    _, batch, counted = trials()
    store = (counted[..., 2] > 0).float()
    at_store = (counted[..., :2] * store[..., None]).sum(dim=0)  # (batch, values)
    assert torch.equal(batch.target, at_store.argmax(dim=-1))
    values = counted[:-1, :, 1] > 0
    assert torch.equal(batch.conditions["last_value_accuracy"], (values[-1] == batch.target).float())
    most = values.float().mean(dim=0) > 0.5  # seven values: no tie
    assert torch.equal(batch.conditions["majority_accuracy"], (most == batch.target).float())


def test_the_same_values_with_the_command_elsewhere_ask_for_another_answer():
    (_, early, one), (_, late, other) = (trials(distractors=[between]) for between in (5, 1))
    assert torch.equal(one[..., [0, 1, 3]], other[..., [0, 1, 3]])
    assert torch.equal(one[1, :, 2] > 0, other[5, :, 2] > 0)
    assert 0.4 < float((early.target != late.target).float().mean()) < 0.6


def test_neurons_fire_at_the_rates_of_their_populations():
    task = StoreRecall(batch_size=50, noise=10.0)
    spikes = task.train_batch(0).xs.dense().view(8, 200, 50, 4, 10).mean(dim=(1, 4))
    recall, other = spikes[-1, :, 3], spikes[:-1, :, 3]
    assert float(recall.mean()) == pytest.approx(0.05, abs=0.003)
    assert float(other.mean()) == pytest.approx(0.01, abs=0.0005)
    assert float(spikes[:-1, :, :2].sum(dim=-1).mean()) == pytest.approx(0.06, abs=0.001)


@pytest.mark.parametrize(("intervals", "distractors"), [(8, "0..6"), (5, "0..3"), (4, [1])])
def test_the_shortcuts_reach_what_probability_says(intervals, distractors):
    small = {"intervals": intervals, "distractors": distractors, "interval": 0.002, "neurons_per_channel": 1}
    task = StoreRecall(**small, test_trials=4000)
    parts = [task.score(torch.rand(len(batch.target), 2), batch) for batch in task.eval_batches("test")]
    found = task.summary({name: torch.cat([part[name] for part in parts]) for name in parts[0]})
    between = [1] if distractors == [1] else range(intervals - 1)
    cases = list(product(product((0, 1), repeat=intervals - 1), between))
    wanted = {"last_value_accuracy": 0.0, "majority_accuracy": 0.0}
    for values, distance in cases:
        stored, surplus = values[-1 - distance], 2 * sum(values) - len(values)
        wanted["last_value_accuracy"] += (values[-1] == stored) / len(cases)
        wanted["majority_accuracy"] += (0.5 if surplus == 0 else (surplus > 0) == stored) / len(cases)
    assert found == pytest.approx(wanted, abs=4 * 0.5 / 4000**0.5)
    assert float(torch.cat([part["target"] for part in parts]).float().mean()) == pytest.approx(0.5, abs=0.032)


def test_a_trial_does_not_depend_on_its_batch():
    whole = StoreRecall(batch_size=6, noise=5.0).train_batch(0)
    halves = [StoreRecall(batch_size=3, noise=5.0).train_batch(number) for number in (0, 1)]
    assert torch.equal(whole.xs.dense(), torch.cat([half.xs.dense() for half in halves], dim=1))
    assert torch.equal(whole.target, torch.cat([half.target for half in halves]))


def test_whole_numbers_are_drawn_evenly_with_both_ends_of_a_range():
    places = (torch.arange(700) + 0.5) / 700
    assert torch.bincount(UniformSampler("n", "2..8", 0).whole_at(places)).tolist() == [0, 0, *[100] * 7]
    assert UniformSampler("n", [5, 1], 0).whole_at(torch.tensor([0.0, 0.49, 0.5, 0.999])).tolist() == [5, 5, 1, 1]


@pytest.mark.parametrize(
    ("changes", "phrase"),
    [
        ({"intervals": 1}, "intervals must be at least 2, got 1"),
        ({"distractors": "0..7"}, "distractors are whole numbers, at most 6, .* got '0..7'"),
        ({"intervals": 4}, "distractors are whole numbers, at most 2"),
        ({"distractors": [1.5]}, r"distractors are whole numbers, .* got \[1.5\]"),
        ({"distractors": "0.5..3"}, "distractors are whole numbers"),
        ({"distractors": [-1]}, "distractors must be a list of numbers or a range such as .* none below 0"),
        ({"distractors": []}, "distractors must be a list"),
        ({"distractors": "many"}, "distractors must be a list"),
        ({"interval": 0.0}, "interval must be finite, and at least a step of 0.001 s, got 0 s"),
        ({"interval": float("nan")}, "interval must be finite"),
        ({"interval": float("inf")}, "interval must be finite"),
        ({"dt": 0.0}, "dt must be above 0"),
        ({"rate": 2000.0}, "short enough for at most one spike"),
        ({"noise": -1.0}, "noise must be at least 0, got -1"),
        ({"neurons_per_channel": 0}, "neurons_per_channel"),
        ({"batch_size": 0}, "batch_size"),
        ({"test_trials": 0}, "test_trials"),
        ({"validation_trials": -1}, "validation_trials"),
    ],
    ids=str,
)
def test_what_makes_no_trial_is_refused(changes, phrase):
    with pytest.raises(ValueError, match=phrase):
        StoreRecall(**changes)
