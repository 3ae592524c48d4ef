"""Digits, whole and part by part: their order and splits, and the step and the neuron of each pixel."""

import pytest
import torch

from tracetorch.tasks import MNIST, SequentialMNIST, mnist_source

STEADY = {"encoding": "constant", "batch_size": 6}


def images(batch):
    """The digits of a training batch as they are, (batch, 784), from 0 to 1."""
    return mnist_source.load("sample").train_images[batch.conditions["digit"]].flatten(1).float() / 255


def test_a_pass_covers_every_digit_once_and_the_next_has_another_order_and_new_spikes():
    task = MNIST(batch_size=100, steps=2)
    assert (task.batches_per_pass, MNIST(batch_size=300).batches_per_pass) == (10, 3)  # a pass leaves out the last 100
    batches = [task.train_batch(number) for number in range(20)]
    order = torch.cat([batch.conditions["digit"] for batch in batches])
    first, second = order[:1000], order[1000:]
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(1000))
    assert not torch.equal(first, second)
    one, other = (torch.cat([b.xs.dense() for b in batches[start : start + 10]], dim=1) for start in (0, 10))
    assert not torch.equal(one[:, first.argsort()], other[:, second.argsort()])
    again = MNIST(batch_size=100, steps=2, seed=1).train_batch(11).conditions["digit"]
    assert again[:6].tolist() == [915, 728, 193, 797, 379, 799]  # in this order in every run


def test_a_batch_has_the_pixels_and_the_labels_of_its_digits():
    batch = MNIST(steps=1, max_rate=0.5, **STEADY).train_batch(5)
    assert torch.equal(batch.target, mnist_source.load("sample").train_labels[batch.conditions["digit"]].long())
    assert torch.allclose(batch.xs.dense()[0], images(batch) * 0.5)


def test_with_latency_the_largest_rate_is_the_time_of_a_white_pixel():
    made = MNIST(steps=9, max_rate=0.75, encoding="latency", batch_size=4).train_batch(0)
    white = images(made) == 1
    assert made.xs.dense().argmax(dim=0)[white].unique().tolist() == [2]


def test_validation_digits_are_the_last_and_are_not_in_training_batches():
    task = MNIST(batch_size=50, steps=1, validation_digits=200)
    shown = torch.cat([task.train_batch(number).conditions["digit"] for number in range(2 * task.batches_per_pass)])
    assert int(shown.max()) == 799
    validation, test = (list(task.eval_batches(split)) for split in ("validation", "test"))
    assert torch.equal(validation[0].target, mnist_source.load("sample").train_labels[800:].long())
    assert torch.equal(test[0].target, mnist_source.load("sample").test_labels.long())
    assert list(MNIST().eval_batches("validation")) == []


@pytest.mark.parametrize(
    ("by", "levels", "order", "sizes"),
    [
        ("rows", 1, "fixed", (28 * 3, 28)),
        ("pixels", 1, "permuted", (784 * 3, 1)),
        ("rows", 5, "permuted", (28 * 3, 140)),
        ("pixels", 2, "fixed", (784 * 3, 2)),
    ],
)
def test_each_part_lasts_its_steps_and_levels_encode_the_brightness(by, levels, order, sizes):
    task = SequentialMNIST(by=by, levels=levels, order=order, steps_per_part=3, max_rate=0.5, seed=levels, **STEADY)
    assert (task.steps, task.input_size, task.readout_window) == (*sizes, 3)
    batch = task.train_batch(2)
    xs, wanted = batch.xs.dense(), images(batch)
    if order == "permuted":  # in the same way in every run, else no result compares with an earlier one
        assert task.order[:6].tolist() == [567, 46, 568, 627, 164, 235]
        wanted = wanted[:, task.order]
    assert torch.equal(xs, xs[::3].repeat_interleave(3, dim=0))
    rates = xs[::3].unflatten(-1, (-1, levels)).transpose(0, 1).flatten(1, 2)  # (batch, pixels, levels)
    if levels == 1:
        assert torch.equal(rates[..., 0], wanted * 0.5)
    else:
        assert torch.allclose(rates.sum(dim=-1), torch.tensor(0.5)) and int((rates > 0).sum(dim=-1).max()) <= 2
        assert torch.allclose(rates @ torch.linspace(0, 1, levels) / 0.5, wanted, atol=1e-6)


def test_poisson_spikes_of_a_pixel_have_its_brightness_as_rate():
    task = SequentialMNIST(steps_per_part=200, batch_size=6)
    batch = task.train_batch(0)
    fired = batch.xs.dense().view(28, 200, 6, 28).mean(dim=1).transpose(0, 1).flatten(1)
    wanted = images(batch)
    assert float(fired[wanted == 1].min()) == 1 and float(fired[wanted == 0].max()) == 0
    assert float((fired - wanted).abs().max()) < 5 * 0.5 / 200**0.5
    assert float((fired - wanted).mean()) == pytest.approx(0, abs=4 * 0.5 / (200 * wanted.numel()) ** 0.5)


def test_sequential_digits_have_the_order_of_mnist_and_the_same_spikes_in_any_batch():
    given = {"validation_digits": 30, "seed": 3}
    parts, whole = SequentialMNIST(batch_size=40, levels=2, **given), MNIST(batch_size=40, **given)
    for number in (0, 7, parts.batches_per_pass + 1):
        one, other = parts.train_batch(number), whole.train_batch(number)
        assert torch.equal(one.conditions["digit"], other.conditions["digit"])
        assert torch.equal(one.target, other.target)
    small, large = SequentialMNIST(batch_size=10, levels=2, **given).train_batch(3), parts.train_batch(0)
    assert torch.equal(large.conditions["digit"][30:], small.conditions["digit"])
    assert torch.equal(large.xs.dense()[:, 30:], small.xs.dense())


def test_the_confusion_matrix_has_a_row_for_each_target():
    figure = MNIST().figures({"target": torch.tensor([3]), "prediction": torch.tensor([5])})["confusion"]
    assert figure.axes[0].images[0].get_array()[3, 5] == 100
