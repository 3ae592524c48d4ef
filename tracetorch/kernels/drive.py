"""What drives a layer over a chunk of time: its input, and the synapse that it passes. Nothing is computed yet."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from tracetorch.kernels.counter import Draws
from tracetorch.kernels.trace import Trace


class Drive(NamedTuple):
    """A chunk of input and the weights that it meets; a scan computes the currents `W·x + b` in the fastest way.

    xs: (time, batch, inputs), or spikes yet to be drawn. bool means spikes.
    weight, bias: (neurons, inputs); (neurons,) or None. Without a weight, `xs` are the currents themselves, (time,
        batch, neurons), and their input is in the trace.
    precision: dtype of the factors of the product. bfloat16 holds spikes exactly and rounds the weights; products are
        summed in float32, and the sum is rounded to bfloat16 where the device cannot give it otherwise.
    trace: the layer's input trace, which the input is added to; None if the input is in it already.
    fired: how many of `xs` are 1, if they are spikes and were counted.
    columns: room for the transposed weights, (inputs, neurons), which a kernel may need in every chunk.
    """

    xs: Tensor | Draws
    weight: Tensor | None
    bias: Tensor | None
    precision: torch.dtype
    trace: Trace | None = None
    fired: int | None = None
    columns: Tensor | None = None

    @property
    def size(self) -> tuple[int, int, int]:
        """(time, batch, neurons)."""
        steps, batch, inputs = self.xs.size if isinstance(self.xs, Draws) else self.xs.shape
        return steps, batch, inputs if self.weight is None else self.weight.shape[0]

    @property
    def dtype(self) -> torch.dtype:
        """That of the currents."""
        return self.xs.dtype if self.weight is None else self.weight.dtype
