"""Clicks with delays that differ, up to 100 s: what is silent, what is counted, and what it costs."""

import gc
import hashlib
import math

import pytest
import torch

from tracetorch import backends
from tracetorch.tasks import PoissonClicks

EACH = 2
LOUD = {"gamma": [0.0], "duration": [0.1, 0.3], "total_rate": 90.0, "stereo_click": True, "neurons_per_channel": EACH}


def test_one_delay_gives_the_trials_that_it_always_gave():
    batch = PoissonClicks().train_batch(0)
    content = batch.xs.dense().to(torch.uint8).numpy().tobytes() + batch.target.numpy().tobytes()
    assert hashlib.sha256(content).hexdigest()[:16] == "6e2c387b1e1e6a84"
    listed = PoissonClicks(delay=[0.4]).train_batch(0)
    assert torch.equal(listed.xs.dense(), batch.xs.dense())
    assert torch.equal(batch.conditions["delay"], torch.full((64,), 40) * 0.01)


@pytest.mark.parametrize("delay", [[0.0, 1.0, 3.0], "0.5..2.5"], ids=str)
def test_a_stimulus_ends_its_delay_before_the_cue_and_the_cue_comes_at_one_time(delay):
    task = PoissonClicks(delay=delay, cue_rate=100.0, batch_size=300, **LOUD)
    batch = task.train_batch(0)
    xs = batch.xs.dense()
    longest = 300 if isinstance(delay, list) else 250
    assert (task.steps, task.cue_from, task.delay_steps) == (30 + longest + 10, 30 + longest, longest)
    pause, bins = (torch.round(batch.conditions[name] / 0.01) for name in ("delay", "duration"))
    step = torch.arange(task.steps)[:, None]
    end = task.cue_from - pause
    on = (step >= end - bins) & (step < end)
    sides, cue = xs[..., : 2 * EACH].sum(dim=-1), xs[..., 2 * EACH :]
    assert float(sides[~on].sum()) == 0
    first = (sides > 0).long().argmax(dim=0)  # the stereo click opens every stimulus
    assert torch.equal(first, (end - bins).long())
    last = task.steps - 1 - (sides > 0).flip(0).long().argmax(dim=0)
    late = (end - 1 == last).float().mean()  # .45 on each side: the last step has a click in 1 − .55² of the trials
    assert float(late) == pytest.approx(1 - 0.55**2, abs=4 * 0.5 / math.sqrt(300))
    assert float(cue[: task.cue_from].sum()) == 0 and float(cue[task.cue_from :].min()) == 1


def test_a_list_of_delays_is_drawn_from_evenly_and_a_range_is_covered():
    small = {"neurons_per_channel": 1, "duration": [0.1], "batch_size": 1000}
    listed = PoissonClicks(delay=[1.0, 2.5], **small).train_batch(0).conditions["delay"]
    assert sorted(set(listed.tolist())) == [1.0, 2.5]
    assert float((listed == 1).float().mean()) == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(1000))
    ranged = PoissonClicks(delay="1..3", **small).train_batch(0).conditions["delay"]
    assert 1.0 <= float(ranged.min()) < 1.02 and 2.98 < float(ranged.max()) <= 3.0 + 1e-6
    assert float(ranged.mean()) == pytest.approx(2.0, abs=4 * 2 / math.sqrt(12 * 1000))


@pytest.mark.parametrize("noise", [0.0, 2.0])
def test_counts_are_those_of_the_spikes_however_far_apart_the_stimuli_are(noise):
    task = PoissonClicks(delay="0..40", gamma=[1.0], neurons_per_channel=8, noise=noise, batch_size=20)
    batch = task.train_batch(1)
    spikes = batch.xs.dense().view(task.steps, 20, 3, 8)
    clicks = spikes.amin(dim=-1).sum(dim=0)  # all eight at once is a click: noise does that in 1 step of 10¹³
    assert torch.equal(clicks[:, 0], batch.conditions["clicks_left"].float())
    assert torch.equal(clicks[:, 1], batch.conditions["clicks_right"].float())
    assert int(clicks.sum()) > 0


@pytest.mark.parametrize("noise", [0.0, 5.0])
def test_it_does_not_matter_how_time_or_the_batch_is_cut(noise):
    given = {"delay": [0.5, 4.0], "neurons_per_channel": 2, "noise": noise}
    batch = PoissonClicks(batch_size=6, **given).train_batch(0)
    whole = batch.xs.dense()
    for size in (7, 100, 333):
        assert torch.equal(torch.cat(list(batch.xs.chunks(size))), whole)
    halves = [PoissonClicks(batch_size=3, **given).train_batch(number).xs.dense() for number in (0, 1)]
    assert torch.equal(torch.cat(halves, dim=1), whole)


def test_silence_is_not_drawn(monkeypatch):
    task = PoissonClicks(delay=100.0, batch_size=2)
    batch = task.train_batch(0)
    monkeypatch.setattr(backends, "bernoulli", lambda *_: pytest.fail("drawn"))
    silence = list(batch.xs[task.stimulus_steps : task.cue_from].chunks(1000))
    assert len(silence) == 10 and not any(bool(chunk.any()) for chunk in silence)


def test_a_trial_of_100_seconds_is_made_piece_by_piece_and_nothing_of_it_is_kept(monkeypatch):
    def held():
        gc.collect()
        return sum(thing.numel() for thing in gc.get_objects() if issubclass(type(thing), torch.Tensor))

    drawn, draw = [], backends.bernoulli

    def record(probability, seed, steps, samples):
        drawn.append(len(steps))
        return draw(probability, seed, steps, samples)

    monkeypatch.setattr(backends, "bernoulli", record)
    task, before = PoissonClicks(delay="1..100", batch_size=4), held()
    batch = task.train_batch(0)
    for chunk in batch.xs.chunks(500):
        assert len(chunk) <= 500
    del chunk
    assert 0 < held() - before < 200
    assert sum(drawn) > task.steps > 10_000 and max(drawn) <= 1024


def test_accuracy_over_delays_is_drawn_where_they_differ():
    for delay, drawn in ((0.2, False), ([0.2], False), ([0.2, 0.4], True), ("0.2..0.4", True)):
        task = PoissonClicks(delay=delay, duration=[0.1], batch_size=50)
        batch = task.train_batch(0)
        figures = task.figures(task.score(torch.nn.functional.one_hot(batch.target, 2).float(), batch))
        assert ("delay" in figures) is drawn


def test_the_example_is_marked_with_its_own_delay():
    task = PoissonClicks(delay=[0.0, 2.0], duration=[0.2])
    batch, marks = task.example()
    stop = task.cue_from - round(float(batch.conditions["delay"]) / 0.01)
    wanted = {"clicks": (stop - 20, stop), "cue": (task.cue_from, task.steps)}
    assert marks == wanted | ({"delay": (stop, task.cue_from)} if stop < task.cue_from else {})


@pytest.mark.parametrize(
    ("delay", "phrase"),
    [
        ("1..", "delay must be a number, a list of numbers or a range such as .*, none below 0, got '1..'"),
        ("long", "delay must be a number, a list of numbers or a range such as"),
        ([], "delay must be a number, a list"),
        ([1.0, -1.0], "delay must be .* none below 0"),
        ([math.nan], "delay must be"),
        ("1..inf", "delay must be"),
        (-1.0, "delay must be at least 0, got -1"),
    ],
    ids=str,
)
def test_what_is_no_delay_is_refused(delay, phrase):
    with pytest.raises(ValueError, match=phrase):
        PoissonClicks(delay=delay)
