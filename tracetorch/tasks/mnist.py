"""Handwritten digits, shown as spikes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tracetorch.encode import ENCODERS, mix_seed
from tracetorch.tasks import mnist_source
from tracetorch.tasks.task import Batch, Task, Trials, at_least, check_split, choices, classified, slices

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_HELD_OUT_BATCH = 500


class MNIST(Task):
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

    output_size = 10

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
        at_least("batch_size", batch_size, 1)
        if not 0 < max_rate <= 1:
            raise ValueError(f"max_rate must be above 0 and at most 1 spike per step, got {max_rate:g}")
        self.encode = ENCODERS[choices("encoding", encoding, ENCODERS)]
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
        self.data = {
            "train": (digits.train_images[:split], digits.train_labels[:split]),
            "validation": (digits.train_images[split:], digits.train_labels[split:]),
            "test": (digits.test_images, digits.test_labels),
        }
        self.input_size = self.image_size[0] * self.image_size[1]
        self.steps, self.max_rate, self.batch_size, self.seed = steps, max_rate, batch_size, seed
        self.batches_per_pass: int = split // batch_size
        self._order: tuple[int, Tensor] | None = None

    def to(self, device: torch.device) -> MNIST:
        self.data = {name: (images.to(device), labels.to(device)) for name, (images, labels) in self.data.items()}
        self.device = device
        return self

    def train_batch(self, number: int) -> Batch:
        epoch, at = divmod(number, self.batches_per_pass)
        chosen = self._shuffled(epoch)[at * self.batch_size : (at + 1) * self.batch_size]
        return self._batch("train", chosen.to(self.device), mix_seed(self.seed, 0, epoch))

    def held_out(self, split: str) -> Iterator[Batch]:
        check_split(split)
        for part in slices(len(self.data[split][0]), _HELD_OUT_BATCH):
            chosen = torch.arange(part.start, part.stop, device=self.device)
            yield self._batch(split, chosen, mix_seed(self.seed, 1 + (split == "test")))

    def judge(self, output: Tensor, batch: Batch) -> Trials:
        return batch.conditions | classified(output, batch.target)

    def figures(self, trials: Trials) -> dict[str, Figure]:
        """The confusion matrix."""
        from tracetorch import plot

        labels = [str(digit) for digit in range(10)]
        return {"confusion": plot.confusion(trials["target"].long(), trials["prediction"].long(), labels)}

    def input_image(self) -> tuple[int, int]:
        return self.image_size

    def _shuffled(self, epoch: int) -> Tensor:
        if self._order is None or self._order[0] != epoch:
            generator = torch.Generator().manual_seed(mix_seed(self.seed, 3, epoch) >> 1)
            self._order = epoch, torch.randperm(len(self.data["train"][0]), generator=generator)
        return self._order[1]

    def _batch(self, split: str, chosen: Tensor, seed: int) -> Batch:
        images, labels = (data.index_select(0, chosen) for data in self.data[split])
        rates = images.flatten(1).to(torch.float32) * (self.max_rate / 255)
        xs = self.encode(rates, self.steps, seed=seed, samples=chosen)
        return Batch(xs, labels.long(), {"digit": chosen})
