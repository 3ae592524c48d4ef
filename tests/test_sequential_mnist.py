"""Digits part by part: what comes when, through which neurons, in which order."""

import pytest
import torch

from tracetorch.tasks import MNIST, SequentialMNIST, mnist_source

STEADY = {"encoding": "constant", "batch_size": 6}


def images(batch):
    """The digits of a training batch as they are, (batch, 784), from 0 to 1."""
    return mnist_source.load("sample").train_images[batch.conditions["digit"]].flatten(1).float() / 255


@pytest.mark.parametrize(
    ("changes", "sizes"),
    [
        ({}, (28 * 4, 28, 4)),
        ({"steps_per_part": 2, "levels": 3}, (28 * 2, 84, 2)),
        ({"by": "pixels"}, (784 * 4, 1, 4)),
        ({"by": "pixels", "steps_per_part": 1, "levels": 8}, (784, 8, 1)),
    ],
    ids=str,
)
def test_the_sizes_are_those_of_its_parts(changes, sizes):
    task = SequentialMNIST(**changes)
    assert (task.steps, task.input_size, task.readout_window) == sizes


@pytest.mark.parametrize(("by", "width"), [("rows", 28), ("pixels", 1)])
def test_every_part_is_shown_for_its_steps_and_one_after_another(by, width):
    task = SequentialMNIST(by=by, steps_per_part=3, max_rate=0.5, **STEADY)
    batch = task.train_batch(2)
    parts = images(batch).view(6, -1, width).transpose(0, 1) * 0.5
    assert torch.equal(batch.xs.dense(), parts.repeat_interleave(3, dim=0))


def test_white_always_fires_and_black_never_and_what_lies_between_at_its_rate():
    task = SequentialMNIST(steps_per_part=200, batch_size=6)
    batch = task.train_batch(0)
    fired = batch.xs.dense().view(28, 200, 6, 28).mean(dim=1).transpose(0, 1).flatten(1)
    wanted = images(batch)
    assert float(fired[wanted == 1].min()) == 1 and float(fired[wanted == 0].max()) == 0
    assert float((fired - wanted).abs().max()) < 5 * 0.5 / 200**0.5
    assert float((fired - wanted).mean()) == pytest.approx(0, abs=4 * 0.5 / (200 * wanted.numel()) ** 0.5)


def test_the_digits_come_in_the_order_of_mnist_with_their_labels():
    sequential, whole = (make(validation_digits=30, batch_size=50, seed=3) for make in (SequentialMNIST, MNIST))
    assert sequential.batches_per_pass == whole.batches_per_pass
    for number in (0, 7, sequential.batches_per_pass + 1):
        one, other = sequential.train_batch(number), whole.train_batch(number)
        assert torch.equal(one.conditions["digit"], other.conditions["digit"])
        assert torch.equal(one.target, other.target)
    for split in ("validation", "test"):
        assert [len(batch.target) for batch in sequential.eval_batches(split)] == [
            len(batch.target) for batch in whole.eval_batches(split)
        ]


def test_a_digit_has_the_same_spikes_in_whatever_batch():
    large, small = (SequentialMNIST(batch_size=size, levels=2) for size in (40, 10))
    one, other = large.train_batch(0), small.train_batch(3)
    assert torch.equal(one.conditions["digit"][30:], other.conditions["digit"])
    assert torch.equal(one.xs.dense()[:, 30:], other.xs.dense())


# ── order ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_only_order_tells_a_digit_from_its_permutation():
    fixed, permuted = (
        SequentialMNIST(by="pixels", order=order, steps_per_part=1, **STEADY).train_batch(0).xs.dense()[..., 0].t()
        for order in ("fixed", "permuted")
    )
    assert not torch.equal(fixed, permuted)
    assert torch.equal(fixed.sort(dim=-1).values, permuted.sort(dim=-1).values)


def test_the_permutation_is_the_same_for_every_digit_seed_and_way_of_cutting():
    pixels, rows = (SequentialMNIST(by=by, order="permuted", seed=seed) for by, seed in (("pixels", 0), ("rows", 5)))
    assert torch.equal(pixels.order, rows.order)
    assert sorted(rows.order.tolist()) == list(range(784))
    assert rows.order[:6].tolist() == [567, 46, 568, 627, 164, 235]  # else no result compares with an earlier one
    batch = SequentialMNIST(order="permuted", steps_per_part=1, **STEADY).train_batch(0)
    assert torch.equal(batch.xs.dense().transpose(0, 1).flatten(1), images(batch)[:, rows.order])


# ── the population code ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("by", ["rows", "pixels"])
@pytest.mark.parametrize("levels", [2, 5])
def test_levels_tell_the_brightness_and_their_rates_add_up(by, levels):
    task = SequentialMNIST(by=by, levels=levels, steps_per_part=1, max_rate=0.5, **STEADY)
    batch = task.train_batch(0)
    rates = batch.xs.dense().unflatten(-1, (-1, levels)).transpose(0, 1).flatten(1, 2)  # (batch, pixels, levels)
    assert torch.allclose(rates.sum(dim=-1), torch.tensor(0.5))
    assert int((rates > 0).sum(dim=-1).max()) <= 2
    brightness = torch.linspace(0, 1, levels)
    assert torch.allclose(rates @ brightness / 0.5, images(batch), atol=1e-6)


def test_darkness_is_told_by_a_neuron_of_its_own():
    task = SequentialMNIST(by="pixels", levels=3, steps_per_part=1, **STEADY)
    batch = task.train_batch(0)
    rates, wanted = batch.xs.dense().transpose(0, 1), images(batch)
    assert torch.equal(rates[wanted == 0], torch.tensor([1.0, 0, 0]).expand(int((wanted == 0).sum()), 3))
    assert torch.equal(rates[wanted == 1], torch.tensor([0, 0, 1.0]).expand(int((wanted == 1).sum()), 3))


# ── values ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("given", "phrase"),
    [
        ({"by": "columns"}, "by must be one of rows, pixels, got 'columns'"),
        ({"order": "random"}, "order must be one of fixed, permuted, got 'random'"),
        ({"encoding": "latency"}, "encoding must be one of poisson, constant, got 'latency'"),
        ({"steps_per_part": 0}, "steps_per_part must be at least 1, got 0"),
        ({"levels": 0}, "levels must be at least 1, got 0"),
        ({"max_rate": 0.0}, "max_rate must be above 0 and at most 1 spike per step, got 0"),
        ({"max_rate": float("nan")}, "max_rate must be above 0"),
        ({"batch_size": 1001}, "batch_size is at most the 1,000 training digits, got 1001"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"validation_digits": 1000}, "validation_digits must leave some of the 1,000 training digits"),
    ],
    ids=str,
)
def test_values_that_make_no_task_are_refused(given, phrase):
    with pytest.raises(ValueError, match=phrase):
        SequentialMNIST(**given)


def test_a_folder_that_is_not_there_is_told():
    with pytest.raises(FileNotFoundError, match="source=nowhere: there is no such folder"):
        SequentialMNIST(source="nowhere")
