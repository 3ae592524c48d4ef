"""Patterns: the rates of inputs, the output bits of each pattern, and the score of a recall."""

import pytest
import torch

from tracetorch.tasks import Patterns


def make(**changes):
    return Patterns(**{"patterns": 6, "inputs": 40, "outputs": 8, "steps": 200, "batch_size": 12} | changes)


def test_active_inputs_fire_at_the_rate_and_others_at_the_background():
    task = make(rate=0.5, background=0.1)
    assert task.rates.unique().tolist() == pytest.approx([0.1, 0.5])
    assert 0.3 < float((task.rates > 0.3).float().mean()) < 0.7
    batch = task.train_batch(0)
    xs, on = batch.xs.dense(), task.rates[batch.conditions["pattern"]] > 0.3
    fired = xs.mean(dim=0)
    assert float(fired[on].mean()) == pytest.approx(0.5, abs=4 * 0.5 / (200 * int(on.sum())) ** 0.5)
    assert float(fired[~on].mean()) == pytest.approx(0.1, abs=4 * 0.3 / (200 * int((~on).sum())) ** 0.5)
    assert not torch.equal(xs[:, 0], xs[:, 6])  # the same pattern


def test_patterns_come_in_turn_and_keep_their_bits():
    task, other = make(batch_size=4), make(seed=2)
    batches = [task.train_batch(number) for number in range(3)]
    assert torch.cat([batch.conditions["pattern"] for batch in batches]).tolist() == [0, 1, 2, 3, 4, 5] * 2
    assert torch.equal(batches[1].target, task.bits[[4, 5, 0, 1]]) and task.bits.unique().tolist() == [0, 1]
    assert 0.25 < float(task.bits.mean()) < 0.75
    assert not torch.equal(task.rates, other.rates) and not torch.equal(task.bits, other.bits)
    for split in ("validation", "test"):
        shown = torch.cat([batch.conditions["pattern"] for batch in make(repeats=3).eval_batches(split)])
        assert torch.bincount(shown).tolist() == [3] * 6


def test_accuracy_counts_bits_and_recalled_counts_whole_patterns():
    task = make(batch_size=4)
    batch = task.train_batch(0)
    output = batch.target.clone()
    output[1, 3] = 1 - output[1, 3]
    trials = task.score(output, batch)
    assert trials["accuracy"].tolist() == [1.0, 7 / 8, 1.0, 1.0] and trials["recalled"].tolist() == [1, 0, 1, 1]
    dots = task.figures(trials)["recall"].axes[0].lines[0]
    assert sorted(dots.get_ydata()) == [0, 0, 7 / 8, 1, 1, 1]  # of all patterns; two were not shown
