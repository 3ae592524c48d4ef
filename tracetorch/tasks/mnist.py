"""Handwritten digits, whole or part by part."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Self

import torch
from torch import Tensor

from tracetorch import backends
from tracetorch.backends import LazySpikes, limit_of
from tracetorch.encode import ENCODERS, Stream, mix_seed
from tracetorch.tasks import mnist_source
from tracetorch.tasks.task import Batch, Task, Trials, at_least, check_split, choices, classified, slices

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_HELD_OUT_BATCH = 500


class Shown(NamedTuple):
    """The digits of one batch."""

    images: Tensor  # (batch, height, width), uint8
    labels: Tensor  # (batch,), int64
    names: Tensor  # (batch,): the place of each in its split
    seed: int  # of the spikes: another in every pass


class Deck:
    """Digits in three splits; those for training are dealt in a new order in every pass.

    Args:
        source: see `mnist_source.load`.
        batch_size: digits in a training batch.
        validation_digits: how many of the training digits, the last ones, are held out for validation; 0 for none.
        seed: of the order, and of the seeds that are dealt with the digits.
    Raises: FileNotFoundError, ValueError or OSError if the digits cannot be had; ValueError for other bad values.
    """

    def __init__(self, source: str, batch_size: int, validation_digits: int, seed: int):
        at_least("batch_size", batch_size, 1)
        digits = mnist_source.load(source)
        self.image_size = (digits.train_images.shape[1], digits.train_images.shape[2])
        total = len(digits.train_images)
        if not 0 <= validation_digits < total:
            raise ValueError(
                f"validation_digits must leave some of the {total:,} training digits, got {validation_digits}"
            )
        if batch_size > total - validation_digits:
            raise ValueError(
                f"batch_size is at most the {total - validation_digits:,} training digits, got {batch_size}"
            )
        split = total - validation_digits
        self.splits = {
            "train": (digits.train_images[:split], digits.train_labels[:split]),
            "validation": (digits.train_images[split:], digits.train_labels[split:]),
            "test": (digits.test_images, digits.test_labels),
        }
        self.batch_size, self.seed, self.batches_per_pass = batch_size, seed, split // batch_size
        self.device = torch.device("cpu")
        self._order: tuple[int, Tensor] | None = None

    def to(self, device: torch.device) -> None:
        """Keep the digits on this device from now on."""
        self.splits = {name: (images.to(device), labels.to(device)) for name, (images, labels) in self.splits.items()}
        self.device = device

    def train(self, number: int) -> Shown:
        """The training batch with this number."""
        epoch, at = divmod(number, self.batches_per_pass)
        names = self._shuffled(epoch)[at * self.batch_size : (at + 1) * self.batch_size]
        return self._shown("train", names.to(self.device), mix_seed(self.seed, 0, epoch))

    def eval_batches(self, split: str) -> Iterator[Shown]:
        """The batches of "validation" (may be none) or "test", in order."""
        check_split(split)
        for part in slices(len(self.splits[split][0]), _HELD_OUT_BATCH):
            names = torch.arange(part.start, part.stop, device=self.device)
            yield self._shown(split, names, mix_seed(self.seed, 1 + (split == "test")))

    def _shuffled(self, epoch: int) -> Tensor:
        if self._order is None or self._order[0] != epoch:
            generator = torch.Generator().manual_seed(mix_seed(self.seed, 3, epoch) >> 1)
            self._order = epoch, torch.randperm(len(self.splits["train"][0]), generator=generator)
        return self._order[1]

    def _shown(self, split: str, names: Tensor, seed: int) -> Shown:
        images, labels = (data.index_select(0, names) for data in self.splits[split])
        return Shown(images, labels.long(), names, seed)


class DigitTask(Task):
    """Which digit is it? A final subclass makes the deck, sets the sizes and writes `show`."""

    output_size = 10
    deck: Deck
    batches_per_pass: int

    @abstractmethod
    def show(self, shown: Shown) -> Batch:
        """The digits of one batch as spikes or currents."""

    def to(self, device: torch.device) -> Self:
        self.deck.to(device)
        return super().to(device)

    def train_batch(self, number: int) -> Batch:
        return self.show(self.deck.train(number))

    def eval_batches(self, split: str) -> Iterator[Batch]:
        return map(self.show, self.deck.eval_batches(split))

    def score(self, output: Tensor, batch: Batch) -> Trials:
        return batch.conditions | classified(output, batch.target)

    def figures(self, trials: Trials) -> dict[str, Figure]:
        """The confusion matrix."""
        from tracetorch import plot

        names = [str(digit) for digit in range(10)]
        return {"confusion": plot.confusion(trials["target"].long(), trials["prediction"].long(), names)}


class MNIST(DigitTask):
    """Which digit is it? Each pixel is an input neuron that fires the more, the brighter it is.

    Args:
        source: "sample" (1,000 + 500 real digits, shipped with the package), "download" (all 70,000, through pooch,
            kept in a cache), or a folder with the IDX files, gzipped or not.
        encoding: "poisson" (a new draw at every step), "latency" (one spike, brighter is earlier) or "constant" (a
            steady current).
        steps: time steps for which a digit is shown.
        max_rate: of a white pixel: spikes per step, or the current, in (0, 1].
        batch_size: digits in a training batch.
        validation_digits: how many of the training digits, the last ones, are held out for validation; 0 for none.
        seed: of the order of the digits and of the spikes. Every pass has a new order and new spikes.
    Raises: FileNotFoundError, ValueError or OSError if the digits cannot be had; ValueError for other bad values.
    Source: LeCun, Bottou, Bengio and Haffner (1998), Gradient-based learning applied to document recognition,
        doi:10.1109/5.726791.
    """

    def __init__(
        self,
        *,
        source: str = "sample",
        encoding: str = "poisson",
        steps: int = 10,
        max_rate: float = 1.0,
        batch_size: int = 128,
        validation_digits: int = 0,
        seed: int = 0,
    ):
        at_least("steps", steps, 1)
        if not 0 < max_rate <= 1:
            raise ValueError(f"max_rate must be above 0 and at most 1 spike per step, got {max_rate:g}")
        self.encode = ENCODERS[choices("encoding", encoding, ENCODERS)]
        self.deck = Deck(source, batch_size, validation_digits, seed)
        self.input_size = self.deck.image_size[0] * self.deck.image_size[1]
        self.steps, self.max_rate, self.batch_size = steps, max_rate, batch_size
        self.batches_per_pass = self.deck.batches_per_pass

    def input_image(self) -> tuple[int, int]:
        return self.deck.image_size

    def show(self, shown: Shown) -> Batch:
        rates = shown.images.flatten(1).to(torch.float32) * (self.max_rate / 255)
        xs = self.encode(rates, self.steps, seed=shown.seed, samples=shown.names)
        return Batch(xs, shown.labels, {"digit": shown.names})


_PERMUTATION = 0
"""The seed of the order of permuted pixels: the same in every run, or they would not be the same task."""


class SequentialMNIST(DigitTask):
    """Which digit is it? It is shown part by part, from the top; the answer is read while the last part is shown.

    All parts come through the same input neurons, so that only their order tells what was where: here order matters,
    and a network that remembers no more than how much came in on each neuron sees the sums of the columns, or, pixel by
    pixel, the amount of ink.

    Args:
        source: "sample" (1,000 + 500 real digits, shipped with the package), "download" (all 70,000, through pooch,
            kept in a cache), or a folder with the IDX files, gzipped or not.
        by: "rows" (28 parts of 28 pixels) or "pixels" (784 parts of one).
        steps_per_part: time steps for which a row or a pixel is shown.
        levels: input neurons for each pixel of a part. One fires the more, the brighter the pixel. Of several each
            prefers a brightness, at equal distances from black to white, and fires the less, the further away the
            pixel's is: 1 − distance in units of theirs, or nothing; so that darkness is told as well as light.
        order: "fixed" (as they lie in the image) or "permuted" (all pixels change places before the image is cut into
            parts, in the same way for every digit, in every run).
        encoding: "poisson" (a new draw at every step) or "constant" (a steady current).
        max_rate: of a white pixel, or of one as bright as preferred: spikes per step, or the current, in (0, 1].
        batch_size: digits in a training batch.
        validation_digits: how many of the training digits, the last ones, are held out for validation; 0 for none.
        seed: of the order of the digits and of the spikes. Every pass has a new order and new spikes.
    Raises: FileNotFoundError, ValueError or OSError if the digits cannot be had; ValueError for other bad values.
    Source: Le, Jaitly and Hinton (2015), A simple way to initialize recurrent networks of rectified linear units,
        doi:10.48550/arXiv.1504.00941, for pixels and permuted pixels.
    """

    readout_window: int

    def __init__(
        self,
        *,
        source: str = "sample",
        by: str = "rows",
        steps_per_part: int = 4,
        levels: int = 1,
        order: str = "fixed",
        encoding: str = "poisson",
        max_rate: float = 1.0,
        batch_size: int = 128,
        validation_digits: int = 0,
        seed: int = 0,
    ):
        at_least("steps_per_part", steps_per_part, 1)
        at_least("levels", levels, 1)
        if not 0 < max_rate <= 1:
            raise ValueError(f"max_rate must be above 0 and at most 1 spike per step, got {max_rate:g}")
        by, order = choices("by", by, ("rows", "pixels")), choices("order", order, ("fixed", "permuted"))
        self.encoding = choices("encoding", encoding, ("poisson", "constant"))
        self.deck = Deck(source, batch_size, validation_digits, seed)
        height, width = self.deck.image_size
        self.parts, self.pixels_per_part = (height, width) if by == "rows" else (height * width, 1)
        drawn = backends.uniform(_PERMUTATION, range(1), torch.zeros(1, dtype=torch.int64), height * width)[0, 0]
        self.order = drawn.argsort(stable=True) if order == "permuted" else None
        self.levels, self.max_rate, self.batch_size = levels, max_rate, batch_size
        self.input_size = self.pixels_per_part * levels
        self.readout_window = self.steps_per_part = steps_per_part
        self.steps = self.parts * steps_per_part
        self.batches_per_pass = self.deck.batches_per_pass

    def show(self, shown: Shown) -> Batch:
        pixels = shown.images.flatten(1)
        if self.order is not None:
            pixels = pixels[:, self.order.to(pixels.device)]
        parts = pixels.view(len(pixels), self.parts, self.pixels_per_part).transpose(0, 1)
        drawn = None if self.encoding == "constant" else (shown.seed, shown.names)
        each, peak = self.steps_per_part, self.max_rate
        make = partial(_shown, parts=parts, drawn=drawn, each=each, levels=self.levels, peak=peak)
        xs = Stream(make, self.steps, (len(pixels), self.input_size))
        return Batch(xs, shown.labels, {"digit": shown.names})


def _shown(
    start: int,
    stop: int,
    *,
    parts: Tensor,
    drawn: tuple[int, Tensor] | None,
    each: int,
    levels: int,
    peak: float,
) -> Tensor | LazySpikes:
    """Some steps.

    Args:
        drawn: seed and names of the samples, for spikes.
        each: how many steps a part is shown.
        peak: the rate of white.
    """
    first, last = start // each, (stop - 1) // each
    rates = _rates(parts[first : last + 1], levels) * peak
    number = torch.arange(start, stop, device=parts.device) // each - first
    if drawn is None:
        return rates[number]
    (seed, names), share = drawn, float(rates.mean()) if rates.device.type == "cpu" else 1.0
    return LazySpikes(limit_of(rates)[number], seed, range(start, stop), names, torch.float32, share)


def _rates(parts: Tensor, levels: int) -> Tensor:
    """How active all input neurons are, (parts, batch, pixels × levels), for pixels from 0 to 255."""
    brightness = parts.to(torch.float32) / 255
    if levels == 1:
        return brightness
    distance = (brightness[..., None] * (levels - 1) - torch.arange(levels, device=parts.device)).abs()
    return (1 - distance).clamp(min=0).flatten(2)
