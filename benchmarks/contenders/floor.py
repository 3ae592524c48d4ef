"""The floor: the time of a forward pass that consists of matrix products only."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from contenders.base import Contender

HIDDEN_RATE = 0.1
"""Density of the spikes between layers; the time of a dense product does not depend on it."""


class Floor(Contender):
    """One dense product for each layer over steps × batch rows, with spikes and output buffers already in memory.

    No encoding, no neurons, no learning. A contender that is faster skips inputs that do not fire.
    """

    def __init__(self, sizes: Sequence[int], device: torch.device):
        super().__init__(sizes, device)
        self.weights = [torch.randn(above, below, device=device) for below, above in pairwise(sizes)]
        self._prepared: tuple[int, ...] = ()

    def prepare(self, rates: Tensor, steps: int, seed: int) -> None:
        if self._prepared == (steps, len(rates)):
            return
        self.inputs: list[Tensor] = []  # frees the old arrays before new ones are allocated
        self.outputs: list[Tensor] = []
        torch.manual_seed(seed)
        rows = steps * len(rates)
        for layer, weight in enumerate(self.weights):
            spikes = torch.empty(steps, len(rates), weight.shape[1], device=self.device)
            for step in spikes:  # step by step, to avoid a second copy of the whole array
                step.bernoulli_(rates if layer == 0 else HIDDEN_RATE)
            self.inputs.append(spikes.view(rows, -1))
            self.outputs.append(torch.empty(rows, weight.shape[0], device=self.device))
        self._prepared = (steps, len(rates))

    @torch.no_grad()
    def train_step(self, rates: Tensor, steps: int, seed: int, target: Tensor) -> None:
        for spikes, weight, output in zip(self.inputs, self.weights, self.outputs, strict=True):
            torch.mm(spikes, weight.t(), out=output)

    def reset(self) -> None:
        self._prepared = ()

    @torch.no_grad()
    def stream(self, rates: Tensor, steps: int, seed: int) -> None:
        self.prepare(rates, 1, seed)
        for _ in range(steps):
            self.train_step(rates, 1, seed, rates)
