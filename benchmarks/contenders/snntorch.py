"""snnTorch: a loop over time, a call for each layer in each step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from snntorch import Leaky, spikegen
from torch import Tensor
from torch.nn import ModuleList

from contenders.base import DECAY, THRESHOLD, Backpropagation, synapses


class SnnTorch(Backpropagation):
    """`Leaky` in the loop over steps that the library's tutorials teach, with its own encoder in each step.

    `reset_delay=False` makes the network equal, and costs about a tenth of the time: by default, the reset comes one
    step later and subtracts θ instead of βθ. With it, spikes differ from ours only where a membrane is above θ even
    after a reset. On a CPU, drawing the spikes in each step is faster than drawing them all before the loop with
    `spikegen.rate(rates, num_steps=steps)`. One matrix product for all steps of a layer would save a twentieth.
    """

    detail = "Leaky, step by step"

    def __init__(self, sizes: Sequence[int], device: torch.device):
        super().__init__(sizes, device)
        self.synapses = synapses(sizes)
        self.spiking = [Leaky(DECAY, THRESHOLD, reset_mechanism="subtract", reset_delay=False) for _ in sizes[1:-1]]
        self.readout = Leaky(DECAY, reset_mechanism="none")
        self.net = ModuleList([*self.synapses, *self.spiking, self.readout])
        self._finish()
        self.reset()

    def encode(self, rates: Tensor, steps: int) -> Iterable[Tensor]:
        return (spikegen.rate(rates, time_var_input=True) for _ in range(steps))

    def mean_distribution(self, xs: Iterable[Tensor]) -> Tensor:
        self.reset()
        membranes = torch.stack([self._advance(x) for x in xs])
        self.reset()  # frees the graph
        return torch.softmax(membranes, dim=-1).mean(dim=0)

    def reset(self) -> None:
        self.membranes: list[Tensor] | None = None

    def step(self, x: Tensor) -> Tensor:
        return torch.softmax(self._advance(x), dim=-1)

    def _advance(self, x: Tensor) -> Tensor:
        """Advance by one step. Returns: the membranes of the readout."""
        if self.membranes is None:
            self.membranes = [x.new_zeros(len(x), width) for width in self.sizes[1:]]
        for at, (synapse, neuron) in enumerate(zip(self.synapses, [*self.spiking, self.readout], strict=True)):
            x, self.membranes[at] = neuron(synapse(x), self.membranes[at])
        return self.membranes[-1]
