"""One step of a layer on a CPU, as one compiled call: for a live stream, where calls cost more than arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from numba import njit
from torch import Tensor

from tracetorch.kernels.cpu.arrays import grouped, per
from tracetorch.kernels.cpu.neurons import KINDS, Neurons, Outlet, run

MOST = 1 << 21
"""Products `batch × inputs × neurons` beyond which torch's threads are worth their call."""


def stepper(
    neuron: str,
    weight: Tensor,
    bias: Tensor | None,
    raw: Sequence[Tensor],
    constants: Callable[[], tuple[tuple[Tensor, ...], Tensor]],
) -> Stepper | None:
    """A `Stepper` for the layer; None if its weights lie otherwise than a layer lays them out."""
    return Stepper(neuron, weight, bias, raw, constants) if weight.t().is_contiguous() else None


class Stepper:
    """One step of a layer: everything that does not change from step to step is looked up once.

    Args:
        neuron: "lif", "li" or "lis".
        weight, bias: of the layer.
        raw: the tensors that its decays and threshold are computed from; when a number in them changes, so do those.
        constants: computes the neuron's constants and the decay of its input trace, as in `Drive`.
    """

    def __init__(
        self,
        neuron: str,
        weight: Tensor,
        bias: Tensor | None,
        raw: Sequence[Tensor],
        constants: Callable[[], tuple[tuple[Tensor, ...], Tensor]],
    ):
        self._kind, self._dtype, self._constants = KINDS[neuron], weight.dtype, constants
        self._held = [tensor for tensor in (weight, bias, *raw) if tensor is not None]
        self._known = {id(tensor) for tensor in self._held}  # held, so nothing new can take the place of one
        self._addresses = [tensor.data_ptr() for tensor in self._held]
        self._raw = [tensor.detach().numpy() for tensor in raw]
        self._raw_bytes: list[bytes] = []
        self._rows = weight.detach().t().numpy()
        neurons = weight.shape[0]
        start = weight.new_zeros(neurons) if bias is None else bias
        self._room = (np.empty((1, neurons), self._rows.dtype), np.empty(neurons, self._rows.dtype))
        self._bias = start.detach().numpy()
        self._state: tuple[Tensor, ...] | None = None
        self._most = max(1, MOST // weight.numel())

    def is_fresh(self, parameters: Iterable[Tensor | None]) -> bool:
        """Whether these, all of the layer's, are the very tensors that they were, and lie where they lay."""
        known = {id(parameter) for parameter in parameters if parameter is not None} == self._known
        return known and [tensor.data_ptr() for tensor in self._held] == self._addresses

    def takes(self, x: Tensor) -> bool:
        """Whether this is the better way for such an input."""
        return (
            x.dtype is self._dtype
            and len(x) <= self._most
            and not x.requires_grad
            and not x.is_neg()
            and x.device.type == "cpu"
        )

    def __call__(self, x: Tensor, state: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """Args: x (batch, inputs); state (membrane, trace, steps), updated. Returns: output (batch, neurons)."""
        raw = [values.tobytes() for values in self._raw]
        if state is not self._state or raw != self._raw_bytes:
            self._look_up(state, raw)
        outputs = np.empty((1, len(x), self._rows.shape[1]), self._rows.dtype)
        _step(x.numpy(), self._rows, self._bias, self._kind, *self._arrays, outputs, *self._room)
        return torch.from_numpy(outputs[0])

    def _look_up(self, state: tuple[Tensor, Tensor, Tensor], raw: list[bytes]) -> None:
        membrane, trace, steps = state
        with torch.no_grad():
            (decay, *threshold), trace_decay = self._constants()
        neurons = self._rows.shape[1]
        constants = (per(decay, neurons), per(threshold[0] if threshold else decay, neurons))
        traces = grouped(trace, trace_decay, self._dtype)
        self._arrays = (membrane.numpy(), *constants, *traces, steps.numpy())
        self._state, self._raw_bytes = state, raw


@njit(cache=True, nogil=True)
def _step(x, rows, bias, kind, membrane, decay, threshold, traces, decays, steps, outputs, current, output):  # type: ignore[no-untyped-def]
    neurons = Neurons(kind, membrane, decay, threshold)
    nothing = np.empty((0, 0, 0), rows.dtype)
    outlet = Outlet(outputs, nothing[0:0, 0], 0, nothing, nothing[0:0, 0])
    for sample in range(x.shape[0]):
        current[0, :] = bias
        for channel in range(x.shape[1]):
            value = x[sample, channel]
            if value != 0:
                for neuron in range(rows.shape[1]):
                    current[0, neuron] += value * rows[channel, neuron]
        for group in range(traces.shape[0]):
            for channel in range(x.shape[1]):
                kept = decays[group, channel] * traces[group, sample, channel]
                traces[group, sample, channel] = kept + x[sample, channel]
        run(neurons, current, sample, output, outlet)
        steps[sample, 0] += 1
