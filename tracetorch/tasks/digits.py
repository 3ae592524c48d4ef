"""What all tasks that show digits share: which digits are in which split, and in which order they come."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple, Self

import torch
from torch import Tensor

from tracetorch.encode import mix_seed
from tracetorch.tasks import mnist_source
from tracetorch.tasks.task import Batch, Task, Trials, at_least, check_split, classified, slices

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
