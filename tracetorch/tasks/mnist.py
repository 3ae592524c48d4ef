"""Handwritten digits, whole or part by part."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple, Self

import torch
from torch import Tensor

from tracetorch import backends
from tracetorch.backends import LazySpikes, limit_of
from tracetorch.encode import ENCODERS, Stream, mix_seed
from tracetorch.modes import whole
from tracetorch.tasks import mnist_source
from tracetorch.tasks.task import Batch, Figures, Task, Trials, check_split, choices, classified, slices, whole_at_least

_HELD_OUT_BATCH = 500

_PERMUTATION = 0  # seed of the permuted pixels; fixed, because the order is part of the task


class DigitBatch(NamedTuple):
    """The digits of one batch."""

    images: Tensor  # (batch, height, width), uint8
    labels: Tensor  # (batch,), int64
    indices: Tensor  # (batch,), in their split
    seed: int  # of the spikes; different in every pass over the training digits


class DigitTask(Task):
    """Classification of digits. Training digits come in a new order in every pass.

    A final subclass calls `_load`, sets the sizes and writes `show`.
    """

    output_size = 10
    batches_per_pass: int
    image_size: tuple[int, int]
    max_rate: float
    seed: int
    splits: dict[str, tuple[Tensor, Tensor]]
    """Images, (digits, height, width), uint8, and labels of "train", "validation" and "test"."""
    _order: tuple[int, Tensor] | None = None

    @abstractmethod
    def show(self, digits: DigitBatch) -> Batch:
        """Encode the digits of one batch as spikes or currents."""

    def _load(self, source: str, max_rate: float, batch_size: int, validation_digits: int, seed: int) -> None:
        """Load the digits, and set the attributes of all subclasses. Args, Raises: as in the subclasses."""
        if not 0 < max_rate <= 1:
            raise ValueError(f"max_rate must be above 0 and at most 1, got {max_rate:g}")
        whole_at_least(1, batch_size=batch_size)
        images, labels, test_images, test_labels = mnist_source.load(source)
        total, split = len(images), len(images) - whole(validation_digits, "validation_digits")
        if not 0 <= validation_digits < total:
            raise ValueError(
                f"validation_digits must leave some of the {total:,} training digits, got {validation_digits}"
            )
        if batch_size > split:
            raise ValueError(f"batch_size is at most the {split:,} training digits, got {batch_size}")
        self.splits = {
            "train": (images[:split], labels[:split]),
            "validation": (images[split:], labels[split:]),
            "test": (test_images, test_labels),
        }
        self.image_size = (images.shape[1], images.shape[2])
        self.max_rate, self.batch_size, self.seed = max_rate, batch_size, seed
        self.batches_per_pass = split // batch_size

    def to(self, device: torch.device) -> Self:
        self.splits = {name: (images.to(device), labels.to(device)) for name, (images, labels) in self.splits.items()}
        return super().to(device)

    def train_batch(self, number: int) -> Batch:
        epoch, index = divmod(number, self.batches_per_pass)
        if self._order is None or self._order[0] != epoch:
            generator = torch.Generator().manual_seed(mix_seed(self.seed, 3, epoch) >> 1)
            self._order = epoch, torch.randperm(len(self.splits["train"][0]), generator=generator)
        indices = self._order[1][index * self.batch_size : (index + 1) * self.batch_size]
        return self._batch("train", indices.to(self.device), mix_seed(self.seed, 0, epoch))

    def eval_batches(self, split: str) -> Iterator[Batch]:
        check_split(split)
        for part in slices(len(self.splits[split][0]), _HELD_OUT_BATCH):
            indices = torch.arange(part.start, part.stop, device=self.device)
            yield self._batch(split, indices, mix_seed(self.seed, 1 + (split == "test")))

    def _batch(self, split: str, indices: Tensor, seed: int) -> Batch:
        images, labels = (data.index_select(0, indices) for data in self.splits[split])
        return self.show(DigitBatch(images, labels.long(), indices, seed))

    def score(self, output: Tensor, batch: Batch) -> Trials:
        return batch.conditions | classified(output, batch.target)

    def figures(self, trials: Trials) -> Figures:
        """Draw the confusion matrix."""
        from tracetorch import plot

        names = [str(digit) for digit in range(10)]
        return {"confusion": plot.confusion(trials["target"].long(), trials["prediction"].long(), names)}


class MNIST(DigitTask):
    """Classification of digits. Each pixel is an input neuron, and its brightness is encoded as `encoding` says.

    Args:
        source: "sample" (1,000 training and 500 test digits of MNIST, shipped with the package), "download" (all
            70,000, through pooch, stored in a cache), or a folder with the IDX files, gzipped or not.
        encoding: "poisson" (a new draw at every step), "latency" (one spike, brighter is earlier) or "constant" (a
            steady current).
        steps: time steps for which a digit is shown.
        max_rate: the value of a white pixel, in (0, 1]: its spikes per step ("poisson"), its current ("constant"), or
            how early it spikes ("latency": at step `round((1 − max_rate)·(steps − 1))`).
        batch_size: digits in a training batch.
        validation_digits: number of training digits, the last ones, held out for validation; 0 for none.
        seed: of the order of the digits and of the spikes. Every pass over the training digits has a new order and
            new spikes.
    Raises: FileNotFoundError, ValueError or OSError if the digits are unavailable; ValueError for other invalid values,
        TypeError for a count that is not a whole number.
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
        whole_at_least(1, steps=steps)
        self.encode = ENCODERS[choices("encoding", encoding, ENCODERS)]
        self._load(source, max_rate, batch_size, validation_digits, seed)
        self.input_size, self.steps = self.image_size[0] * self.image_size[1], steps

    def input_image(self) -> tuple[int, int]:
        return self.image_size

    def show(self, digits: DigitBatch) -> Batch:
        rates = digits.images.flatten(1).to(torch.float32) * (self.max_rate / 255)
        xs = self.encode(rates, self.steps, seed=digits.seed, samples=digits.indices)
        return Batch(xs, digits.labels, {"digit": digits.indices})


class SequentialMNIST(DigitTask):
    """Classification of digits, shown part by part from the top; the answer is read during the last part.

    All parts use the same input neurons, so that only time encodes which part is shown. A network that remembers only
    the sum of each neuron's input knows the sums of the image's columns for "rows", and a single sum for "pixels".

    Args:
        source, batch_size, validation_digits, seed: as for `MNIST`.
        by: "rows" (28 parts of 28 pixels) or "pixels" (784 parts of one).
        steps_per_part: time steps for which a row or a pixel is shown.
        levels: input neurons for each pixel of a part. The rate of a single neuron is proportional to brightness.
            Several neurons prefer evenly spaced brightnesses from black to white; their rate is proportional to
            max(0, 1 − |brightness − preferred brightness| / spacing).
        order: "fixed" (as in the image) or "permuted" (all pixels are permuted before the image is cut into parts, in
            the same way for every digit and in every run).
        encoding: "poisson" (a new draw at every step) or "constant" (a steady current).
        max_rate: spikes per step, or current, for a white pixel, or for the preferred brightness, in (0, 1].
    Raises: FileNotFoundError, ValueError or OSError if the digits are unavailable; ValueError for other invalid values,
        TypeError for a count that is not a whole number.
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
        whole_at_least(1, steps_per_part=steps_per_part, levels=levels)
        by, order = choices("by", by, ("rows", "pixels")), choices("order", order, ("fixed", "permuted"))
        self.encoding = choices("encoding", encoding, ("poisson", "constant"))
        self._load(source, max_rate, batch_size, validation_digits, seed)
        height, width = self.image_size
        self.parts, self.pixels_per_part = (height, width) if by == "rows" else (height * width, 1)
        random = backends.uniform(_PERMUTATION, range(1), torch.zeros(1, dtype=torch.int64), height * width)[0, 0]
        self.order = random.argsort(stable=True) if order == "permuted" else None
        self.levels, self.input_size = levels, self.pixels_per_part * levels
        self.readout_window = self.steps_per_part = steps_per_part
        self.steps = self.parts * steps_per_part

    def show(self, digits: DigitBatch) -> Batch:
        pixels = digits.images.flatten(1)
        if self.order is not None:
            pixels = pixels[:, self.order.to(pixels.device)]
        parts = pixels.view(len(pixels), self.parts, self.pixels_per_part).transpose(0, 1)
        make = partial(self._part, parts=parts, digits=digits)
        xs = Stream(make, self.steps, (len(pixels), self.input_size))
        return Batch(xs, digits.labels, {"digit": digits.indices})

    def _part(self, start: int, stop: int, *, parts: Tensor, digits: DigitBatch) -> Tensor | LazySpikes:
        """Return the steps from `start` to `stop`. Args: parts: brightness from 0 to 255, (parts, batch, pixels)."""
        first, last = start // self.steps_per_part, (stop - 1) // self.steps_per_part
        rates = parts[first : last + 1].to(torch.float32) / 255
        if self.levels > 1:
            distance = (rates[..., None] * (self.levels - 1) - torch.arange(self.levels, device=parts.device)).abs()
            rates = (1 - distance).clamp(min=0).flatten(2)
        rates = rates * self.max_rate
        part = torch.arange(start, stop, device=parts.device) // self.steps_per_part - first
        if self.encoding == "constant":
            return rates[part]
        share = float(rates.mean()) if rates.device.type == "cpu" else 1.0
        return LazySpikes(limit_of(rates)[part], digits.seed, range(start, stop), digits.indices, torch.float32, share)
