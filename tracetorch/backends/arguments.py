"""The arguments of a scan: the input and its weights, the traces, and where the outputs go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tracetorch import functional as F
from tracetorch.backends.rng import LazySpikes


class TraceBuffers(NamedTuple):
    """The trace of a layer's input; kernels update it in place.

    values: t ← d·t + x, (batch, inputs); or (traces, batch, inputs) for several traces of the same input.
    decay: d, a number or (inputs,); for several traces (traces, 1, 1) or (traces, 1, inputs).
    sensitivity: e ← c·e + t with t before the step, (sensitivities, batch, inputs), or None. Number k follows
        trace k modulo traces. With c = d it is ∂t/∂d; the others belong to a bank.
    sensitivity_decay: c, (sensitivities, 1, 1) or (sensitivities, 1, inputs).
    sums: Σ x of stretches of time, (stretches, batch, inputs), or None. Only the CPU's kernels add it up.
    stretch: of each step, (time,).
    """

    values: Tensor
    decay: Tensor
    sensitivity: Tensor | None = None
    sensitivity_decay: Tensor | None = None
    sums: Tensor | None = None
    stretch: Tensor | None = None

    def take(self, x: Tensor) -> None:
        """One step, in plain torch. Args: x: (batch, inputs)."""
        values, decay, sensitivity, sensitivity_decay = self[:4]
        if sensitivity is not None and sensitivity_decay is not None:
            several = values if values.ndim == 3 else values[None]
            followed = several[[at % len(several) for at in range(len(sensitivity))]]
            sensitivity.copy_(F.trace_step(followed, sensitivity, sensitivity_decay))
        values.copy_(F.trace_step(x, values, decay))


@dataclass
class Columns:
    """Buffer for transposed weights, (inputs, neurons).

    lasting: whether the weights stay constant for several chunks. filled: whether `values` are the present weights.
    """

    values: Tensor
    lasting: bool = False
    filled: bool = False

    def of(self, weight: Tensor) -> Tensor:
        """The transposed weights. Args: weight: (neurons, inputs)."""
        if not self.filled:
            self.values.copy_(weight.t())
            self.filled = self.lasting
        return self.values


class SynapticInput(NamedTuple):
    """A chunk of input and its weights; a scan computes the currents `W·x + b` in the fastest way.

    xs: (time, batch, inputs); bool if they are spikes. Or spikes yet to be drawn.
    weight, bias: (neurons, inputs); (neurons,) or None. Without a weight, `xs` are the currents, (time, batch,
        neurons), and their input is already in the trace.
    precision: dtype of the factors of the product. bfloat16 holds spikes exactly and rounds the weights; products are
        summed in float32, and the sum is rounded to bfloat16 where the device returns no float32.
    trace: the layer's input trace; None if it contains the input already. A backend may use its own type.
    fired: number of spikes in `xs`, if they were counted.
    columns: buffer for the transposed weights.
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
        """Dtype of the currents."""
        return self.xs.dtype if self.weight is None else self.weight.dtype


class SlopeSums(NamedTuple):
    """Where a scan adds up the variables of its neurons over the steps of a stretch, or writes those of each step.

    sums: (stretches, batch, quantities, neurons). Quantities of LIF neurons: the first 1, 3 or 5 of ψ, ψ·u, spikes, ψ·m
        and m. Of others: m. Here m is the membrane before the step, u the one before the reset, and ψ the derivative
        of a spike with respect to (u − θ)/θ.
    stretch: of each step, (time,). None: each step is a stretch of its own, and overwrites the sums.
    surrogate: a `Surrogate` with a compiled derivative, ψ; only read by LIF neurons. None: u in place of ψ.
    """

    sums: Tensor
    stretch: Tensor | None
    surrogate: Any


@dataclass
class OutputSpec:
    """The buffers to which every output goes. Nothing else is kept.

    outputs: (time, batch, features); bool if they are spikes for the layer above.
    total: (batch, features), the sum over the steps from `first` on; float64 where the device has it.
    trace: the input trace of the layer above.
    readout: a layer that takes every output in the same scan; see `dispatch.fuses_readout`.
    fired: set to the number of spikes, if the kernel counts them.
    slopes: sums over stretches of time. Only the CPU's kernels add them up; see `dispatch.sums_slopes`.
    """

    outputs: Tensor | None = None
    total: Tensor | None = None
    first: int = 0
    trace: TraceBuffers | None = None
    readout: FusedReadout | None = None
    fired: int | None = None
    slopes: SlopeSums | None = None

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
    """The layer above, for one scan that runs both layers."""

    neuron: str  # a name in `reference.NEURONS`
    weight: Tensor  # (neurons, features)
    bias: Tensor | None  # (neurons,)
    membrane: Tensor  # (batch, neurons); updated
    constants: tuple[Tensor, ...]  # decay, and of spiking neurons the threshold
    out: OutputSpec  # takes its outputs
