"""The state of a layer, without a graph: its neurons' state, the trace of its input, and the number of steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor


class LayerState(NamedTuple):
    """The state of a layer; kernels update its tensors in place."""

    neuron: Any  # a NamedTuple of tensors, (batch, *features) each, such as `MembraneState`
    trace: Tensor  # t ← d·t + x, a sum, not a mean: (batch, *in_shape), or (groups, batch, inputs)
    trace_sensitivity: Tensor  # (followers, batch, *in_shape): ∂trace/∂decay if it is kept, then the bank's traces
    steps: Tensor  # (batch, 1), integers: steps since the last reset

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return (*self.neuron, self.trace, self.trace_sensitivity, self.steps)

    def map(self, function: Callable[[Tensor], Tensor]) -> LayerState:
        neuron = type(self.neuron)(*map(function, self.neuron))
        return LayerState(neuron, *map(function, self[1:]))

    def copy(self) -> LayerState:
        """A contiguous copy, as the kernels need it."""
        return self.map(lambda value: value.clone(memory_format=torch.contiguous_format))

    def of_sample(self, sample: int) -> Tensor:
        """A copy of one sample's membrane, (neurons,); without a membrane, of the state's first tensor."""
        membrane: Tensor = getattr(self.neuron, "membrane", self.neuron[0])[sample]
        return membrane.flatten().clone()

    def named(self) -> dict[str, Tensor]:
        """The tensors by name: those of the neuron's state, then "trace", "trace_sensitivity", "steps"."""
        return {**self.neuron._asdict(), **dict(zip(self._fields[1:], self[1:], strict=True))}


def from_named(state_type: type[Any], named: Mapping[str, Tensor]) -> LayerState:
    """The inverse of `LayerState.named`."""
    neuron = state_type(*(named[name] for name in state_type._fields))
    return LayerState(neuron, named["trace"], named["trace_sensitivity"], named["steps"])


def per_sample(steps: Tensor, dims: int) -> Tensor:
    """Steps, (batch, 1), shaped to broadcast against values with `dims` dimensions after the batch."""
    return steps if dims == 1 else steps.view(-1, *[1] * dims)


def check_saved(state: Any) -> None:
    """Raises: TypeError unless `state` is a mapping with names as keys, as from `save_state`."""
    if not isinstance(state, Mapping) or not all(isinstance(name, str) for name in state):
        raise TypeError(f"load_state takes the result of save_state, tensors by name, got {type(state).__name__}")
