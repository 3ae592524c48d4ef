"""The base of all layers: an input trace and a state; a neuron says what happens in a step and on average."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from tracetorch import functional as F
from tracetorch import kernels
from tracetorch.encode import Stream
from tracetorch.nn.parameters import LayerParameters
from tracetorch.nn.running import run_chunks


class TraceLayer(LayerParameters, ABC):
    """A synapse (weights), the trace of its input, and the state of its neurons.

        i = W·x + b,    output, state = step(i, state),    t ← d·t + x        at every step, without a graph
        ā = t(1 − d)/(1 − dⁿ),  average_output(W·ā + b, n)                    at a learning moment, with one

    A neuron is a final subclass with `state_type`, `step` and `average_output`; it may override `scan` with a kernel.

    Args:
        in_features, out_features: how many inputs and neurons.
        decay: β of the membrane per step, in (0, 1). A number; or several: one for each neuron (needs a free
            `trace_decay`), or one for each of a few equal groups of neurons.
        trace_decay: "membrane" ties the trace to the membrane's decay, which is the exact case; a number, or one
            for each input, sets it free. Groups of neurons that are tied keep one trace each.
        bias: whether a steady current is added to each neuron.
        learn: which of the layer's parameters are learnable; the others are fixed. "bias" counts only if there is one.
    Gradient: of the local graph through `average_output`; the state and the trace are facts, held constant.
    Memory: batch × (groups·in_features + out_features), independent of time.
    """

    state_type: type[Any]
    spiking: bool = False
    """Whether the outputs are spikes, so that none at all means that the layer is dead."""
    state: Any = None

    # ── what a neuron says ──────────────────────────────────────────────────────────────────────────────────────────

    @abstractmethod
    def step(self, current: Tensor, state: Any) -> tuple[Tensor, Any]:
        """What happens in one step.

        Args:
            current: (batch, out_features).
            state: this neuron's NamedTuple; leave `trace` and `steps` as they are.
        Returns: output (batch, out_features) and the next state.
        """

    @abstractmethod
    def average_output(self, current: Tensor, steps: Tensor) -> Tensor:
        """What comes out on average if the current were steady; differentiable.

        Args:
            current: average current, (batch, out_features).
            steps: how long it has been steady, (batch, 1).
        Returns: (batch, out_features).
        """

    def scan(self, currents: Tensor, state: Any) -> tuple[Tensor, Any]:
        """`step` over a chunk (time, batch, out_features); a neuron with a kernel overrides it."""
        outputs = []
        for current in currents:
            output, state = self.step(current, state)
            outputs.append(output)
        return torch.stack(outputs), state

    # ── running ─────────────────────────────────────────────────────────────────────────────────────────────────────

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """One step. Args: x (batch, in_features). Returns: output (batch, out_features). Builds no graph."""
        x = self._accept(x, "a step", 2)
        state = self.state if self.state is not None else self._initial_state(x.shape[0])
        output, state = self.step(linear(x, self.weight, self.bias), state)
        trace = F.trace_step(x, state.trace, self.trace_decay)
        self.state = state._replace(trace=trace, steps=state.steps + 1)
        return output

    @torch.no_grad()
    def advance(self, xs: Tensor) -> Tensor:
        """One chunk. Args: xs (time, batch, in_features). Returns: (time, batch, out_features). Builds no graph."""
        xs = self._accept(xs, "a chunk", 3)
        state = self.state if self.state is not None else self._initial_state(xs.shape[1])
        outputs, state = self.scan(linear(xs, self.weight, self.bias), state)
        trace = kernels.trace_scan(xs, state.trace, self.trace_decay)
        self.state = state._replace(trace=trace, steps=state.steps + len(xs))
        return outputs

    def run(
        self, xs: Tensor | Stream, *, reduce: str | None = None, window: int | None = None, chunk: int | None = None
    ) -> Tensor:
        """Many steps; see `Sequential.run`."""
        width = max(self.in_features, self.out_features)
        return run_chunks(self.advance, xs, reduce=reduce, window=window, width=width, chunk=chunk)

    # ── learning ────────────────────────────────────────────────────────────────────────────────────────────────────

    def average_input(self) -> Tensor:
        """The weighted mean of all input since the last reset, recent steps weighing more: (…, batch, in_features).

        Raises: RuntimeError before the first step.
        """
        if self.state is None:
            raise RuntimeError(f"{self} has seen no input: call net(x) or net.run(xs) before net.backward(signal)")
        return F.average_input(self.state.trace, self.trace_decay, self.state.steps)

    @torch.enable_grad()
    def backward(self, signal: Tensor) -> Tensor:
        """Learn: add the gradient to every learnable parameter's `.grad`.

        Args: signal: dL/d average output, (batch, out_features).
        Returns: dL/d average input, (batch, in_features): the learning signal for what lies below.
        """
        average = self.average_input()
        if signal.shape != (average.shape[-2], self.out_features):
            wanted = (average.shape[-2], self.out_features)
            raise ValueError(f"{self} expects a signal of shape {wanted}, got {tuple(signal.shape)}")
        if not average.requires_grad:
            average.requires_grad_()
        output = self.average_output(self._average_current(average), self.state.steps)
        learnable = [parameter for parameter in self.parameters() if parameter.requires_grad]
        below, *gradients = torch.autograd.grad(
            output, [average, *learnable], signal.to(output.dtype), allow_unused=True
        )
        for parameter, gradient in zip(learnable, gradients, strict=True):
            if gradient is not None:
                parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
        return below if self.groups == 1 else below.sum(dim=0)

    def _average_current(self, average: Tensor) -> Tensor:
        if self.groups == 1:
            return linear(average, self.weight, self.bias)
        weight = self.weight.view(self.groups, -1, self.in_features)
        current = torch.einsum("gbi,goi->bgo", average, weight).flatten(1)
        return current if self.bias is None else current + self.bias

    # ── state ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def reset(self) -> None:
        """Forget: membrane, trace and the number of steps seen."""
        self.state = None

    def save_state(self) -> dict[str, Tensor]:
        """The state as named tensors (copies); empty before the first step. It is no part of `state_dict`."""
        return {} if self.state is None else {name: value.clone() for name, value in self.state._asdict().items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take up a state that `save_state` gave. Raises: ValueError if it is not one of this layer's."""
        if state and set(state) != set(self.state_type._fields):
            raise ValueError(f"{self} keeps {', '.join(self.state_type._fields)}, got {', '.join(state)}")
        if state:
            wanted = self._initial_state(state["steps"].shape[0])
            for name, value in state.items():
                shape = tuple(getattr(wanted, name).shape)
                if value.shape != shape:
                    raise ValueError(f"{self} cannot take a {name} of shape {tuple(value.shape)}: it keeps {shape}")
        weight = self.weight
        dtypes = {name: value.dtype if name == "steps" else weight.dtype for name, value in state.items()}
        moved = {name: value.to(weight.device, dtypes[name], copy=True) for name, value in state.items()}
        self.state = self.state_type(**moved) if state else None

    def _initial_state(self, batch: int) -> Any:
        trace = (self.groups, batch, self.in_features) if self.groups > 1 else (batch, self.in_features)
        shapes = dict.fromkeys(self.state_type._fields, (batch, self.out_features)) | {"trace": trace}
        state = self.state_type(**{name: self.weight.new_zeros(shape) for name, shape in shapes.items()})
        return state._replace(steps=torch.zeros(batch, 1, dtype=torch.int64, device=self.weight.device))

    # ── checks ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _accept(self, x: Tensor, what: str, ndim: int) -> Tensor:
        if x.ndim != ndim or x.shape[-1] != self.in_features:
            axes = ", ".join((["time"] if ndim == 3 else []) + ["batch", str(self.in_features)])
            raise ValueError(f"{self} expects {what} of shape ({axes}), got {tuple(x.shape)}")
        if self.state is not None and self.state.steps.shape[0] != x.shape[-2]:
            batch = self.state.steps.shape[0]
            raise ValueError(f"{self} holds a state of batch {batch}, got batch {x.shape[-2]}: call net.reset() first")
        return x.to(self.weight.dtype)
