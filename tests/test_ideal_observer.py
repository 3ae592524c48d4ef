"""The ideal observer of the clicks, against every sequence there can be, and against counting simulated clicks."""

import itertools
import math

import pytest
import torch

from tracetorch.tasks import PoissonClicks

GAMMA, DURATION = torch.tensor([0.25, 1.0, 2.0]), torch.tensor([0.02, 0.03, 0.05])

KINDS = {
    "side": {},
    "count": {"label": "count"},
    "stereo": {"stereo_click": True},
    "count-stereo": {"label": "count", "stereo_click": True},
    "noise": {"noise": 20.0, "neurons_per_channel": 1},
    "noise-stereo": {"noise": 20.0, "neurons_per_channel": 1, "stereo_click": True},
    "noise-two-neurons": {"noise": 40.0, "neurons_per_channel": 2},
}


def enumerated(gamma, duration, *, label="side", stereo_click=False, noise=0.0, neurons_per_channel=10):
    """The accuracy of the likelier answer, summed over all sequences of heard clicks."""
    steps = round(duration / 0.01) - stereo_click
    false_click = (noise * 0.01) ** neurons_per_channel
    odds = [0.4 / (1 + math.exp(-side)) for side in (gamma, -gamma)]
    right, left = (p + (1 - p) * false_click * (label == "side") for p in odds)

    def chance(heard, first, second):
        factors = [
            (p if clicked else 1 - p) for pair in heard for clicked, p in zip(pair, (first, second), strict=True)
        ]
        return math.prod(factors)

    total = 0.0
    for heard in itertools.product(itertools.product((0, 1), repeat=2), repeat=steps):
        truly_right, truly_left = chance(heard, right, left), chance(heard, left, right)
        if label == "side":
            total += max(truly_right, truly_left) / 2
        else:  # which side had more is in plain sight; a tie's answer is a coin as far as the clicks tell
            difference = sum(first - second for first, second in heard)
            total += (truly_right + truly_left) / 2 * (1.0 if difference else 0.5)
    return total


@pytest.mark.parametrize("kind", KINDS)
def test_it_agrees_with_every_sequence_there_can_be(kind):
    task = PoissonClicks(**KINDS[kind])
    computed = task.ideal_accuracy(GAMMA[:, None], DURATION)
    for at, gamma in enumerate(GAMMA.tolist()):
        for place, duration in enumerate(DURATION.tolist()):
            assert float(computed[at, place]) == pytest.approx(enumerated(gamma, duration, **KINDS[kind]), abs=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_it_agrees_with_counting_simulated_clicks(kind):
    count = 3000
    task = PoissonClicks(gamma=[0.5, 1.5], duration=[0.1, 0.4], delay=0.0, batch_size=count, **KINDS[kind])
    batch = task.train_batch(0)
    each = task.neurons_per_channel
    xs = batch.xs[: task.stimulus_steps].dense()
    step = torch.arange(task.stimulus_steps)[:, None]
    on = step >= task.stimulus_steps - torch.round(batch.conditions["duration"] / task.dt)
    left, right = ((xs[..., side * each : (side + 1) * each].amin(dim=-1) * on).sum(dim=0).double() for side in (0, 1))
    if task.label == "count":
        left, right = batch.conditions["clicks_left"].double(), batch.conditions["clicks_right"].double()
    says_right = (right > left).double() + (right == left).double() / 2
    correct = torch.where(batch.target == 1, says_right, 1 - says_right)
    ideal = task.ideal_accuracy(batch.conditions["gamma"], batch.conditions["duration"])
    assert float(correct.mean()) == pytest.approx(float(ideal.mean()), abs=4 * float(correct.std()) / math.sqrt(count))


def test_the_summary_averages_it_over_the_trials_and_compares():
    task = PoissonClicks(gamma=[0.5, 1.5], duration=[0.1, 0.4], batch_size=50)
    batch = task.train_batch(0)
    trials = task.score(torch.nn.functional.one_hot(batch.target, 2).float(), batch)
    expected = float(task.ideal_accuracy(trials["gamma"], trials["duration"]).mean())
    assert task.summary(trials) == {
        "ideal_accuracy": pytest.approx(expected),
        "of_ideal": pytest.approx(1 / expected),
    }


def test_the_sign_of_gamma_does_not_matter_and_nothing_to_tell_is_chance():
    task = PoissonClicks()
    assert torch.equal(task.ideal_accuracy(-GAMMA, DURATION), task.ideal_accuracy(GAMMA, DURATION))
    assert float(task.ideal_accuracy(torch.tensor(0.0), torch.tensor(1.0))) == pytest.approx(0.5, abs=1e-12)


def test_more_evidence_is_never_worse():
    task = PoissonClicks()
    longer = task.ideal_accuracy(torch.tensor(0.5), torch.arange(1, 120) / 100.0)
    steeper = task.ideal_accuracy(torch.linspace(0, 3, 50), torch.tensor(0.5))
    assert bool((longer.diff() > -1e-12).all()) and bool((steeper.diff() > 0).all())
    assert 0.5 < float(longer[0]) < float(longer[-1]) < 1


def test_whole_trains_of_minutes_do_not_overflow():
    task = PoissonClicks()
    accuracy = task.ideal_accuracy(torch.tensor([0.0, 0.05, 3.0]), torch.tensor(120.0))
    assert bool(torch.isfinite(accuracy).all())
    assert accuracy[0] < accuracy[1] < accuracy[2] <= 1 + 1e-9
