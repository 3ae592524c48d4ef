"""A step, or a short chunk, of small layers on a CPU, where calls cost more than arithmetic."""

from collections.abc import Callable, Sequence
from operator import is_
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook

from tracetorch.backends import reference
from tracetorch.backends.arguments import Columns, OutputSpec, SynapticInput, TraceBuffers
from tracetorch.backends.cpu import compiled
from tracetorch.backends.cpu.compiled import OutputArrays, TraceArrays
from tracetorch.backends.cpu.scan import (
    empty_arrays,
    neurons_of,
    no_slopes,
    outputs_of,
    readout_of,
    scan_layer,
    traces_of,
)
from tracetorch.backends.cpu.threads import flushed
from tracetorch.backends.dispatch import WIDE

MOST_ROWS = 1 << 12
"""Steps × samples of the largest chunk for which lookups and checks take about as long as the arithmetic."""

FEW_WEIGHTS = 1 << 12
"""Up to this many weights are read without a transposed copy, which would not be faster."""

_optimizer_steps = [0]


@register_optimizer_step_post_hook
def _count(*_: Any) -> None:
    """Counts the steps of all optimizers: torch's fused ones change a weight without changing its `_version`."""
    _optimizer_steps[0] += 1


_address = Tensor.data_ptr


class CompiledStep:
    """One step of a layer: everything that does not change from step to step is looked up once.

    A step adds the weights of active inputs only. Above `FEW_WEIGHTS` weights, it reads a transposed copy. The copy is
    updated after a change of `weight._version`, after an optimizer's step, and when a state is bound, as after `reset`.
    Until then, a write through `weight.data` or NumPy has no effect.

    Args:
        neuron: a name in `reference.NEURONS`.
        raw: the tensors from which its constants are computed.
        constants: function from a state to the neuron's constants and the input trace.
        parts: the layer's neurons and all its parameters.
        most: largest batch that it takes.
    """

    def __init__(
        self,
        neuron: str,
        weight: Tensor,
        bias: Tensor | None,
        raw: Sequence[Tensor],
        constants: Callable[[Any], tuple[tuple[Tensor, ...], TraceBuffers]],
        parts: tuple[Any, ...],
        most: int,
    ):
        self._neuron, self._dtype, self._constants = neuron, weight.dtype, constants
        self._tensors = [tensor for tensor in (weight, bias, *raw) if tensor is not None]
        self._parts = parts  # kept alive, so that no new object gets the address of one of them
        self._addresses = [tensor.data_ptr() for tensor in self._tensors]
        self._weight_layout = weight, weight.shape, weight.stride()
        self._raw = [tensor.detach().numpy() for tensor in raw]
        self._raw_bytes: list[bytes] = []
        self._weight, self._bias_tensor = weight.detach(), bias
        self._columns = self._weight.numpy().T
        self._rows = np.empty_like(self._columns, order="C")
        self._columns_buffer = Columns(torch.from_numpy(self._rows))
        self._is_small = weight.numel() <= FEW_WEIGHTS
        self._copied: Any = None
        self._neurons, self._inputs = weight.shape
        start = weight.new_zeros(self._neurons) if bias is None else bias
        self._current = np.empty((1, 1, self._neurons), self._rows.dtype)
        self._bias = start.detach().numpy()
        self.state: Any = None
        self._most = most

    def is_fresh(self, parts: tuple[Any, ...]) -> bool:
        """Whether these are the same parts, in the same memory."""
        if len(parts) != len(self._parts) or not all(map(is_, parts, self._parts)):
            return False
        weight, shape, strides = self._weight_layout  # a weight that was transposed or sliced has the same address
        return (
            [*map(_address, self._tensors)] == self._addresses and weight.shape == shape and weight.stride() == strides
        )

    def takes(self, x: Tensor) -> bool:
        """Whether the compiled step accepts this input."""
        return (
            x.dtype is self._dtype
            and len(shape := x.shape) == 2
            and shape[1] == self._inputs
            and shape[0] <= self._most
            and not (x.requires_grad or x.is_neg())
            and x.device.type == "cpu"
        )

    def __call__(self, x: Tensor) -> Tensor:
        """One step of the state that was bound. Args: x (batch, inputs). Returns: output (batch, neurons)."""
        if [raw.tobytes() for raw in self._raw] != self._raw_bytes:
            self.bind(self.state)
        rows = self._columns if self._is_small else self._transposed()
        outputs = np.empty((1, x.shape[0], self._neurons), rows.dtype)
        flushed(compiled.step_layer, x.numpy()[None], rows, self._bias, *self._arrays, outputs, self._current)
        return torch.from_numpy(outputs[0])

    def refresh(self) -> None:
        """Compute the constants again if their raw values have changed."""
        if [raw.tobytes() for raw in self._raw] != self._raw_bytes:
            self.bind(self.state)

    def _transposed(self) -> np.ndarray:
        version = None if self._weight.is_inference() else (self._weight._version, _optimizer_steps[0])
        if version is None or version != self._copied:
            torch.from_numpy(self._rows).copy_(self._weight.t())
            self._copied = version
        return self._rows

    def bind(self, state: Any) -> None:
        """Look up the memory of a state, which the next steps update, and the constants."""
        self.state, self._copied = state, None
        with torch.no_grad():
            constants, trace = self._constants(state)
        self._raw_bytes = [raw.tobytes() for raw in self._raw]
        self._traces = traces_of(trace, self._dtype)
        self._neuron_arrays = neurons_of(self._neuron, state.neuron.membrane, constants)
        self._arrays = (*self._neuron_arrays, self._traces, state.steps.numpy())


def pass_through(layers: Sequence[CompiledStep], xs: Tensor, out: OutputSpec) -> bool:
    """Run a short chunk, (time, batch, inputs), through layers of few neurons that are bound to their states.

    Returns: True; or False, without any effect, for other layers or input.
    """
    first, dtype = layers[0], xs.dtype
    if xs.device.type != "cpu" or len(xs) * xs.shape[1] > MOST_ROWS:
        return False
    if any(layer._neurons >= WIDE or layer._dtype is not dtype for layer in layers):
        return False
    trace: TraceArrays | None = first._traces
    fired, steps, last, no_readout = None, len(xs), layers[-1], readout_of(None, dtype)
    for at, layer in enumerate(layers):
        synaptic = SynapticInput(xs, layer._weight, layer._bias_tensor, dtype, trace, fired, layer._columns_buffer)
        if layer is last:
            through = outputs_of(out, dtype)
        else:
            xs = torch.empty(*xs.shape[:2], layer._neurons, dtype=dtype)
            through = OutputArrays(
                xs.numpy(), empty_arrays(torch.float64)[1], 0, layers[at + 1]._traces, no_slopes(dtype)
            )
        count = scan_layer(synaptic, layer._neuron_arrays, through, no_readout)
        np.add(layer._arrays[5], steps, out=layer._arrays[5])
        fired, trace = count if layer._neuron in reference.SPIKING else None, None
    return True
