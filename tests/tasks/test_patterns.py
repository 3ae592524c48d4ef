"""Patterns: what is on and off, which bits belong to it, and how a recall is judged."""

import pytest
import torch

from tracetorch.tasks import Patterns


def make(**changes):
    return Patterns(**{"patterns": 6, "inputs": 40, "outputs": 8, "steps": 200, "batch_size": 4} | changes)


def test_inputs_that_are_on_fire_at_the_rate_and_the_others_at_the_background():
    task = make(rate=0.5, background=0.1)
    assert task.rates.unique().tolist() == pytest.approx([0.1, 0.5])
    assert 0.3 < float((task.rates > 0.3).float().mean()) < 0.7
    batch = task.train_batch(0)
    fired = batch.xs.dense().mean(dim=0)
    on = task.rates[batch.conditions["pattern"]] > 0.3
    assert float(fired[on].mean()) == pytest.approx(0.5, abs=4 * 0.5 / (200 * int(on.sum())) ** 0.5)
    assert float(fired[~on].mean()) == pytest.approx(0.1, abs=4 * 0.3 / (200 * int((~on).sum())) ** 0.5)


def test_patterns_are_taken_in_turn_and_each_keeps_its_bits():
    task = make()
    shown = torch.cat([task.train_batch(number).conditions["pattern"] for number in range(3)])
    assert shown.tolist() == [0, 1, 2, 3, 4, 5] * 2
    batch = task.train_batch(1)
    assert torch.equal(batch.target, task.bits[batch.conditions["pattern"]])
    assert set(task.bits.unique().tolist()) == {0.0, 1.0}


def test_another_seed_gives_other_patterns_and_other_bits():
    one, other = make(seed=1), make(seed=2)
    assert not torch.equal(one.rates, other.rates)
    assert not torch.equal(one.bits, other.bits)


def test_a_pattern_has_fresh_spikes_whenever_it_is_shown():
    task = make(batch_size=12)
    xs = task.train_batch(0).xs.dense()
    assert not torch.equal(xs[:, 0], xs[:, 6])


@pytest.mark.parametrize("split", ["validation", "test"])
def test_held_out_trials_show_every_pattern_so_many_times(split):
    shown = torch.cat([batch.conditions["pattern"] for batch in make(repeats=3).eval_batches(split)])
    assert torch.bincount(shown).tolist() == [3] * 6


def test_accuracy_counts_bits_and_recalled_counts_whole_patterns():
    task = make()
    batch = task.train_batch(0)
    output = batch.target.clone()
    output[1, 3] = 1 - output[1, 3]
    trials = task.score(output, batch)
    assert trials["accuracy"].tolist() == [1.0, 7 / 8, 1.0, 1.0]
    assert trials["recalled"].tolist() == [1.0, 0.0, 1.0, 1.0]
    assert task.summary(trials) == {"recalled": 0.75}


@pytest.mark.parametrize(
    ("given", "phrase"),
    [
        ({"patterns": 0}, "patterns must be at least 1, got 0"),
        ({"inputs": 0}, "inputs must be at least 1"),
        ({"outputs": -1}, "outputs must be at least 1, got -1"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"repeats": 0}, "repeats must be at least 1"),
        ({"rate": 0.1, "background": 0.2}, "rates must satisfy 0 ≤ background ≤ rate ≤ 1, got 0.2 and 0.1"),
        ({"rate": 1.5}, "rates must satisfy"),
        ({"background": -0.1}, "rates must satisfy"),
        ({"rate": float("nan")}, "rates must satisfy"),
        ({"encoding": "rate"}, "encoding must be one of poisson, latency, constant, got 'rate'"),
    ],
    ids=str,
)
def test_values_that_make_no_pattern_are_refused(given, phrase):
    with pytest.raises(ValueError, match=phrase):
        Patterns(**given)
