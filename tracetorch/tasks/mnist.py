"""Handwritten digits, shown as spikes."""

from __future__ import annotations

import torch

from tracetorch.encode import ENCODERS
from tracetorch.tasks.digits import Deck, DigitTask, Shown
from tracetorch.tasks.task import Batch, at_least, choices


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
