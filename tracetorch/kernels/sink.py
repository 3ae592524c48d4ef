"""Where the outputs of a scan go: to the layer above, to the reader, or to a sum; and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from tracetorch.kernels.trace import Trace


@dataclass
class Sink:
    """What is done with every output as soon as it is there, so that no more than is asked for is kept.

    outputs: (time, batch, features); each step is written here. bool if they are spikes for the layer above.
    total: (batch, features), float64 where the device has it; every step from `first` on is added.
    trace: the input trace of the layer above, which takes every step.
    onward: a layer that every output goes on to in the same scan, and is not kept; for kernels that can, see
        `kernels.goes_on`.
    fired: afterwards, how many spikes there were, if the kernel counted them.
    """

    outputs: Tensor | None = None
    total: Tensor | None = None
    first: int = 0
    trace: Trace | None = None
    onward: Onward | None = None
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


class Onward(NamedTuple):
    """The layer above, for a scan that goes through both.

    neuron: "lif", "li" or "lis".
    weight, bias: (neurons, features); (neurons,) or None.
    membrane: (batch, neurons); updated.
    constants: decay, and for "lif" the threshold.
    sink: takes its outputs.
    """

    neuron: str
    weight: Tensor
    bias: Tensor | None
    membrane: Tensor
    constants: tuple[Tensor, ...]
    sink: Sink
