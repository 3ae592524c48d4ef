"""The base of all layers: an input trace and a state; a neuron says what happens in a step and on average."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tracetorch import functional as F
from tracetorch import kernels
from tracetorch.encode import Stream
from tracetorch.kernels import Draws, Drive, Sink, Trace
from tracetorch.modes import check_tensor, unaffected
from tracetorch.nn import learning
from tracetorch.nn.autograd import with_gradient
from tracetorch.nn.gradients import accumulate
from tracetorch.nn.graph import StepGraph
from tracetorch.nn.learning import At
from tracetorch.nn.running import run_chunks, source_of
from tracetorch.nn.state import LayerState


class TraceLayer(LayerState, ABC):
    """A synapse (weights), the trace of its input, and the state of its neurons.

        i = W·x + b,    output, state = step(i, state),    t ← d·t + x        at every step, without a graph
        ā = t(1 − d)/(1 − dⁿ),  average_output(W·ā + b, n)                    at a learning moment, differentiated

    A neuron is a final subclass with `state_type`, `step` and `average_output`; it may override `scan` with a kernel.

    Args:
        in_features, out_features: how many inputs and neurons.
        decay: β of the membrane per step, in (0, 1). A number; or several: one for each neuron (needs a free
            `trace_decay`), or one for each of a few equal groups of neurons.
        trace_decay: "membrane" ties the trace to the membrane's decay, which is the exact case; a number, or one
            for each input, sets it free. Groups of neurons that are tied keep one trace each.
        bias: whether a steady current is added to each neuron.
        learn: which of the layer's parameters are learnable; the others are fixed. "bias" counts only if there is one.
        decay_gradient: "exact" lets the decay that the trace follows learn from how the trace depends on it, which a
            trace of the trace accumulates, `e ← d·e + t`; "stationary" takes the trace for a fact.
        bank: decays of further traces of the trace, `e ← c·e + t`; see `nn.bank` for what a layer learns from them.
    Gradient: of the local graph through `average_output`; the state is a fact, held constant, and so is the trace, but
        for its dependence on its decay. A membrane's decay to which no trace is tied has a stationary gradient.
    Memory: batch × (groups·in_features + out_features), independent of time; twice the traces if their decays learn,
        and as much again for each decay in the bank, whether or not the rule makes use of them; `rules.Trace` does.
    Time: O(batch × in_features × out_features) for a step and for a learning moment, less where few inputs fire.
    Source: docs/how-it-learns.md.
    """

    spiking: bool = False
    """Whether the outputs are spikes: 0 and 1, so that none at all means that the layer is dead."""

    decays_alone = False
    """Whether a step passes on to the next only the membrane, times `decay`, less what a spike takes from it."""

    surrogate: F.Surrogate | None = None  # for `functional.lif_step`; set by rules that go back through time

    # ── what a neuron says ──────────────────────────────────────────────────────────────────────────────────────────

    @abstractmethod
    def step(self, current: Tensor, state: Any) -> tuple[Tensor, Any]:
        """What happens in one step.

        Args:
            current: (batch, out_features).
            state: this neuron's NamedTuple; leave `trace`, `second` and `steps` as they are.
        Returns: output (batch, out_features) and the next state.
        """

    @abstractmethod
    def average_output(self, current: Tensor, steps: Tensor) -> Tensor:
        """What comes out on average if the current were steady; differentiable, and not by way of weight or bias.

        Args:
            current: average current, (batch, out_features).
            steps: how long it has been steady, (batch, 1).
        Returns: (batch, out_features).
        """

    def average_logits(self, current: Tensor, steps: Tensor) -> Tensor:
        """What the average output is the softmax of, where it is one; as `average_output`."""
        raise ValueError(f"{self} has no logits: give it a signal at its output")

    _precision: torch.dtype | None = None
    _stepper: Any = None
    _columns: Tensor | None = None
    _graph: StepGraph | None = None
    kernel: str | None = None
    """Name of the compiled neuron that does what `step` does: "lif", "li" or "lis"; only `step` does it, if None.

    Its constants then come from parameters whose names begin with `raw_`, so that a change in them is noticed."""

    @property
    def constants(self) -> tuple[Tensor, ...]:
        """What the compiled neuron needs to know: its decay, and what else it takes."""
        return (self.decay,)

    def scan(self, drive: Drive, state: Any, sink: Sink) -> None:
        """`step` over a chunk of time.

        Args:
            drive: what the currents come from; `kernels.currents(drive)` makes them, (time, batch, out_features).
            state: before the chunk; its tensors, without the traces and `steps`, are overwritten with those after it.
            sink: takes the output of every step.
        """
        if self.kernel:
            kernels.scan(self.kernel, drive, state.membrane, self.constants, sink)
            return
        after = state
        for step, current in enumerate(kernels.currents(drive)):
            output, after = self.step(current, after)
            sink.take(step, output)
        # Copied first, because a neuron may keep an old tensor under a new name.
        for before, value in zip(state, [value.clone() for value in after], strict=True):
            before.copy_(value)

    @property
    def scans_as_usual(self) -> bool:
        """Whether a compiled neuron does all that `scan` does, so that another scan may take its part."""
        return self.kernel is not None and type(self).scan is TraceLayer.scan

    # ── running ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def forward(self, x: Tensor) -> Tensor:
        """One step. Args: x (batch, in_features). Returns: output (batch, out_features), with one node of autograd.

        The node's backward pass is the local gradient: see `nn.autograd`. No node under `torch.no_grad()`.
        """
        if torch.is_grad_enabled():
            return with_gradient(self, partial(self._step, x.detach() if isinstance(x, Tensor) else x), x)
        return self._step(x)

    def _step(self, x: Tensor) -> Tensor:
        stepper = self._stepper
        if stepper is not None and stepper.takes(x) and stepper.is_fresh(self._parameters.values()):
            state = self._state
            if self._lent or state is None or state is not stepper.state or state.steps.shape[0] != x.shape[0]:
                stepper.bind(self.own_state(x.shape[0]))
            return stepper(x)
        return self._step_anew(x)

    @unaffected
    def _step_anew(self, x: Tensor) -> Tensor:
        """A step without anything looked up before; what can be is, for the next."""
        self.check_step(x)
        if self.weight.is_cuda and self.kernel:
            self._graph = self._graph or StepGraph(self)
            return self._graph(x, [self])
        if self.kernel and self.product_dtype == self.weight.dtype:
            if self._stepper is None or not self._stepper.is_fresh(self._parameters.values()):
                self._stepper = kernels.stepper(self.kernel, self.weight, self.bias, self._raw(), self._constants_of)
            if self._stepper is not None and self._stepper.takes(x):
                self._stepper.bind(self.own_state(x.shape[0]))
                return self._stepper(x)
        output = self.weight.new_empty(1, x.shape[0], self.out_features)
        self.advance(x[None], Sink(outputs=output))
        return output[0]

    @property
    def chain(self) -> list[TraceLayer]:
        """This layer, as the only one of a network."""
        return [self]

    def own_parameters(self) -> Iterable[torch.nn.Parameter]:
        """All parameters; faster than `parameters()` where no module lies within."""
        return (value for _, value in learning.parameters_of(self))

    def check_step(self, x: Tensor) -> None:
        """Raises: ValueError unless x has the shape of one step, and lies where the weights do."""
        check_tensor(x, str(self))
        if x.ndim != 2 or x.shape[1] != self.in_features:
            raise ValueError(f"{self} expects a step of shape (batch, {self.in_features}), got {tuple(x.shape)}")
        self.check_place(x.device)

    def check_place(self, device: torch.device) -> None:
        shape = tuple(self.weight.shape)
        if shape != (self.out_features, self.in_features):
            raise ValueError(f"{self} needs a weight of shape {(self.out_features, self.in_features)}, got {shape}")
        if device != self.weight.device:
            raise ValueError(f"{self} is on {self.weight.device}, and its input on {device}: move one of them with .to")

    def _raw(self) -> list[Tensor]:
        return [value for name, value in self.named_parameters(recurse=False) if name.startswith("raw_")]

    def _constants_of(self, state: Any) -> tuple[tuple[Tensor, ...], Trace]:
        return self.constants, self.trace_of(state)

    def __getstate__(self) -> dict[str, Any]:
        """Without what holds addresses of this layer's memory: a copy finds its own.

        The state is lent to the copy, so that either goes on with one of its own: torch sends a tensor to another
        process by sharing its memory. Parameters are shared there, as those of any module.
        """
        self._put(_lent=True)
        own: dict[str, Any] = {"_stepper": None, "_graph": None, "_spare": None, "_columns": None}
        return self.__dict__ | own

    @torch.no_grad()
    def advance(self, xs: Tensor | Draws, sink: Sink) -> None:
        """One chunk, (time, batch, in_features); `sink` takes the outputs. Builds no graph."""
        self.emit(self.driven_by(xs), sink)

    def driven_by(self, xs: Tensor | Draws) -> Drive:
        """Input from outside, (time, batch, in_features), on its way in: through the trace and the weights."""
        size = xs.size if isinstance(xs, Draws) else tuple(xs.shape)
        if len(size) != 3 or size[2] != self.in_features:
            raise ValueError(f"{self} expects a chunk of shape (time, batch, {self.in_features}), got {tuple(size)}")
        self.check_place(xs.samples.device if isinstance(xs, Draws) else xs.device)
        state = self.own_state(size[1])
        xs = xs.to(self.weight.dtype) if isinstance(xs, Tensor) else xs
        return self.drive_of(xs, trace=self.trace_of(state))

    def drive_of(self, xs: Tensor | Draws, *, trace: Trace | None = None, fired: int | None = None) -> Drive:
        """A chunk of input and the weights that it meets."""
        weight, columns = self.weight, self._columns
        if weight.device.type == "cpu" and (
            columns is None or columns.dtype != weight.dtype or columns.shape != (self.in_features, self.out_features)
        ):
            columns = weight.new_empty(self.in_features, self.out_features)
            self._put(_columns=columns)
        return Drive(xs, weight, self.bias, self.product_dtype, trace, fired, columns)

    def emit(self, drive: Drive, sink: Sink) -> None:
        """Everything that the layer does with a chunk: trace, currents, membranes, and outputs into the sink."""
        steps, batch, _ = drive.size
        state = self.own_state(batch)
        self.scan(drive, state, sink)
        state.steps.add_(steps)

    def run(
        self, xs: Tensor | Stream, *, reduce: str | None = None, window: int | None = None, chunk: int | None = None
    ) -> Tensor:
        """Many steps; see `Sequential.run`."""
        run = partial(run_chunks, [self], self, xs, reduce=reduce, window=window, chunk=chunk)
        return with_gradient(self, run, source_of(xs))

    @property
    def precision(self) -> torch.dtype | None:
        """Dtype of the factors of the forward matrix product; that of the weights, if None.

        In torch.bfloat16 spikes are exact and weights are rounded; membranes, traces and learning stay as they are. A
        dense product on a CPU also rounds each current, once, because it cannot give its float32 sums otherwise.
        """
        return self._precision

    @precision.setter
    def precision(self, dtype: torch.dtype | None) -> None:
        if dtype not in (None, torch.float32, torch.float64, torch.bfloat16):
            raise ValueError(f"precision must be torch.bfloat16, torch.float32, torch.float64 or None, got {dtype!r}")
        self._precision, self._stepper = dtype, None

    @property
    def product_dtype(self) -> torch.dtype:
        return self._precision or self.weight.dtype

    # ── learning ────────────────────────────────────────────────────────────────────────────────────────────────────

    def average_input(self) -> Tensor:
        """The weighted mean of all input since the last reset, recent steps weighing more: (…, batch, in_features).

        Raises: RuntimeError before the first step.
        """
        return learning.average_input(self, self._state)

    def backward(
        self, signal: Tensor, above: TraceLayer | None = None, *, at: At = "output", below: bool = True
    ) -> Tensor | None:
        """Learn: add the gradient to every learnable parameter's `.grad`.

        Args:
            signal: dL/d average output, (batch, out_features); or (bank, batch, out_features), for each stretch of the
                past in the bank of the layer above.
            above: the layer that the signal came from; None if it came from a loss.
            at: "logits" if the signal is dL/d that of which the average output is the softmax.
            below: whether anything below is to learn; if not, a product is saved.
        Returns: dL/d average input, (batch, in_features), the learning signal for what lies below; with a bank,
            (bank, batch, in_features). None without `below`.
        """
        found, told = learning.local_gradients(self, self._state, signal, above, at=at, below=below)
        accumulate(found)
        return told

    def local_gradients(self, signal: Tensor, *, below: bool = True) -> tuple[learning.Gradients, Tensor | None]:
        """The gradient of each parameter, and dL/d average input, (batch, in_features); leaves `.grad` alone."""
        found, told = learning.local_gradients(self, self._state, signal, None, below=below)
        return found, told if told is None or told.ndim == 2 else told.sum(dim=0)  # over the stretches of a bank
