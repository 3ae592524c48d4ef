"""Inputs of the networks: one rate for all channels, or real digits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tracetorch.tasks import MNIST

UNIFORM_RATE = 0.1
"""Spikes per step in every channel."""

InputBatch = tuple[Tensor, Tensor]
"""Rates (batch, inputs) in spikes per step, and targets (batch,)."""

INPUTS = ("uniform", "mnist")


class Inputs:
    """Batches of rates and targets by number.

    Args:
        name: "uniform", every channel at a tenth of a spike per step; or "mnist", pixels between 0 and 1, of which
            four of five are 0.
        sizes: of the network.
        batch: number of rows.
        source: of the digits, as for the task: "sample", "download" or a folder with the IDX files.
        device: of the batches.
    Raises: ValueError for another name, or a network that does not take digits.
    """

    def __init__(self, name: str, sizes: Sequence[int], batch: int, source: str, device: torch.device):
        if name not in INPUTS:
            raise ValueError(f"there is no input {name!r}; there are {', '.join(INPUTS)}")
        self.sizes, self.batch, self.device = sizes, batch, device
        self.digits: tuple[Tensor, Tensor] | None = None
        if name == "mnist":
            if sizes[0] != 784 or sizes[-1] != 10:
                raise ValueError(f"digits need a network 784-…-10, got {'-'.join(map(str, sizes))}")
            self.digits = MNIST(source=source, batch_size=1).splits["train"]

    def __call__(self, number: int) -> InputBatch:
        """Return the batch with this number, the same for each call."""
        if self.digits is None:
            target = torch.arange(self.batch) % self.sizes[-1]
            rates = torch.full((self.batch, self.sizes[0]), UNIFORM_RATE)
        else:
            images, labels = self.digits
            chosen = (number * self.batch + torch.arange(self.batch)) % len(images)
            rates, target = images[chosen].flatten(1).float() / 255, labels[chosen].long()
        return rates.to(self.device), target.to(self.device)
