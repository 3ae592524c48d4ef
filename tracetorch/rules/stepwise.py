"""Shared parts of stepwise rules: a stretch of time that runs twice, and a separate graph for each step.

Such rules need the signal at every step, but it is known only at the end. So they run a stretch for its output, and
again with the signal. Memory stays constant: streams are generated again, and only small states are kept.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import Parameter

from tracetorch import backends
from tracetorch.encode import Stream
from tracetorch.modes import unaffected
from tracetorch.nn import Layer, Neuron, Sequential
from tracetorch.nn.local_gradient import At, add, gradients
from tracetorch.nn.network import as_stream
from tracetorch.nn.state import LayerState
from tracetorch.rules.base import Rule, check_at, needs_decay_alone
from tracetorch.rules.surrogate import Surrogate, needs_slopes, surrogate_of_step, using

CHUNK = 64
"""Steps that go through a layer at once: enough for fast matrix products over time × batch rows, in little memory."""


class Recording(NamedTuple):
    """A stretch of time that can be run again."""

    xs: Tensor | Stream
    first: int  # the first step that counts in the output
    step_weight: float  # weight of each counted step in the output: 1 / number of counted steps
    start_states: list[LayerState]  # the state of every layer before the stretch
    first_states: list[LayerState]  # the state of every layer before step `first`
    is_every_step: bool  # whether the output holds every step, not their mean


@unaffected
@torch.no_grad()
def record(net: Sequential, xs: Tensor | Stream, reduce: str | None, window: int | None) -> tuple[Tensor, Recording]:
    """Return the output of `Sequential.run`, and a recording from which the stretch can run again.

    Without `reduce`, only the last step counts. Raises: as `Sequential.run`.
    """
    count = as_stream(xs, reduce, window).steps
    start_states = _states_of(net, xs)
    first = count - (1 if reduce is None else window or count)
    if first <= 0:
        return net.run(xs, reduce=reduce, window=window), Recording(
            xs, 0, 1 / count, start_states, start_states, reduce is None
        )
    early = net.run(xs[:first], reduce=reduce, window=None if reduce is None else 1)
    first_states = _states_of(net, xs)
    late = net.run(xs[first:], reduce=reduce)
    output = torch.cat([early, late]) if reduce is None else late
    return output, Recording(xs, first, 1 / (count - first), start_states, first_states, reduce is None)


def chunks(xs: Tensor | Stream) -> Iterator[tuple[int, Tensor]]:
    """Yield the steps in order, `CHUNK` at a time, with the number of each chunk's first step.

    The first chunk may be short, so that the counted steps, at the end, are in as few chunks as possible.
    """
    start, stop = 0, len(xs) % CHUNK or CHUNK
    while start < len(xs):
        part = xs[start:stop]
        yield start, part.dense() if isinstance(part, Stream) else part
        start, stop = stop, stop + CHUNK


def _states_of(net: Sequential, xs: Tensor | Stream) -> list[LayerState]:
    batch = xs.shape[0] if isinstance(xs, Stream) else xs.shape[1]
    return [layer.own_state(batch).copy() for layer in net]


class TwoPassRule(Rule):
    """Runs a stretch of time for its output, and again to learn from it.

    Args: surrogate: as in `BPTT`, without `through_reset`.
    """

    def __init__(self, net: Sequential, surrogate: Surrogate | str):
        super().__init__(net)
        self.surrogate = surrogate_of_step(surrogate)
        self._recording: Recording | None = None

    def supports(self, layer: Layer) -> str:
        return needs_decay_alone(layer) or needs_slopes(layer, decays_alone=True)

    def reset(self, mask: Tensor | None = None) -> None:
        super().reset(mask)
        self._recording = None

    def forward(self, xs: Tensor | Stream, *, reduce: str | None = None, window: int | None = None) -> Tensor:
        """Run over a stretch of time; see `Sequential.run`. `xs` is read again by `backward`: it must not change."""
        if not torch.is_grad_enabled():
            self._recording = None
            return super().forward(xs, reduce=reduce, window=window)
        output, self._recording = record(self.net, xs, reduce, window)
        return output

    def backward(self, signal: Tensor, *, at: At = "output") -> None:
        """Add to the gradient of every trainable parameter, once for each `forward`.

        Args: signal: dL/d output of `forward`, (batch, out_features): of the mean, or, without `reduce`, of the last
            step; or, without `reduce`, of every step, (time, batch, out_features).
        Raises: RuntimeError without a `forward` since the last call; ValueError for another shape, or for a signal at
            the logits.
        """
        check_at(self, at)
        if self._recording is None:
            raise RuntimeError(
                "nothing was run since the last learning moment: call rule.forward(xs) before rule.backward"
            )
        recording, steps = self._recording, len(self._recording.xs)
        wanted = (len(recording.start_states[0].steps), self.net.out_features)
        if signal.shape == (steps, *wanted) and recording.is_every_step:
            recording = recording._replace(first=0, first_states=recording.start_states)
        elif signal.shape == wanted:
            signal = (signal * recording.step_weight).expand(steps - recording.first, *wanted)
        else:
            raise ValueError(f"expected a signal of shape {wanted}, got {tuple(signal.shape)}")
        self._recording = None
        self._second_pass(recording, signal)

    def _counted_chunks(self, recording: Recording) -> Iterator[tuple[slice, list[StepwiseGraph]]]:
        """Run the counted steps again. Yield a chunk's steps, among the counted ones, and the graphs of all layers."""
        states = list(recording.first_states)
        for start, part in chunks(recording.xs[recording.first :]):
            graphs, values = list[StepwiseGraph](), part.to(self.net[0].weight.dtype)
            for number, layer in enumerate(self.net):
                graphs.append(run_stepwise(layer, values, states[number], self.surrogate))
                states[number], values = graphs[number].after, graphs[number].outputs
            yield slice(start, start + len(part)), graphs

    @abstractmethod
    def _second_pass(self, recording: Recording, signal: Tensor | None) -> None:
        """Run a stretch again, and add the gradients of the signal, if there is one.

        Args: signal: at each counted step, (steps from `first` on, batch, out_features).
        """


# ── each step alone ───────────────────────────────────────────────────────────────────────────────────────────────────


class StepwiseGraph(NamedTuple):
    """A layer's activity at each step of a chunk, with a graph for each step alone.

    Rows are time × batch: all samples of one step, then those of the next. No graph connects the steps: the state
    before each step was recorded and is detached.
    """

    layer: Layer
    current: Tensor  # (rows, out_features), where the graph begins
    output: Tensor  # (rows, out_features), where it ends
    trace: Tensor  # of the input, after each step: (groups, time, batch, in_features)
    steps: Tensor  # since the last reset, after each step: (time, batch, 1)
    after: LayerState  # at the end, where the next chunk continues; its trace_sensitivity is not updated
    known_slope: Tensor | None = None  # `slope`, where the forward pass computed it

    @property
    def outputs(self) -> Tensor:
        """(time, batch, out_features), without a graph."""
        return self.output.detach().view(*self.steps.shape[:2], -1)

    def slope(self) -> Tensor:
        """Return d output / d current of each step, (rows, out_features); for spikes, the surrogate derivative."""
        if self.known_slope is not None:
            return self.known_slope
        ones = torch.ones_like(self.output)
        return torch.autograd.grad(self.output, self.current, ones, retain_graph=True)[0]

    def vjp(self, signal: Tensor) -> Tensor:
        """Return dL/d currents, (rows, out_features), from dL/d outputs. Add the gradients of decays and thresholds."""
        raw = self.trained_constants
        at_current, *rest = gradients(self.output, [self.current, *raw], signal, retain_graph=True)
        assert at_current is not None
        for parameter, value in zip(raw, rest, strict=True):
            add(parameter, value)
        return at_current

    @property
    def trained_constants(self) -> list[Parameter]:
        """The raw decays and thresholds that are trained."""
        return [parameter for parameter in self.layer.neuron.parameters() if parameter.requires_grad]

    @torch.no_grad()
    def learn(self, delta: Tensor) -> None:
        """Add `Σ δ·â` to the gradients of weights and bias. Args: delta: dL/d currents."""
        self.learn_weight(delta, self.trace)
        if self.layer.bias is not None:
            add_gradient(self.layer, "bias", (delta * self.ones_trace().flatten(0, 1)).sum(dim=0))

    @torch.no_grad()
    def learn_weight(self, delta: Tensor, trace: Tensor) -> None:
        """Add `Σ δ·traceᵀ` to the gradient of the weights.

        Args: delta: (rows, out_features); trace: of the input, (groups or 1, time, batch, in_features).
        """
        parts = by_group(self.layer, delta) if len(trace) > 1 else delta[None]
        # The gradient is laid out like the weight, input by input, so that the optimizer reads both contiguously.
        found = trace.flatten(1, 2).transpose(1, 2) @ parts
        add_gradient(self.layer, "weight", found.transpose(1, 2).flatten(0, 1))

    @torch.no_grad()
    def ones_trace(self) -> Tensor:
        """Return the trace of an input that is always 1, for the bias: (time, batch, 1 or out_features)."""
        return (1 - self.layer.neuron.decay**self.steps) / (1 - self.layer.neuron.decay)


def run_stepwise(layer: Layer, xs: Tensor, state: LayerState, surrogate: Surrogate) -> StepwiseGraph:
    """Run a layer over a chunk, (time, batch, in_features), from a given state.

    The neurons first run step by step without a graph; then all steps run in parallel, with a graph. Neither the given
    state nor the layer's own changes.

    Memory: O(time × batch × (groups·in_features + out_features)), for this chunk.
    """
    neuron, slope = layer.neuron, None
    trains_constants = any(parameter.requires_grad for parameter in neuron.parameters())
    with torch.no_grad():
        currents = torch.nn.functional.linear(xs, layer.weight, layer.bias)
        trace = _traces(xs, state.trace, layer.trace_decay)
        steps = state.steps + torch.arange(1, len(xs) + 1, device=xs.device)[:, None, None]
        if neuron.kernel == "lif":
            membrane = state.neuron.membrane.clone()
            found = backends.lif_slopes(currents, membrane, neuron.constants, surrogate, keep=trains_constants)
            spikes, slope, membranes = (None if value is None else value.flatten(0, 1) for value in found)
            neurons = type(state.neuron)(membrane)
        else:
            before, neurons = _states(neuron, currents, state.neuron)
        after = LayerState(neurons, trace[:, -1].view_as(state.trace), state.trace_sensitivity, steps[-1])
    current = currents.flatten(0, 1).requires_grad_()
    with torch.enable_grad(), using(layer, surrogate):
        if slope is None:
            output, _ = neuron.step(current, before)
        else:
            output = _LIFSpikes.apply(current, membranes, spikes, slope, neuron.decay, neuron.threshold)
    return StepwiseGraph(layer, current, output, trace, steps, after, slope)


def by_group(layer: Layer, values: Tensor) -> Tensor:
    """Group (…, out_features) by the input trace of each neuron: (groups, …, neurons of the group)."""
    return values.unflatten(-1, (layer.input_trace.groups, -1)).movedim(-2, 0)


def add_gradient(layer: Layer, name: str, value: Tensor | None) -> None:
    """Add to a parameter's `.grad`, if it is trained."""
    parameter = getattr(layer, name)
    if parameter is not None and parameter.requires_grad:
        add(parameter, value)


class _LIFSpikes(torch.autograd.Function):
    """The step of `functional.lif_step`, for known spikes and slopes: autograd through the step takes much longer."""

    @staticmethod
    def forward(ctx: Any, *given: Tensor | None) -> Tensor:
        ctx.save_for_backward(*given)
        spikes = given[2]
        assert spikes is not None
        return spikes

    @staticmethod
    def backward(ctx: Any, signal: Tensor) -> tuple[Tensor | None, ...]:
        current, membrane, _, slope, decay, threshold = ctx.saved_tensors
        at_current, at_decay, at_threshold = signal * slope, None, None
        if membrane is not None:  # d output/dβ = ψ·m and d output/dθ = −ψ·(β·m + i)/θ
            of_membrane = (at_current * membrane).sum(dim=0)
            before_reset = decay * of_membrane + (at_current * current).sum(dim=0)
            at_decay = of_membrane.sum_to_size(decay.shape)
            at_threshold = -(before_reset / threshold).sum_to_size(threshold.shape)
        return at_current, None, None, None, at_decay, at_threshold


def _states(neuron: Neuron, currents: Tensor, state: Any) -> tuple[Any, Any]:
    """Return the states before each step, time × batch in rows, and the state at the end."""
    if neuron.kernel in ("li", "lis"):
        membranes = currents.new_empty(len(currents) + 1, *currents.shape[1:])
        membranes[0] = state.membrane
        backends.leak_scan(currents, membranes[0].clone(), neuron.constants[0], membranes[1:])
        return type(state)(membranes[:-1].flatten(0, 1)), type(state)(membranes[-1].clone())
    before = []
    for current in currents:
        before.append(state)
        _, state = neuron.step(current, state)
    stacked = map(torch.cat, zip(*before, strict=True))
    return type(state)(*stacked), state


def _traces(xs: Tensor, trace: Tensor, decay: Tensor) -> Tensor:
    """`functional.trace_step` at every step: (groups, time, batch, in_features)."""
    starts = trace if trace.ndim == 3 else trace[None]
    traces = xs.new_empty(len(starts), *xs.shape)
    for number, start in enumerate(starts):
        own = decay[number, 0] if decay.ndim == 3 else decay
        backends.leak_scan(xs, start.clone(), own, traces[number])
    return traces
