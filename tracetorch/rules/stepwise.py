"""One layer over a chunk of time, every step with a graph of its own: what rules share that learn step by step."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from tracetorch.nn import Layer, Neuron
from tracetorch.nn.gradients import add, gradients
from tracetorch.nn.state import LayerState
from tracetorch.rules.surrogate import Surrogate
from tracetorch.rules.unrolled import using


class StepwiseGraph(NamedTuple):
    """What a layer did at each step of a chunk.

    Rows are time × batch: one step after another, as if time were batch. No graph leads from one step to the next: the
    state before each was recorded, and is detached.
    """

    layer: Layer
    current: Tensor  # (rows, out_features), where the graph begins
    output: Tensor  # (rows, out_features), where it ends
    trace: Tensor  # of the input, after each step: (groups, time, batch, in_features)
    steps: Tensor  # seen since the last reset, after each step: (time, batch, 1)
    after: LayerState  # at the end, from which the next chunk continues; its traces of the trace are those of before

    @property
    def outputs(self) -> Tensor:
        """(time, batch, out_features), without a graph."""
        return self.output.detach().view(*self.steps.shape[:2], -1)

    def slope(self) -> Tensor:
        """What each output does for a change of its own current, (rows, out_features): of a spike, the surrogate."""
        ones = torch.ones_like(self.output)
        return torch.autograd.grad(self.output, self.current, ones, retain_graph=True)[0]

    def vjp(self, signal: Tensor) -> Tensor:
        """What a signal at the outputs is at the currents, both (rows, out_features).

        Decays and thresholds learn from it on the way, from each step alone.
        """
        raw = {n: p for n, p in self.layer.neuron.named_parameters() if p.requires_grad}
        wanted = [self.current, *raw.values()]
        at_current, *rest = gradients(self.output, wanted, signal, retain_graph=True)
        assert at_current is not None
        for parameter, value in zip(raw.values(), rest, strict=True):
            add(parameter, value)
        return at_current

    @torch.no_grad()
    def learn(self, delta: Tensor) -> None:
        """Add `Σ δ·â` to the gradient of the weights, and the same to that of the bias. Args: delta: as `current`."""
        # Input by input, as the weight is laid out, so that the optimizer need not jump.
        found = self.trace.flatten(1, 2).transpose(1, 2) @ by_group(self.layer, delta)
        add_gradient(self.layer, "weight", found.transpose(1, 2).flatten(0, 1))
        if self.layer.bias is not None:
            add_gradient(self.layer, "bias", (delta * self.ones_trace().flatten(0, 1)).sum(dim=0))

    @torch.no_grad()
    def ones_trace(self) -> Tensor:
        """The trace of an input that is always 1, as that of a bias: (time, batch, 1 or out_features)."""
        return (1 - self.layer.neuron.decay**self.steps) / (1 - self.layer.neuron.decay)


def run_stepwise(layer: Layer, xs: Tensor, state: LayerState, surrogate: Surrogate) -> StepwiseGraph:
    """A chunk of time through a layer.

    The neurons step through it once without a graph; then all steps are taken once more side by side, with one.

    Args:
        xs: (time, batch, in_features).
        state: of the layer before the chunk; it stays as it is, and so does the layer's own.
        surrogate: stands for the derivative of spikes.
    Memory: O(time × batch × (groups·in_features + out_features)), for this chunk.
    """
    with torch.no_grad():
        currents = torch.nn.functional.linear(xs, layer.weight, layer.bias)
        trace = _traces(xs, state.trace, layer.trace_decay)
        steps = state.steps + torch.arange(1, len(xs) + 1, device=xs.device)[:, None, None]
        before, neuron = _states(layer.neuron, currents, state.neuron)
        after = LayerState(neuron, trace[:, -1].view_as(state.trace), state.trace_sensitivity, steps[-1])
    current = currents.flatten(0, 1).requires_grad_()
    with torch.enable_grad(), using(layer, surrogate):
        output, _ = layer.neuron.step(current, before)
    return StepwiseGraph(layer, current, output, trace, steps, after)


def by_group(layer: Layer, values: Tensor) -> Tensor:
    """Of neurons, (…, out_features), those together that share an input trace: (groups, …, neurons of the group)."""
    return values.unflatten(-1, (layer.input_trace.groups, -1)).movedim(-2, 0)


def add_gradient(layer: Layer, name: str, value: Tensor | None) -> None:
    """Add to a parameter's `.grad`, if it is learnable and there is anything to add."""
    parameter = getattr(layer, name)
    if parameter is not None and parameter.requires_grad:
        add(parameter, value)


def _states(neuron: Neuron, currents: Tensor, state: Any) -> tuple[Any, Any]:
    """The states before each step, as if time were batch; and the state at the end."""
    before, now = [], state
    for current in currents:
        before.append(now)
        _, now = neuron.step(current, now)
    stacked = map(torch.cat, zip(*before, strict=True))
    return type(state)(*stacked), now


def _traces(xs: Tensor, trace: Tensor, decay: Tensor) -> Tensor:
    """`functional.trace_step` at every step: (groups, time, batch, in_features)."""
    now = trace if trace.ndim == 3 else trace[None]
    traces = xs.new_empty(len(now), *xs.shape)
    for step, x in enumerate(xs):
        now = torch.addcmul(x, decay, now, out=traces[:, step])
    return traces
