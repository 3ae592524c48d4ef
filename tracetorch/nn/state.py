"""What a layer remembers: a NamedTuple of tensors that is updated in place; readers get copies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tracetorch.kernels import Trace
from tracetorch.modes import check_tensor, unaffected
from tracetorch.nn.parameters import LayerParameters


class LayerState(LayerParameters):
    """The state of a layer; see `TraceLayer` for what it is, and for the arguments.

    Kernels write into the tensors of a state. Whoever reads `layer.state` may keep what it got: the layer goes on with
    copies of its own.
    """

    state_type: type[Any]
    _state: Any = None
    _spare: Any = None
    _lent = False
    state_changes = 0
    """How often the state was forgotten or replaced: with its number of steps, what an output of it is valid for."""

    @property
    def state(self) -> Any:
        """The state, or None before the first step and after `reset`: a `state_type` of tensors, without a graph."""
        self._lent = True
        return self._state

    @state.setter
    def state(self, state: Any) -> None:
        if state is not None:
            self._check_state(state._asdict())
        self._put(_state=state, _lent=True, state_changes=self.state_changes + 1)

    @property
    def present(self) -> Any:
        """The state itself, which goes on changing; for who writes nothing."""
        return self._state

    def copy_state(self, batch: int) -> Any:
        """A copy of the state, or zeros before the first step: for who runs the neurons otherwise than the layer does.

        Raises: ValueError if the state is that of another batch.
        """
        return self.state_type(*map(_copy, self.own_state(batch)))

    def reset(self, lanes: Tensor | None = None) -> None:
        """Forget: membrane, trace and the number of steps seen.

        Args: lanes: of which samples alone, bool (batch,); of all, and how many they were, if None.
        Raises: ValueError if they are not as many as the state is of.
        """
        if lanes is not None:
            self._forget(lanes)
            return
        # Its memory serves the next state, and what was looked up in it stays right.
        spare = self._spare if self._state is None or self._lent else self._state
        self._put(_state=None, _spare=spare, state_changes=self.state_changes + 1)

    def _put(self, **values: Any) -> None:
        """Set what is no parameter and no module: `Module` would first look whether it is one, and takes its time."""
        self.__dict__.update(values)

    def _forget(self, lanes: Tensor) -> None:
        check_tensor(lanes, "lanes")
        if self._state is None:
            return
        batch = self._state.steps.shape[0]
        if lanes.dtype != torch.bool or lanes.shape != (batch,):
            got = f"{lanes.dtype} of shape {tuple(lanes.shape)}"
            raise ValueError(
                f"{self} holds a state of batch {batch}: lanes are torch.bool of shape ({batch},), got {got}"
            )
        for value in self.own_state(batch):
            value.masked_fill_(lanes[:, None], 0)
        self._put(state_changes=self.state_changes + 1)

    def save_state(self) -> dict[str, Tensor]:
        """The state as named tensors (copies); empty before the first step. It is no part of `state_dict`."""
        return {} if self._state is None else {name: value.clone() for name, value in self._state._asdict().items()}

    @unaffected
    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take up a state that `save_state` gave. Raises: ValueError if it is not one of this layer's."""
        check_saved(state)
        if not state:
            self.state = None
            return
        self._check_state(state)
        weight = self.weight
        dtypes = {name: value.dtype if name == "steps" else weight.dtype for name, value in state.items()}
        moved = {name: _copy(value.to(weight.device, dtypes[name])) for name, value in state.items()}
        self.state = self.state_type(**moved)

    @unaffected
    def own_state(self, batch: int) -> Any:
        """The state to write into: a new one, or a copy if the present one was handed out.

        Raises: ValueError if it is that of another batch.
        """
        state = self._state
        if state is None:
            state = self._blank_state(batch)
            self._put(_state=state)
        elif state.steps.shape[0] != batch:
            held = state.steps.shape[0]
            raise ValueError(f"{self} holds a state of batch {held}, got batch {batch}: call net.reset() first")
        elif state.trace.dtype != self.weight.dtype or state.trace.device != self.weight.device:
            self.load_state(state._asdict())
            state = self._state
        elif self._lent:
            state = self.state_type(*map(_copy, state))
            self._put(_state=state)
        self._put(_lent=False)
        return state

    def trace_of(self, state: Any) -> Trace:
        """The trace of the input as the kernels take it, in the very memory of this state."""
        second = (state.second, self.second_decay) if self.seconds else (None, None)
        return Trace(state.trace, self.trace_decay, *second)

    def _blank_state(self, batch: int) -> Any:
        """All zeros, in the memory of the state that was forgotten last if that fits."""
        spare, weight = self._spare, self.weight
        self._put(_spare=None)
        fits = spare is not None and spare.steps.shape[0] == batch
        if not fits or spare.trace.dtype != weight.dtype or spare.trace.device != weight.device:
            return self._initial_state(batch)
        for value in spare:
            value.zero_()
        return spare

    def _check_state(self, state: dict[str, Tensor]) -> None:
        """Raises: ValueError unless these are what the layer keeps, in the shapes in which it does."""
        if set(state) != set(self.state_type._fields):
            raise ValueError(f"{self} keeps {', '.join(self.state_type._fields)}, got {', '.join(state)}")
        for name, value in state.items():
            check_tensor(value, name)
        wanted = self._initial_state(state["steps"].shape[0])
        for name, value in state.items():
            shape = tuple(getattr(wanted, name).shape)
            if value.shape != shape:
                raise ValueError(f"{self} cannot take a {name} of shape {tuple(value.shape)}: it keeps {shape}")

    def _initial_state(self, batch: int) -> Any:
        trace = (self.groups, batch, self.in_features) if self.groups > 1 else (batch, self.in_features)
        shapes: dict[str, tuple[int, ...]] = dict.fromkeys(self.state_type._fields, (batch, self.out_features))
        shapes |= {"trace": trace, "second": (self.seconds, batch, self.in_features)}
        state = self.state_type(**{name: self.weight.new_zeros(shape) for name, shape in shapes.items()})
        return state._replace(steps=torch.zeros(batch, 1, dtype=torch.int64, device=self.weight.device))


def check_saved(state: Any) -> None:
    """Raises: TypeError for what `save_state` never gives."""
    if not isinstance(state, Mapping) or not all(isinstance(name, str) for name in state):
        raise TypeError(f"load_state takes what save_state gave, tensors by name, got {type(state).__name__}")


def _copy(value: Tensor) -> Tensor:
    """In the order in which kernels read it, whatever that of the original is."""
    return value.clone(memory_format=torch.contiguous_format)
