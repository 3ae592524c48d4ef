"""What a scan takes: the input and its weights, the traces, and where the outputs go. Nothing is computed yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tracetorch import functional as F
from tracetorch.backends.rng import LazySpikes


class TraceBuffers(NamedTuple):
    """The trace of a layer's input; kernels update it in place.

    values: t ← d·t + x, (batch, inputs); or (traces, batch, inputs) for several of the same input.
    decay: d, a number or (inputs,); for several (traces, 1, 1) or (traces, 1, inputs).
    sensitivity: e ← c·e + t with the t of before the step, (sensitivities, batch, inputs). The first follows the first
        trace, and so on, and round again. One with c = d is ∂t/∂d; others are those of a bank. None if there are none.
    sensitivity_decay: c, (sensitivities, 1, 1) or (sensitivities, 1, inputs).
    """

    values: Tensor
    decay: Tensor
    sensitivity: Tensor | None = None
    sensitivity_decay: Tensor | None = None

    def take(self, x: Tensor) -> None:
        """One step, in plain torch. Args: x: (batch, inputs)."""
        values, decay, sensitivity, sensitivity_decay = self
        if sensitivity is not None and sensitivity_decay is not None:
            several = values if values.ndim == 3 else values[None]
            followed = several[[at % len(several) for at in range(len(sensitivity))]]
            sensitivity.copy_(F.trace_step(followed, sensitivity, sensitivity_decay))
        values.copy_(F.trace_step(x, values, decay))


@dataclass
class Columns:
    """Room for transposed weights, (inputs, neurons), which a kernel may need in every chunk.

    lasting: whether the weights stay as they are for several chunks, so that columns that are filled remain right.
    """

    values: Tensor
    lasting: bool = False
    filled: bool = False

    def of(self, weight: Tensor) -> Tensor:
        """The columns of these weights, (neurons, inputs)."""
        if not self.filled:
            self.values.copy_(weight.t())
            self.filled = self.lasting
        return self.values

    def last(self, *, lasting: bool) -> None:
        """Say whether the weights stay as they are from now on. What was filled before is not used."""
        self.lasting, self.filled = lasting, False


class SynapticInput(NamedTuple):
    """A chunk of input and its weights; a scan computes the currents `W·x + b` in the fastest way.

    xs: (time, batch, inputs), or spikes yet to be drawn. bool means spikes.
    weight, bias: (neurons, inputs); (neurons,) or None. Without a weight, `xs` are the currents themselves, (time,
        batch, neurons), and their input is in the trace.
    precision: dtype of the factors of the product. bfloat16 holds spikes exactly and rounds the weights; products are
        summed in float32, and the sum is rounded to bfloat16 where the device cannot give it otherwise.
    trace: the layer's input trace, which the input is added to; None if the input is in it already. For a backend, its
        own form of it.
    fired: how many of `xs` are 1, if they are spikes and were counted.
    columns: room for the transposed weights.
    """

    xs: Tensor | LazySpikes
    weight: Tensor | None
    bias: Tensor | None
    precision: torch.dtype
    trace: Any = None
    fired: int | None = None
    columns: Columns | None = None

    @property
    def size(self) -> tuple[int, int, int]:
        """(time, batch, neurons)."""
        steps, batch, inputs = self.xs.size if isinstance(self.xs, LazySpikes) else self.xs.shape
        return steps, batch, inputs if self.weight is None else self.weight.shape[0]

    @property
    def dtype(self) -> torch.dtype:
        """That of the currents."""
        return self.xs.dtype if self.weight is None else self.weight.dtype


@dataclass
class OutputSpec:
    """Where every output goes: to the layer above, to the reader, or to a sum. No more than is asked for is kept.

    outputs: (time, batch, features); each step is written here. bool if they are spikes for the layer above.
    total: (batch, features), float64 where the device has it; every step from `first` on is added.
    trace: the input trace of the layer above, which takes every step.
    readout: a layer that takes every output in the same scan; its input is not kept. See `dispatch.fuses_readout`.
    fired: afterwards, the number of spikes, if the kernel counted them.
    """

    outputs: Tensor | None = None
    total: Tensor | None = None
    first: int = 0
    trace: TraceBuffers | None = None
    readout: FusedReadout | None = None
    fired: int | None = None

    def take(self, step: int, output: Tensor) -> None:
        """Take one step's output, (batch, features)."""
        if self.outputs is not None:
            self.outputs[step] = output
        if self.total is not None and step >= self.first:
            self.total += output
        if self.trace is not None:
            self.trace.take(output)

    def take_chunk(self, outputs: Tensor) -> None:
        """Take the outputs of several steps, (time, batch, features)."""
        for step, output in enumerate(outputs):
            self.take(step, output)


class FusedReadout(NamedTuple):
    """The layer above, for a scan that goes through both.

    neuron: "lif", "li" or "lis".
    weight, bias: (neurons, features); (neurons,) or None.
    membrane: (batch, neurons); updated.
    constants: decay, and for "lif" the threshold.
    out: takes its outputs.
    """

    neuron: str
    weight: Tensor
    bias: Tensor | None
    membrane: Tensor
    constants: tuple[Tensor, ...]
    out: OutputSpec
