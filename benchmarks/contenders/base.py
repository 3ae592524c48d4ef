"""Base classes of all contenders, and of those that learn by backpropagation through time.

All build one network: hidden layers of leaky integrate-and-fire neurons with subtractive reset, a readout of leaky
integrators, no bias,

    m ← β·m + W·x,    s = 1 if m > θ else 0,    m ← m − θ·s        β = 0.9, θ = 1
    loss = −log((p + ε) / (1 + ε)) of the target,    p = mean over the steps of softmax(m of the readout)

and train it with Adam. A training step is encoding, forward, backward and the optimizer's step.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import Linear, Module
from torch.nn.functional import nll_loss

DECAY, THRESHOLD = 0.9, 1.0
LEARNING_RATE = 1e-3
EPSILON = 1e-3
"""ε, as in `tracetorch.loss.cross_entropy`."""

BLOCK = 256
"""Steps of a stream that are encoded at once if the encoder can; the network reads them one by one, or as a chunk."""


class Contender(ABC):
    """An implementation of the network and of its training step.

    Args:
        sizes: neurons of the input, of each hidden layer and of the readout.
        device: where it runs.
    """

    detail = ""
    """The chosen implementation, for the report."""

    def __init__(self, sizes: Sequence[int], device: torch.device):
        self.sizes, self.device = tuple(sizes), device

    def prepare(self, rates: Tensor, steps: int, seed: int) -> None:  # noqa: B027  # only the floor needs it
        """Prepare a training step; not timed."""

    def amplify(self, gain: float) -> None:  # noqa: B027  # the time of the floor does not depend on weights
        """Multiply all weights."""

    @abstractmethod
    def train_step(self, rates: Tensor, steps: int, seed: int, target: Tensor) -> None:
        """One update. Args: rates (batch, inputs) in spikes per step; target (batch,)."""

    @abstractmethod
    def reset(self) -> None:
        """Reset the state, before a stream."""

    @abstractmethod
    def stream(self, rates: Tensor, steps: int, seed: int) -> None:
        """Inference on the next steps of the stream that began at `reset`, without a graph; the state is kept."""


class Backpropagation(Contender):
    """A library that unrolls time and leaves the gradients to autograd."""

    net: Module
    """All trained modules."""
    synapses: Sequence[Linear]
    """The weights of each layer, from the input up."""
    spiking: Sequence[Module]
    """The hidden neurons of each layer; a forward hook on one of them sees its spikes."""
    weight_unit = 1.0
    """The library's weight for a weight of 1 in the equations above."""

    @abstractmethod
    def encode(self, rates: Tensor, steps: int) -> Iterable[Tensor]:
        """Spikes of every step, by the library's own encoder: (batch, inputs) each, or (steps, batch, inputs)."""

    @abstractmethod
    def mean_distribution(self, xs: Iterable[Tensor]) -> Tensor:
        """The mean class probabilities over all steps from a reset state, (batch, classes), with their graph."""

    @abstractmethod
    def step(self, x: Tensor) -> Tensor:
        """Advance by one step: input (batch, inputs) to class probabilities (batch, classes)."""

    def train_step(self, rates: Tensor, steps: int, seed: int, target: Tensor) -> None:
        torch.manual_seed(seed)
        cross_entropy(self.mean_distribution(self.encode(rates, steps)), target).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    @torch.no_grad()
    def stream(self, rates: Tensor, steps: int, seed: int) -> None:
        torch.manual_seed(seed)
        for start in range(0, steps, BLOCK):
            for x in self.encode(rates, min(BLOCK, steps - start)):
                self.step(x)

    @torch.no_grad()
    def amplify(self, gain: float) -> None:
        for synapse in self.synapses:
            synapse.weight.mul_(gain)

    @torch.no_grad()
    def load(self, weights: Iterable[Tensor]) -> None:
        """Load weights of the equations above, (out, in) for each layer."""
        for synapse, weight in zip(self.synapses, weights, strict=True):
            synapse.weight.copy_(weight * self.weight_unit)

    def _finish(self) -> None:
        """Draw the weights, move the network, make the optimizer: the end of every `__init__`."""
        self.load(torch.empty(out, inputs).uniform_(-1, 1) / math.sqrt(inputs) for inputs, out in pairwise(self.sizes))
        self.net.to(self.device)
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=LEARNING_RATE)


def synapses(sizes: Sequence[int]) -> list[Linear]:
    """The weights between each layer and the next, as linear modules without bias."""
    return [Linear(below, above, bias=False) for below, above in pairwise(sizes)]


def cross_entropy(mean: Tensor, target: Tensor) -> Tensor:
    """The loss, equal to `tracetorch.loss.cross_entropy`, for autograd."""
    return nll_loss(torch.log((mean + EPSILON) / (1 + EPSILON)), target)
