"""Poisson clicks: the rates that were asked for, the layout of a trial, and every value that makes no trial."""

import math

import pytest
import torch

from tracetorch.tasks import PoissonClicks

EACH = 4
NOTHING = {"delay": 0.1, "cue": 0.1, "neurons_per_channel": EACH}


def trials(count=400, **changes):
    """A task of one γ and one duration, and a batch of it: (task, batch, spikes)."""
    given = {"gamma": [1.0], "duration": [0.5], "batch_size": count, **NOTHING} | changes
    task = PoissonClicks(**given)
    batch = task.train_batch(0)
    return task, batch, batch.xs.dense()


def near(mean, expected, count, errors=4.0):
    """Whether the mean of so many yes-or-no draws lies within four standard errors of its expectation."""
    return abs(mean - expected) < errors * math.sqrt(max(expected * (1 - expected), 1e-12) / count)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 3.0])
@pytest.mark.parametrize("total_rate", [20.0, 60.0])
def test_clicks_come_at_the_rates_that_the_equations_give(gamma, total_rate):
    _, batch, _ = trials(gamma=[gamma], total_rate=total_rate)
    sign = batch.conditions["gamma"].sign()
    steps = 50
    for side, direction in (("clicks_left", -1), ("clicks_right", 1)):
        for towards in (-1, 1) if gamma else (0,):
            chosen = batch.conditions[side][sign == towards].float()
            rate = total_rate / (1 + math.exp(-direction * towards * gamma))
            assert near(float(chosen.mean()) / steps, rate * 0.01, steps * len(chosen))


def test_the_rates_differ_by_the_exponential_of_gamma_and_add_up_to_the_total():
    _, batch, _ = trials(2000, gamma=[2.0])
    towards_right = batch.conditions["gamma"] > 0
    left, right = (batch.conditions[f"clicks_{side}"].double() for side in ("left", "right"))
    high = torch.where(towards_right, right, left).sum()
    low = torch.where(towards_right, left, right).sum()
    assert float(torch.log(high / low)) == pytest.approx(2.0, abs=4 * math.sqrt(1 / float(high) + 1 / float(low)))
    expected = 2000 * 40 * 0.5
    assert float(high + low) == pytest.approx(expected, abs=4 * math.sqrt(expected))


def test_both_sides_are_right_equally_often():
    _, batch, _ = trials(2000)
    assert near(float(batch.target.float().mean()), 0.5, 2000)
    assert torch.equal(batch.target == 1, batch.conditions["gamma"] > 0)


def test_the_counts_are_those_of_the_spikes():
    _, batch, xs = trials(gamma=[0.5])
    left, right = xs[:, :, 0].sum(dim=0), xs[:, :, EACH].sum(dim=0)
    assert torch.equal(left, batch.conditions["clicks_left"].float())
    assert torch.equal(right, batch.conditions["clicks_right"].float())


def test_a_click_makes_all_neurons_of_its_side_fire():
    _, _, xs = trials()
    for first in (0, EACH):
        side = xs[:, :, first : first + EACH]
        assert torch.equal(side, side[..., :1].expand_as(side))
    assert not torch.equal(xs[..., 0], xs[..., EACH])


def test_the_label_count_asks_for_more_clicks_and_a_tie_goes_to_the_higher_rate():
    _, batch, _ = trials(2000, label="count", gamma=[0.25], duration=[0.2])
    left, right = batch.conditions["clicks_left"], batch.conditions["clicks_right"]
    expected = torch.where(left == right, batch.conditions["gamma"] > 0, right > left)
    assert torch.equal(batch.target == 1, expected)
    assert 100 < int((left == right).sum()) < 1900
    assert bool(((batch.conditions["gamma"] > 0) != (batch.target == 1)).any())


def test_stimuli_of_all_durations_end_together_and_start_when_they_should():
    task, batch, xs = trials(gamma=[0.0], duration=[0.1, 0.3, 0.5], total_rate=90.0, stereo_click=True)
    sides = xs[..., : 2 * EACH].sum(dim=-1)
    bins = torch.round(batch.conditions["duration"] / task.dt).long()
    assert set(bins.tolist()) == {10, 30, 50}
    first = (sides > 0).long().argmax(dim=0)  # the stereo click opens every stimulus
    assert torch.equal(first, task.stimulus_steps - bins)
    for length in (10, 30, 50):
        last = sides[task.stimulus_steps - 1, bins == length] > 0
        assert near(float(last.float().mean()), 1 - 0.55**2, len(last))


def test_the_delay_is_silent_and_only_the_cue_neurons_tell_its_end():
    task, _, xs = trials(cue_rate=50.0)
    delay, cue = task.stimulus_steps, task.stimulus_steps + task.delay_steps
    assert (delay, cue, task.steps, task.readout_window) == (50, 60, 70, 10)
    assert float(xs[delay:cue].sum()) == 0
    assert float(xs[cue:, :, : 2 * EACH].sum()) == 0
    assert float(xs[:cue, :, 2 * EACH :].sum()) == 0
    rung = xs[cue:, :, 2 * EACH :]
    assert near(float(rung.mean()), 0.5, rung.numel())
    assert not torch.equal(rung[..., 0], rung[..., 1])


def test_a_stereo_click_opens_every_stimulus_on_both_sides():
    task, batch, xs = trials(stereo_click=True, duration=[0.2, 0.5])
    first = (task.stimulus_steps - torch.round(batch.conditions["duration"] / task.dt)).long()
    assert float(xs[first, torch.arange(len(first)), : 2 * EACH].min()) == 1
    without = trials(stereo_click=False, duration=[0.2, 0.5])[2]
    assert float(without[first, torch.arange(len(first)), : 2 * EACH].mean()) < 0.5


def test_noise_fires_each_left_and_right_neuron_by_itself_all_trial_long():
    task, _, xs = trials(noise=20.0, total_rate=0.0, cue_rate=0.0)
    noise = xs[..., : 2 * EACH]
    assert near(float(noise.mean()), 0.2, noise.numel())
    for part in (noise[: task.stimulus_steps], noise[task.stimulus_steps :]):
        assert near(float(part.mean()), 0.2, part.numel())
    assert not torch.equal(noise[..., 0], noise[..., 1])
    assert float(xs[..., 2 * EACH :].sum()) == 0


@pytest.mark.parametrize("name", ["gamma", "duration"])
def test_a_list_is_drawn_from_evenly_and_a_range_is_covered(name):
    _, batch, _ = trials(1000, **{name: [0.25, 0.5]})
    values = batch.conditions[name].abs()
    assert sorted(set(values.tolist())) == pytest.approx([0.25, 0.5])
    assert near(float((values > 0.3).float().mean()), 0.5, 1000)

    _, batch, _ = trials(1000, **{name: "0.1..1.1"})
    values = batch.conditions[name].abs().double()
    assert 0.1 - 1e-6 <= float(values.min()) < 0.12
    assert 1.08 < float(values.max()) <= 1.1 + 1e-6
    assert float(values.mean()) == pytest.approx(0.6, abs=4 * math.sqrt(1 / 12 / 1000))


def test_the_marks_of_the_example_name_its_stretches_of_time():
    batch, marks = trials(duration=[0.2, 0.5])[0].example()
    begin = 50 - round(float(batch.conditions["duration"]) / 0.01)
    assert marks == {"clicks": (begin, 50), "delay": (50, 60), "cue": (60, 70)}


@pytest.mark.parametrize(
    ("given", "phrase"),
    [
        ({"gamma": []}, r"gamma must be a list of numbers or a range such as 0.1..1.2, none below 0, got \[\]"),
        ({"gamma": "steep"}, "gamma must be a list of numbers or a range such as .*, got 'steep'"),
        ({"gamma": "1..2..3"}, "gamma must be .*, got '1..2..3'"),
        ({"gamma": [-1.0]}, "gamma must be .* none below 0"),
        ({"gamma": [1.0, math.nan]}, "gamma must be"),
        ({"gamma": [math.inf]}, "gamma must be"),
        ({"duration": [0.001]}, "duration must be .* none below 0.01"),
        ({"duration": ""}, "duration must be"),
        ({"label": "sides"}, "label must be one of side, count, got 'sides'"),
        ({"total_rate": -1.0}, "total_rate must be at least 0, got -1"),
        ({"delay": math.nan}, "delay must be at least 0, got nan"),
        ({"delay": math.inf}, "delay must be"),
        ({"cue": -1.0}, "cue must be"),
        ({"cue": math.inf}, "cue must be"),
        ({"cue_rate": -1.0}, "cue_rate must be at least 0"),
        ({"noise": -1.0}, "noise must be at least 0"),
        ({"noise": 200.0}, "dt must be above 0 and short enough for at most one click in a step, got 0.01 s"),
        ({"total_rate": 101.0}, "dt must be above 0 and short enough"),
        ({"dt": 0.0}, "dt must be above 0"),
        ({"dt": math.nan}, "dt must be above 0"),
        ({"neurons_per_channel": 0}, "neurons_per_channel must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"test_trials": 0}, "test_trials must be at least 1"),
        ({"validation_trials": -1}, "validation_trials must be at least 0"),
    ],
    ids=str,
)
def test_values_that_make_no_trial_are_refused(given, phrase):
    with pytest.raises(ValueError, match=phrase):
        PoissonClicks(**given)


def test_no_validation_trials_are_fine():
    assert list(PoissonClicks(validation_trials=0).eval_batches("validation")) == []


@pytest.mark.parametrize("label", ["side", "count"])
def test_where_both_sides_are_equally_fast_each_is_right_half_of_the_time(label):
    _, batch, _ = trials(2000, gamma=[0.0], label=label)
    assert float(batch.target.double().mean()) == pytest.approx(0.5, abs=4 * 0.5 / 2000**0.5)
