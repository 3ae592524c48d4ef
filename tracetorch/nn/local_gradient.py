"""A learning moment of one layer: its average input, one small graph through its steady state, and the gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal, Protocol

import torch
from torch import Tensor
from torch.nn import Module, Parameter
from torch.nn.functional import linear

from tracetorch import functional as F
from tracetorch.modes import check_tensor, unaffected, without_graph
from tracetorch.nn import trace_bank
from tracetorch.nn.connections import is_dense, is_plain
from tracetorch.nn.gradients import gradients
from tracetorch.nn.input_trace import InputTrace
from tracetorch.nn.neurons import Neuron
from tracetorch.nn.state import LayerState, per_sample

At = Literal["output", "logits"]
"""What a signal is the derivative with respect to: the average output, or that of which it is the softmax."""

Gradients = dict[Parameter, Tensor]


class Parts(Protocol):
    """What a learning moment needs of a layer."""

    @property
    def connection(self) -> Module: ...
    @property
    def neuron(self) -> Neuron: ...
    @property
    def input_trace(self) -> InputTrace: ...


@unaffected
def average_input(layer: Parts, state: LayerState | None) -> Tensor:
    """The weighted mean of all input since the last reset; see `InputTrace.average`.

    Raises: RuntimeError before the first step.
    """
    return layer.input_trace.average(layer.neuron, _seen(layer, state))


@unaffected
def local_gradients(
    layer: Parts,
    state: LayerState | None,
    signal: Tensor,
    above: Parts | None,
    *,
    at: At = "output",
    return_input_grad: bool = True,
) -> tuple[Gradients, Tensor | None]:
    """The gradients of a learning moment. Args: as `Layer.backward`.

    Returns: the gradient of each trainable parameter that has one; and what `Layer.backward` returns.
    """
    state, connection, neuron, trace = _seen(layer, state), layer.connection, layer.neuron, layer.input_trace
    if not isinstance(signal, Tensor) or signal.layout != torch.strided or signal.is_complex():
        check_tensor(signal, f"the signal for {layer}")
    several = signal.ndim == state.neuron[0].ndim + 1
    _check_signal(layer, signal, state, above if several else None)
    steady, moves = steady_map(neuron, state.steps, at), trace.moves(neuron)
    if not moves and is_plain(connection) and is_dense(connection) and not len(trace.trace_bank) and trace.groups == 1:
        return _by_products(layer, state, signal.sum(dim=0) if several else signal, at, return_input_grad)
    return _by_graph(layer, state, signal, above, steady=steady, return_input_grad=return_input_grad)


@torch.enable_grad()
def _by_graph(
    layer: Parts,
    state: LayerState,
    signal: Tensor,
    above: Parts | None,
    *,
    steady: Callable[[Tensor], Tensor],
    return_input_grad: bool,
) -> tuple[Gradients, Tensor | None]:
    """Any other case: a graph from the average input to the average output."""
    neuron, trace, trained = layer.neuron, layer.input_trace, dict(trained_parameters(layer))
    several = signal.ndim == state.neuron[0].ndim + 1
    whole = signal.sum(dim=0) if several else signal

    def through(average: Tensor) -> Tensor:
        return steady(average_current(layer, average))

    average = trace.average(neuron, state)
    if not len(trace.trace_bank):
        found, below = _vjp(through, average, whole, list(trained.values()), return_input_grad)
        return found, _over_groups(trace, below)
    # Decays learn from the layer's own trace: for each in the bank they would need a slope more.
    decays = [trained.pop(name) for name in list(trained) if name in ("neuron.raw_decay", "input_trace.raw_decay")]
    of_decays, _ = _vjp(through, average, whole, decays, False)
    if not several or above is None or not torch.equal(above.input_trace.trace_bank, trace.trace_bank):
        signal = whole * trace_bank.shares(_reader(layer, above), state.steps, trace.trace_bank)
    averages = trace_bank.average_inputs(state.trace, trace.decay(neuron).detach(), state, trace.trace_bank)
    found, below = _vjp(through, averages, signal, list(trained.values()), return_input_grad)
    return of_decays | found, _over_groups(trace, below)


def trained_parameters(layer: Parts) -> Iterable[tuple[str, Parameter]]:
    """The parameters of a layer that require a gradient, by name; faster than `named_parameters`."""
    for part_name, part in (
        ("connection", layer.connection),
        ("input_trace", layer.input_trace),
        ("neuron", layer.neuron),
    ):
        own = part.named_parameters() if part._modules else part._parameters.items()
        for name, parameter in own:
            if parameter is not None and parameter.requires_grad:
                yield f"{part_name}.{name}", parameter


@without_graph
def _by_products(
    layer: Parts, state: LayerState, signal: Tensor, at: At, return_input_grad: bool
) -> tuple[Gradients, Tensor | None]:
    """The usual case, `W·x + b` of a constant average input: back through the steady state, and two products."""
    connection, neuron = layer.connection, layer.neuron
    weight, bias = connection._parameters["weight"], connection._parameters.get("bias")
    trained = [one for one in neuron._parameters.values() if one is not None and one.requires_grad]
    assert weight is not None
    learns = weight.requires_grad or (bias is not None and bias.requires_grad)
    if not trained and not learns and not return_input_grad:
        return {}, None
    decay = layer.input_trace.kept_decay(neuron)
    risen = F.rise(decay, state.steps)
    average = state.trace * ((1 - decay) / risen)
    current = linear(average, weight, bias)
    of_neurons = risen if layer.input_trace.tied else None
    found, delta = through_neurons(neuron, current, state.steps, signal, at=at, trained=trained, risen=of_neurons)
    if weight.requires_grad:
        found[weight] = delta.t() @ average
    if bias is not None and bias.requires_grad:
        found[bias] = delta.sum(dim=0)
    return found, delta @ weight if return_input_grad else None


def _over_groups(trace: InputTrace, below: Tensor | None) -> Tensor | None:
    return below if below is None or trace.groups == 1 else below.sum(dim=-3)


def steady_map(neuron: Neuron, steps: Tensor, at: At) -> Callable[[Tensor], Tensor]:
    """From an average current to the average output, or to the logits of that."""
    if at not in ("output", "logits"):
        raise ValueError(f'at must be "output" or "logits", got {at!r}')
    through = neuron.steady_state if at == "output" else neuron.steady_logits
    return lambda current: through(
        current, per_sample(steps, max(1, current.ndim - 1)) if neuron.features is None else steps
    )


def through_neurons(
    neuron: Neuron,
    current: Tensor,
    steps: Tensor,
    signal: Tensor,
    *,
    at: At,
    trained: list[Parameter],
    risen: Tensor | None = None,
) -> tuple[Gradients, Tensor]:
    """Back through the steady state, by its formula or by autograd. Called without a graph.

    Returns: gradients of parameters; dL/d current.
    """
    known = neuron.steady_vjp(current, steps, signal.to(current.dtype), at, risen=risen)
    if known is not None:
        return known[1], known[0]
    with torch.enable_grad():
        found, delta = _vjp(steady_map(neuron, steps, at), current, signal, trained, True)
    assert delta is not None
    return found, delta


def _vjp(
    through: Callable[[Tensor], Tensor], start: Tensor, signal: Tensor, trained: list[Parameter], wants_start: bool
) -> tuple[Gradients, Tensor | None]:
    """Back through a function: to the parameters; and to where it starts, an average input, several, or a current."""
    if wants_start and not start.requires_grad:
        start.requires_grad_()
    sources = [*trained, start] if wants_start else trained
    if not sources:
        return {}, None
    output = through(start)
    # Retained, because a weight that is computed from others has a graph that later moments need.
    found = gradients(output, sources, signal.to(output.dtype), retain_graph=True)
    of_parameters = {parameter: one for parameter, one in zip(trained, found, strict=False) if one is not None}
    return of_parameters, found[-1] if wants_start else None


def _reader(layer: Parts, above: Parts | None) -> Tensor:
    """The decay with which the reader of the outputs remembers them; the layer's own, if the signal is from a loss."""
    if above is None:
        return layer.input_trace.decay(layer.neuron).detach().mean()
    if len(above.input_trace.trace_bank):
        return above.input_trace.trace_bank[-1]
    decay = above.input_trace.decay(above.neuron).detach()
    return decay if above.input_trace.groups == 1 else decay.mean()


def average_current(layer: Parts, average: Tensor) -> Tensor:
    """The current of an average input, (…, batch, *features); each group of neurons has an average of its own."""
    connection: Any = layer.connection
    groups = layer.input_trace.groups
    if groups == 1:
        return connection(average)
    if not is_dense(connection):  # all neurons are given each average, and those of its group are kept
        own = connection(average).unflatten(-1, (groups, -1)).diagonal(dim1=-4, dim2=-2)
        return own.movedim(-1, -2).flatten(-2)
    weight = connection.weight.view(groups, -1, connection.weight.shape[1])
    current = torch.einsum("...gbi,goi->...bgo", average, weight).flatten(-2)
    return current if connection.bias is None else current + connection.bias


def _seen(layer: Parts, state: LayerState | None) -> LayerState:
    if state is None:
        raise RuntimeError(f"{layer} has seen no input: call net(x) or net.run(xs) before net.backward(signal)")
    return state


def _check_signal(layer: Parts, signal: Tensor, state: LayerState, above: Parts | None) -> None:
    wanted, own = tuple(state.neuron[0].shape), state.neuron[0]
    several = above is not None and len(above.input_trace.trace_bank) == len(signal)
    if tuple(signal.shape[1:] if several else signal.shape) != wanted:
        raise ValueError(f"{layer} expects a signal of shape {wanted}, got {tuple(signal.shape)}")
    if signal.device != own.device:
        where = f"{layer} is on {own.device}, and its signal on {signal.device}"
        raise ValueError(f"{where}: move one of them with .to")
