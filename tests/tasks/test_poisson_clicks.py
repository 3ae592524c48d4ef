"""Poisson clicks: rates, the layout of a trial, its memory, and the ideal observer."""

import gc
import math

import numpy as np
import pytest
import torch
from scipy.stats import binom

from tracetorch.tasks import PoissonClicks

NEURONS = 4


def trials(count=400, **changes):
    """Return a task with one γ and one duration, a batch of it, and the batch's spikes."""
    given = {"gamma": [1.0], "duration": [0.5], "delay": 0.1, "neurons_per_channel": NEURONS, "batch_size": count}
    task = PoissonClicks(**given | changes)
    batch = task.train_batch(0)
    return task, batch, batch.xs.dense()


def near(draws, chance):
    """Whether the mean of yes-or-no draws lies within four standard errors of its expectation."""
    error = (chance * (1 - chance) / draws.numel()) ** 0.5
    return float(draws.float().mean()) == pytest.approx(chance, abs=4 * error)


@pytest.mark.parametrize(("gamma", "total_rate"), [(0.0, 60.0), (0.5, 20.0), (3.0, 60.0)])
def test_clicks_have_the_rates_of_the_equations(gamma, total_rate):
    _, batch, xs = trials(2000, gamma=[gamma], total_rate=total_rate)
    right = batch.target == 1  # with γ = 0 the rates are equal, and so are the chances of both labels
    assert near(right, 0.5) and torch.equal(batch.conditions["gamma"].abs(), torch.full((2000,), gamma))
    assert gamma == 0 or torch.equal(right, batch.conditions["gamma"] > 0)
    sides = xs[:50, :, : 2 * NEURONS].unflatten(-1, (2, NEURONS))
    assert torch.equal(sides, sides[..., :1].expand_as(sides))  # a click makes all neurons of its side fire
    for side, name in enumerate(("clicks_left", "clicks_right")):
        assert torch.equal(sides[:, :, side, 0].sum(dim=0), batch.conditions[name].float())
        for is_right in (False, True):
            rate = total_rate / (1 + math.exp(-gamma if side == is_right else gamma))
            assert near(sides[:, right == is_right, side, 0], rate * 0.01)


def test_the_label_count_is_the_side_with_more_clicks_or_the_higher_rate():
    _, batch, _ = trials(2000, label="count", gamma=[0.25], duration=[0.2])
    left, right = batch.conditions["clicks_left"], batch.conditions["clicks_right"]
    expected = torch.where(left == right, batch.conditions["gamma"] > 0, right > left)
    assert torch.equal(batch.target == 1, expected) and near(expected, 0.5)
    assert 100 < int((left == right).sum()) < 1900
    assert bool(((batch.conditions["gamma"] > 0) != (batch.target == 1)).any())


@pytest.mark.parametrize(("delay", "longest"), [([0.0, 1.0, 3.0], 300), ("0.5..2.5", 250)], ids=str)
def test_the_delay_lies_between_the_stimulus_and_the_cue(delay, longest):
    given = {"gamma": [0.0], "duration": [0.1, 0.3], "total_rate": 90.0, "stereo_click": True, "cue_rate": 50.0}
    task, batch, xs = trials(300, delay=delay, cue=0.2, **given)
    sizes = (task.steps, task.cue_from, task.delay_steps, task.readout_window)
    assert sizes == (30 + longest + 20, 30 + longest, longest, 20)
    pause, bins = (torch.round(batch.conditions[name] / 0.01) for name in ("delay", "duration"))
    step, end = torch.arange(task.steps)[:, None], task.cue_from - pause
    sides, cue = xs[..., : 2 * NEURONS].sum(dim=-1), xs[..., 2 * NEURONS :]
    assert float(sides[~((step >= end - bins) & (step < end))].sum()) == 0
    begin = (sides > 0).long().argmax(dim=0)
    assert torch.equal(begin, (end - bins).long())  # the stereo click opens every stimulus
    assert float(sides[begin, torch.arange(300)].min()) == 2 * NEURONS
    last = task.steps - 1 - (sides > 0).flip(0).long().argmax(dim=0)
    assert near(end - 1 == last, 1 - 0.55**2)  # .45 on each side
    assert float(cue[: task.cue_from].sum()) == 0 and near(cue[task.cue_from :], 0.5)
    assert not torch.equal(cue[..., 0], cue[..., 1])


def test_noise_is_independent_in_each_neuron_of_the_sides():
    task, _, xs = trials(noise=20.0, total_rate=0.0, cue_rate=0.0)
    noise = xs[..., : 2 * NEURONS]
    assert near(noise[: task.stimulus_steps], 0.2) and near(noise[task.stimulus_steps :], 0.2)
    assert not torch.equal(noise[..., 0], noise[..., 1]) and float(xs[..., 2 * NEURONS :].sum()) == 0
    _, _, xs = trials(20, gamma=[0.0], duration=[0.01], stereo_click=True, cue_rate=0.0)  # a stimulus of one bin
    assert (xs.sum(dim=-1) > 0).sum(dim=0).tolist() == [1] * 20


@pytest.mark.parametrize("name", ["gamma", "duration", "delay"])
def test_values_of_a_list_are_equally_likely_and_a_range_is_uniform(name):
    values = trials(1000, **{name: [0.25, 0.5]})[1].conditions[name].abs()
    assert sorted(set(values.tolist())) == pytest.approx([0.25, 0.5]) and near(values > 0.3, 0.5)
    values = trials(1000, **{name: "0.1..1.1"})[1].conditions[name].abs().double()
    assert 0.1 - 1e-6 <= float(values.min()) < 0.12 and 1.08 < float(values.max()) <= 1.1 + 1e-6
    assert float(values.mean()) == pytest.approx(0.6, abs=4 * math.sqrt(1 / 12 / 1000))


@pytest.mark.parametrize("noise", [0.0, 2.0])
def test_the_counts_are_those_of_the_spikes(noise):
    task, batch, xs = trials(20, delay="0..40", duration=[0.4, 1.0], neurons_per_channel=8, noise=noise)
    clicks = (
        xs.view(task.steps, 20, 3, 8).amin(dim=-1).sum(dim=0)
    )  # all eight neurons fire; by noise alone, in 1 step of 10¹³
    assert torch.equal(clicks[:, 0], batch.conditions["clicks_left"].float())
    assert torch.equal(clicks[:, 1], batch.conditions["clicks_right"].float()) and int(clicks.sum()) > 0
    assert torch.equal(torch.cat(list(batch.xs.chunks(333))), xs)


def test_a_trial_of_100_seconds_is_drawn_chunk_by_chunk_and_not_kept():
    def held():
        gc.collect()
        return sum(thing.numel() for thing in gc.get_objects() if issubclass(type(thing), torch.Tensor))

    task, before = PoissonClicks(delay="1..100", batch_size=4), held()
    batch = task.train_batch(0)
    assert all(len(chunk) <= 500 for chunk in batch.xs.chunks(500))
    assert 0 < held() - before < 200
    assert task.steps > 10_000


def test_figures_have_the_ideal_observer_and_different_delays_and_the_example_has_marks():
    for delay, drawn in ((0.2, False), ([0.2], False), ("0.2..0.4", True)):
        task, batch, _ = trials(50, delay=delay, gamma=[0.5, 2.0])
        figures = task.figures(task.score(torch.nn.functional.one_hot(batch.target, 2).float(), batch))
        assert ("delay" in figures) is drawn and {"psychometric", "accuracy_map"} <= set(figures)
    (curve,) = (line.get_ydata() for line in figures["psychometric"].axes[0].lines if len(line.get_ydata()) == 61)
    other, best = task.ideal_accuracy(torch.tensor([0.5, 2.0]), torch.tensor(0.5)).tolist()
    assert [curve[0], curve[30], curve[60]] == pytest.approx([1 - best, 0.5, best])
    network, ideal = figures["accuracy_map"].axes[:2]
    ticks = [[label.get_text() for label in axis.get_ticklabels()] for axis in (network.xaxis, network.yaxis)]
    assert ticks == [["0.5"], ["0.5", "2"]] and network.images[0].get_array().tolist() == [[100], [100]]
    assert ideal.images[0].get_array().ravel().tolist() == pytest.approx([100 * other, 100 * best])
    (axes,) = figures["delay"].axes
    points, delays = axes.containers[0].lines[0].get_xydata(), batch.conditions["delay"].unique()
    assert points[:, 0] == pytest.approx(delays.numpy()) and (points[:, 1] == 1).all()
    assert axes.get_xlabel() == "delay (s)" and "ideal observer" in [line.get_label() for line in axes.lines]
    long, none = (PoissonClicks(delay=delay, duration=[0.2]).example()[1] for delay in (2.0, 0.0))
    assert long == {"clicks": (0, 20), "delay": (20, 220), "cue": (220, 230)}
    assert none == {"clicks": (0, 20), "cue": (20, 30)}


def exact(gamma, duration, *, label="side", stereo_click=False, noise=0.0, neurons_per_channel=10):
    """The accuracy of an observer that counts clicks, from the joint distribution of both counts."""
    steps, count = round(duration / 0.01) - stereo_click, range(round(duration / 0.01) + 1)
    false_click = (noise * 0.01) ** neurons_per_channel * (label == "side")
    odds = [1 - (1 - 0.4 / (1 + math.exp(-side))) * (1 - false_click) for side in (gamma, -gamma)]
    joint = np.outer(*(binom.pmf(count, steps, p) for p in odds))  # (right, left)
    return 1 - np.trace(joint) / 2 if label == "count" else np.tril(joint, -1).sum() + np.trace(joint) / 2


@pytest.mark.parametrize(
    "kind",
    [
        {},
        {"label": "count", "stereo_click": True, "noise": 40.0, "neurons_per_channel": 2},
        {"noise": 20.0, "neurons_per_channel": 1, "stereo_click": True},
        {"noise": 40.0, "neurons_per_channel": 2},
    ],
    ids=str,
)
def test_the_ideal_observer_has_the_accuracy_of_counting_clicks(kind):
    task, gamma, duration = PoissonClicks(**kind), torch.tensor([0.25, 1.0, 2.0]), torch.tensor([0.02, 0.05, 1.0])
    wanted = [[exact(g, d, **kind) for d in duration.tolist()] for g in gamma.tolist()]
    np.testing.assert_allclose(task.ideal_accuracy(-gamma[:, None], duration), wanted, atol=1e-9)


def test_the_summary_compares_with_the_ideal_observer():
    task, duration = PoissonClicks(), torch.tensor([0.5, 120.0, 120.0, 120.0])
    gamma = torch.tensor([-1.0, 0.0, 0.05, 3.0])
    some, chance, more, most = task.ideal_accuracy(gamma, duration).tolist()
    assert chance == pytest.approx(0.5, abs=1e-9) and 0.5 < more < most <= 1 + 1e-9
    ideal = (some + chance + more + most) / 4
    columns = {"gamma": gamma, "duration": duration, "accuracy": torch.tensor([1.0, 0, 1, 1])}
    assert task.summary(columns) == pytest.approx({"ideal_accuracy": ideal, "of_ideal": 0.75 / ideal})
