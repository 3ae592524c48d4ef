"""Running layers with a graph: what rules that go back through time share. The same neurons, step by step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor

from tracetorch import backends
from tracetorch.encode import Stream
from tracetorch.modes import unaffected
from tracetorch.nn import Layer, Sequential
from tracetorch.nn.gradients import add, gradients, whole_gradients
from tracetorch.nn.network import as_stream, call_with_hooks
from tracetorch.nn.sequential import as_input
from tracetorch.rules.surrogate import Surrogate


@unaffected
def run_unrolled(
    net: Sequential,
    xs: Tensor | Stream,
    surrogate: Surrogate,
    *,
    reach: int | None,
    reduce: str | None,
    window: int | None,
) -> Tensor:
    """`Sequential.run` with the graph of the last steps.

    Args:
        net: its states go on from where they are; what led to them is detached, and no gradient reaches it.
        xs, reduce, window: as for `Sequential.run`.
        surrogate: stands for the derivative of spikes.
        reach: how many steps at the end have a graph; all, if None.
    Returns: as `Sequential.run`, with the graph.
    Raises: as `Sequential.run`.
    Memory: O(reach): every membrane and every spike.
    """
    count = as_stream(xs, reduce, window).steps
    before = max(0, count - (reach or count))
    if not before:
        outputs = _unroll(net, xs, surrogate)
        return outputs if reduce is None else outputs[-(window or count) :].mean(dim=0)
    counted = window or count
    early_counted = max(0, counted - (count - before))  # of the steps without a graph, those that count in the mean
    with torch.no_grad():
        early = net.run(xs[:before], reduce=reduce, window=None if reduce is None else max(1, early_counted))
    if reduce is None:
        return torch.cat([early, _unroll(net, xs[before:], surrogate)])
    late = _unroll(net, xs[before:], surrogate)[-counted:].sum(dim=0)
    return (late + early * early_counted) / counted


@unaffected
@whole_gradients()
def learn(net: Sequential, output: Tensor | None, signal: Tensor) -> None:
    """Add the gradient to every learnable parameter's `.grad`, through the graph that led to an output.

    Args: signal: dL/d output, or dL/d its last step. Raises: RuntimeError if there is no output.
    """
    if output is None:
        raise RuntimeError("nothing was run since the last learning moment: call rule.forward(xs) before rule.backward")
    if signal.ndim < output.ndim:
        output = output[-1]
    if signal.shape != output.shape:
        raise ValueError(f"expected a signal of shape {tuple(output.shape)}, got {tuple(signal.shape)}")
    learnable = [parameter for parameter in net.parameters() if parameter.requires_grad]
    if not learnable:
        return
    found = gradients(output, learnable, signal.to(output.dtype))
    for parameter, gradient in zip(learnable, found, strict=True):
        add(parameter, gradient)


def _unroll(net: Sequential, xs: Tensor | Stream, surrogate: Surrogate) -> Tensor:
    """All outputs, (time, batch, out_features), with the graph that leads to them."""

    def through(values: Tensor) -> Tensor:
        for layer in net:
            values = as_input(layer, values, 2)
            with using(layer, surrogate):
                values = call_with_hooks(layer, partial(_unroll_layer, layer), values)
        return values

    return call_with_hooks(net, through, xs.dense() if isinstance(xs, Stream) else xs)


def _unroll_layer(layer: Layer, xs: Tensor) -> Tensor:
    """One layer over the whole stretch: one matrix product, then its neurons step by step."""
    xs = xs.to(layer._like.dtype)
    layer._check_step(xs[0])
    start = layer.own_state(xs.shape[1], tuple(xs.shape[2:])).copy()
    currents = layer.connection(xs.flatten(0, 1)).unflatten(0, xs.shape[:2])
    outputs, now = [], start.neuron
    for current in currents:
        output, now = layer.neuron.step(current, now)
        outputs.append(output)
    with torch.no_grad():
        # Into the memory of the copy.
        backends.trace_scan(xs.detach().flatten(2), layer._constants_of(start)[1])
        neuron = type(now)(*(value.detach() for value in now))
        layer.state = start._replace(neuron=neuron, steps=start.steps + len(xs))
    return torch.stack(outputs)


@contextmanager
def using(layer: Layer, surrogate: Surrogate | None) -> Iterator[None]:
    """Let a layer's spikes have a derivative."""
    layer.neuron.surrogate = surrogate
    try:
        yield
    finally:
        layer.neuron.surrogate = None
