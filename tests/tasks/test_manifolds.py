"""Random manifolds: their formula, one spike per channel, smoothness, and the accuracy of the nearest manifold."""

import math
from functools import partial

import pytest
import torch

from tracetorch.backends import uniform
from tracetorch.encode import mix_seed
from tracetorch.tasks import Manifolds

FAST = partial(Manifolds, channels=6, batch_size=300, alpha=3.0)


def times(batch, task):
    """The step of each channel's spike, (batch, channels), of which each has exactly one."""
    spikes = batch.xs.dense()
    assert torch.equal(spikes.sum(dim=0), torch.ones(len(batch.target), task.input_size))
    return spikes.argmax(dim=0)


def positions(batch, task):
    return torch.stack([batch.conditions[f"position_{number + 1}"] for number in range(task.dimension)], dim=-1)


@pytest.mark.parametrize("dimension", [1, 2])
def test_a_spike_comes_at_its_coordinate_of_the_manifold(dimension):
    """The formula of the docstring, term by term."""
    task = Manifolds(classes=2, channels=3, dimension=dimension, alpha=2.5, duration=0.05, seed=4)
    highest = 15  # below 1000^(1/2.5) = 15.8, rounded up
    drawn = uniform(mix_seed(4, 3), range(1), torch.arange(6), 3 * dimension * highest)[0].double()
    terms = drawn.view(2, 3, dimension, 3, highest)

    def coordinate(label, channel, x):
        found = torch.ones(len(x), dtype=torch.float64)
        for j in range(dimension):
            a, b, c = terms[label, channel, j]
            waves = torch.zeros_like(found)
            for k in range(1, highest + 1):
                waves += a[k - 1] / (1 + (k + 1) ** 2.5) * torch.sin(2 * math.pi * (k * b[k - 1] * x[:, j] + c[k - 1]))
            found *= waves
        return found

    known = uniform(mix_seed(4, 4), range(1), torch.arange(1000), dimension)[0].double()
    batch = task.train_batch(3)
    for label in (0, 1):
        rows = batch.target == label
        low, high = coordinate(label, 2, known).aminmax()
        share = (coordinate(label, 2, positions(batch, task)[rows].double()) - low) / (high - low)
        assert int(rows.sum()) > 8
        assert torch.equal(times(batch, task)[rows, 2], torch.round(share.clamp(0, 1) * 49).long())


def test_channels_fire_once_over_the_whole_duration_and_then_are_silent():
    task = FAST()
    batch = task.train_batch(0)
    when = times(batch, task)
    assert int(when.min()) == 0 and int(when.max()) == 99 == task.spike_steps - 1
    assert (task.steps, task.readout_window, task.input_size, task.output_size) == (120, 20, 6, 10)
    assert torch.bincount(batch.target, minlength=10).min() > 10
    _, marks = task.example()
    assert marks == {"spikes": (0, 100), "readout": (100, 120)}


@pytest.mark.parametrize(("dimension", "few"), [(1, 3.0), (2, 6.0)])
def test_manifolds_are_smooth_and_smoother_with_a_larger_alpha(dimension, few):
    jumps = {}
    for alpha in (1.2, 4.0):
        task = FAST(classes=2, alpha=alpha, dimension=dimension)
        x = torch.full((200, dimension), 0.4)
        x[:, 0] = torch.linspace(0, 1, 200)
        when = task._spike_times(torch.zeros(200, dtype=torch.long), x).double()
        jumps[alpha] = float(when.diff(dim=0).abs().mean())
    assert jumps[4.0] < few and jumps[1.2] > 1.5 * jumps[4.0]


def test_splits_are_other_points_of_the_same_manifolds_and_the_nearest_manifold_is_the_answer():
    task = FAST(validation_trials=100, test_trials=100)
    (one,), (other,) = (list(task.eval_batches(split)) for split in ("validation", "test"))
    assert not torch.equal(positions(one, task), positions(other, task))
    trials = task.score(torch.rand(100, 10), other)
    assert task.summary(trials)["nearest_accuracy"] > 0.97
    assert FAST(seed=1).summary(trials)["nearest_accuracy"] > 0.97  # the same points of other manifolds
    coarse = FAST(duration=0.002)  # two steps: classes overlap
    assert 0.1 < coarse.summary(trials)["nearest_accuracy"] < 0.8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"alpha": 0.0}, "alpha must be above 0 and at most 100, got 0"),
        ({"alpha": math.nan}, "alpha must be above 0"),
        ({"dt": 0.0}, "dt must be above 0 and finite, got 0 s"),
        ({"duration": 0.0}, "duration must be at least 0.001, got 0"),
        ({"readout": math.inf}, "readout must be finite"),
        ({"classes": 1}, "classes must be at least 2, got 1"),
        ({"dimension": 0}, "dimension must be at least 1, got 0"),
        ({"validation_trials": -1}, "validation_trials must be at least 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        FAST(**changes)
