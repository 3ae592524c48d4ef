"""Running a stretch of time twice: once for its output, and, once the learning signal is known, again to learn from it.

Rules that need the signal at every step, as if it had been there all along, get it this way in constant memory: a
stream is made anew, and a state is small. Where a label is there from the start, once would do.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tracetorch.encode import Stream
from tracetorch.nn import Sequential
from tracetorch.nn.layer import TraceLayer

_CHUNK = 64  # steps of a stream that are made at a time


class Recording(NamedTuple):
    """A stretch of time that can be run again."""

    states: list[Any]  # before it, of every layer
    xs: Tensor | Stream
    first: int  # the first step that counts in the output
    share: float  # how much each counting step counts


def record(net: Sequential, xs: Tensor | Stream, reduce: str | None, window: int | None) -> tuple[Tensor, Recording]:
    """Run over a stretch of time. Returns: its output, as `Sequential.run` gives it, and what it takes to run it again.

    Where every step's output is given, it is the last that counts.
    """
    batch = xs.shape[0] if isinstance(xs, Stream) else xs.shape[1]
    states = [layer.copy_state(batch) for layer in net]
    counted = 1 if reduce is None else window or len(xs)
    output = net.run(xs, reduce=reduce, window=window)
    return output, Recording(states, xs, len(xs) - counted, 1 / counted)


def steps(recording: Recording) -> Iterator[tuple[Tensor, float]]:
    """The input of each step, and how much that step counts; 0 before the window."""
    xs = recording.xs
    chunks = xs.chunks(_CHUNK) if isinstance(xs, Stream) else iter([xs])
    at = 0
    for chunk in chunks:
        for x in chunk:
            yield x, recording.share if at >= recording.first else 0.0
            at += 1


class Local(NamedTuple):
    """One layer in one step, with the graph of that step alone."""

    current: Tensor
    output: Tensor
    state: Any  # after it, with the trace of the input

    def pull(self, layer: TraceLayer, signal: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """What a signal at the output is at the current, (batch, out_features), and at decays and thresholds."""
        named = {n: p for n, p in layer.named_parameters() if p.requires_grad and n.startswith("raw_")}
        wanted = [self.current, *named.values()]
        at_current, *rest = torch.autograd.grad(self.output, wanted, signal, allow_unused=True)
        return at_current, {name: value for name, value in zip(named, rest, strict=True) if value is not None}

    def slope(self) -> Tensor:
        """What each output does for a change of its own current, (batch, out_features): of a spike, the surrogate."""
        ones = torch.ones_like(self.output)
        return torch.autograd.grad(self.output, self.current, ones, retain_graph=True)[0]

    def input_trace(self, layer: TraceLayer) -> Tensor:
        """The trace of the input, for each neuron: (batch, out_features or 1, in_features)."""
        if layer.groups == 1:
            return self.state.trace[:, None]
        return self.state.trace.transpose(0, 1).repeat_interleave(layer.out_features // layer.groups, dim=1)

    @torch.no_grad()
    def ones_trace(self, layer: TraceLayer) -> Tensor:
        """The trace of an input that is always 1, as that of a bias: (batch, 1), or (batch, out_features)."""
        return (1 - layer.decay**self.state.steps) / (1 - layer.decay)


def local_step(layer: TraceLayer, x: Tensor, state: Any) -> Local:
    """One step of a layer; what came before it is a fact."""
    with torch.no_grad():
        trace = layer.trace_decay * state.trace + x
        current = torch.nn.functional.linear(x, layer.weight, layer.bias)
    current.requires_grad_()
    with torch.enable_grad():
        output, after = layer.step(current, state)
    after = type(after)(*(value.detach() for value in after))._replace(trace=trace, steps=state.steps + 1)
    return Local(current, output, after)


def add_gradient(layer: TraceLayer, name: str, value: Tensor) -> None:
    """Add to a parameter's `.grad`, if it is learnable."""
    parameter = getattr(layer, name)
    if parameter is not None and parameter.requires_grad:
        parameter.grad = value if parameter.grad is None else parameter.grad + value


@torch.no_grad()
def add_traced(layer: TraceLayer, delta: Tensor, local: Local) -> None:
    """Add `δ·â` to the gradient of the weights, and the same to that of the bias. Args: delta: (batch, neurons)."""
    trace = local.state.trace
    if layer.groups == 1:
        add_gradient(layer, "weight", delta.t() @ trace)
    else:
        parts = delta.view(len(delta), layer.groups, -1)
        add_gradient(layer, "weight", torch.einsum("bgo,gbi->goi", parts, trace).flatten(0, 1))
    if layer.bias is not None:
        add_gradient(layer, "bias", (delta * local.ones_trace(layer)).sum(dim=0))
