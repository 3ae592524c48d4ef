"""The backward pass of a layer: a small graph through its steady state, and the autograd node that evaluates it.

The backward pass needs only the layer's present state. So the autograd node of `net(x)` and `net.run(xs)` holds no
history, a layer or a network can be part of any torch module, and `loss.backward()` computes the same gradients as
`net.backward(signal)`.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import Parameter
from torch.nn.functional import linear

from tracetorch import functional as F
from tracetorch.modes import check_tensor, unaffected, without_graph
from tracetorch.nn.connections import is_dense, is_plain
from tracetorch.nn.input_trace import InputTrace, average_inputs, shares
from tracetorch.nn.neurons import Neuron
from tracetorch.nn.state import LayerState, per_sample

At = Literal["output", "logits"]
"""A signal is the derivative with respect to the average output, or to logits, whose softmax is the average output."""

Gradients = dict[Parameter, Tensor]

Layer = Any
"""`nn.layer.Layer`, which cannot be imported here: it imports this file."""

# ── a learning moment ─────────────────────────────────────────────────────────────────────────────────────────────────


@unaffected
def average_input(layer: Layer, state: LayerState | None) -> Tensor:
    """The weighted mean of all input; see `InputTrace.average`. Raises: RuntimeError before the first step."""
    return layer.input_trace.average(layer.neuron, _present(layer, state))


@unaffected
def local_gradients(
    layer: Layer,
    state: LayerState | None,
    signal: Tensor,
    above: Layer | None,
    *,
    at: At = "output",
    return_input_grad: bool = True,
) -> tuple[Gradients, Tensor | None]:
    """Return the gradients of the trainable parameters, and dL/d average input or None. Args: as `Layer.backward`."""
    state, connection, neuron, trace = _present(layer, state), layer.connection, layer.neuron, layer.input_trace
    if not isinstance(signal, Tensor) or signal.layout != torch.strided or signal.is_complex():
        check_tensor(signal, f"the signal for {layer}")
    has_stretches = signal.ndim == state.neuron[0].ndim + 1
    _check_signal(layer, signal, state, above if has_stretches else None)
    steady = steady_map(neuron, state.steps, at)
    is_constant = not trace.has_trained_decay(neuron) and not trace.trace_bank.numel() and trace.groups == 1
    total_signal = signal.sum(dim=0) if has_stretches else signal
    if is_plain(connection) and is_dense(connection) and is_constant:
        return _by_products(layer, state, total_signal, at, return_input_grad)
    with torch.enable_grad():
        return _by_graph(layer, state, signal, total_signal, above, steady=steady, return_input_grad=return_input_grad)


@without_graph
def _by_products(
    layer: Layer, state: LayerState, signal: Tensor, at: At, return_input_grad: bool
) -> tuple[Gradients, Tensor | None]:
    """The usual case, `W·ā + b` with a constant ā: back through the steady state, then two matrix products."""
    connection, neuron = layer.connection, layer.neuron
    weight, bias = connection._parameters["weight"], connection._parameters.get("bias")
    trained = [raw for raw in neuron._parameters.values() if raw is not None and raw.requires_grad]
    is_connection_trained = weight.requires_grad or (bias is not None and bias.requires_grad)
    if not trained and not is_connection_trained and not return_input_grad:
        return {}, None
    decay = layer.input_trace.constant_decay(neuron)
    risen = F.rise(decay, state.steps)
    average = state.trace * ((1 - decay) / risen)
    current = linear(average, weight, bias)
    risen_if_tied = risen if layer.input_trace.tied else None
    found, delta = through_neurons(neuron, current, state.steps, signal, at=at, trained=trained, risen=risen_if_tied)
    if weight.requires_grad:
        found[weight] = delta.t() @ average
    if bias is not None and bias.requires_grad:
        found[bias] = delta.sum(dim=0)
    return found, delta @ weight if return_input_grad else None


def _by_graph(
    layer: Layer,
    state: LayerState,
    signal: Tensor,
    total_signal: Tensor,
    above: Layer | None,
    *,
    steady: Callable[[Tensor], Tensor],
    return_input_grad: bool,
) -> tuple[Gradients, Tensor | None]:
    """Any other case: autograd through a graph from the average input to the average output."""
    neuron, trace, trained = layer.neuron, layer.input_trace, dict(trained_parameters(layer))

    def through(average: Tensor) -> Tensor:
        return steady(average_current(layer, average))

    average = trace.average(neuron, state)
    if not trace.trace_bank.numel():
        found, below = _vjp(through, average, total_signal, list(trained.values()), return_input_grad)
        return found, _sum_groups(trace, below)
    # Gradients of decays use the layer's own trace: each trace of the bank would need a sensitivity of its own.
    decays = [trained.pop(name) for name in list(trained) if name in ("neuron.raw_decay", "input_trace.raw_decay")]
    of_decays, _ = _vjp(through, average, total_signal, decays, False)
    if signal is total_signal or above is None or not torch.equal(above.input_trace.trace_bank, trace.trace_bank):
        signal = total_signal * shares(_reader_decay(layer, above), state.steps, trace.trace_bank)
    averages = average_inputs(state.trace, trace.decay(neuron).detach(), state, trace.trace_bank)
    found, below = _vjp(through, averages, signal, list(trained.values()), return_input_grad)
    return of_decays | found, _sum_groups(trace, below)


def trained_parameters(layer: Layer) -> Iterable[tuple[str, Parameter]]:
    """The parameters of a layer that require a gradient, by name; faster than `named_parameters`."""
    for part_name in ("connection", "input_trace", "neuron"):
        part = layer._modules[part_name]
        own = part.named_parameters() if part._modules else part._parameters.items()
        for name, parameter in own:
            if parameter is not None and parameter.requires_grad:
                yield f"{part_name}.{name}", parameter


def steady_map(neuron: Neuron, steps: Tensor, at: At) -> Callable[[Tensor], Tensor]:
    """The map from an average current to the average output, or to its logits."""
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
    """The gradients of the neuron's parameters, and dL/d current, by formula or by autograd. Needs `no_grad`."""
    known = neuron.steady_vjp(current, steps, signal.to(current.dtype), at, risen=risen)
    if known is not None:
        return known[1], known[0]
    with torch.enable_grad():
        found, delta = _vjp(steady_map(neuron, steps, at), current, signal, trained, True)
    assert delta is not None
    return found, delta


def average_current(layer: Layer, average: Tensor) -> Tensor:
    """The current from an average input, (…, batch, *features); each group of neurons has its own average."""
    connection, groups = layer.connection, layer.input_trace.groups
    if groups == 1:
        return connection(average)
    if not is_dense(connection):  # computes each average for all neurons, and keeps those of its group
        own = connection(average).unflatten(-1, (groups, -1)).diagonal(dim1=-4, dim2=-2)
        return own.movedim(-1, -2).flatten(-2)
    weight = connection.weight.view(groups, -1, connection.weight.shape[1])
    current = torch.einsum("...gbi,goi->...bgo", average, weight).flatten(-2)
    return current if connection.bias is None else current + connection.bias


def _vjp(
    through: Callable[[Tensor], Tensor], start: Tensor, signal: Tensor, trained: list[Parameter], wants_start: bool
) -> tuple[Gradients, Tensor | None]:
    """Vector-Jacobian product of a function, with respect to parameters and, if wanted, to its argument."""
    if wants_start and not start.requires_grad:
        start.requires_grad_()
    sources = [*trained, start] if wants_start else trained
    if not sources:
        return {}, None
    output = through(start)
    # Retained, because later backward passes need the graph of a weight that is computed from other parameters.
    found = gradients(output, sources, signal.to(output.dtype), retain_graph=True)
    of_parameters = {parameter: value for parameter, value in zip(trained, found, strict=False) if value is not None}
    return of_parameters, found[-1] if wants_start else None


def _sum_groups(trace: InputTrace, below: Tensor | None) -> Tensor | None:
    return below if below is None or trace.groups == 1 else below.sum(dim=-3)


def _reader_decay(layer: Layer, above: Layer | None) -> Tensor:
    """Decay of the trace of the layer above, which reads the outputs; the layer's own if the signal is from a loss."""
    if above is not None and len(above.input_trace.trace_bank):
        return above.input_trace.trace_bank[-1]
    decay: Tensor = (above or layer).trace_decay.detach()
    return decay if above is not None and above.input_trace.groups == 1 else decay.mean()


def _present(layer: Layer, state: LayerState | None) -> LayerState:
    if state is None:
        raise RuntimeError(f"{layer} has seen no input: call net(x) or net.run(xs) before net.backward(signal)")
    return state


def _check_signal(layer: Layer, signal: Tensor, state: LayerState, above: Layer | None) -> None:
    wanted, own = tuple(state.neuron[0].shape), state.neuron[0]
    has_stretches = above is not None and len(above.input_trace.trace_bank) == len(signal)
    if tuple(signal.shape[1:] if has_stretches else signal.shape) != wanted:
        raise ValueError(f"{layer} expects a signal of shape {wanted}, got {tuple(signal.shape)}")
    if signal.device != own.device:
        devices = f"{layer} is on {own.device}, and its signal on {signal.device}"
        raise ValueError(f"{devices}: move one of them with .to")


# ── `.grad` ───────────────────────────────────────────────────────────────────────────────────────────────────────────
#
# `Tensor.register_hook` may change a gradient, as a mask of absent synapses does, and
# `Tensor.register_post_accumulate_grad_hook` may use it at once. Each is called once for each `backward` of a layer, a
# network or a rule, with the whole gradient, also if the rule computes it in several parts.


class _Pending(threading.local):
    """Sums so far of the gradients whose parameters have hooks; None outside of `whole_gradients`."""

    parts: dict[Parameter, Tensor] | None = None


_pending = _Pending()


@contextmanager
def whole_gradients() -> Iterator[None]:
    """Context that adds up the parts of a gradient before the hooks of its parameter run.

    After an error, the `.grad` of parameters with hooks is unchanged.
    """
    if _pending.parts is not None:
        yield
        return
    _pending.parts = {}
    try:
        yield
        whole = _pending.parts
    finally:
        _pending.parts = None
    for parameter, gradient in whole.items():
        parameter.backward(gradient)  # torch calls the hooks, and adds to `.grad` in between


def accumulate(found: Gradients) -> None:
    """Add gradients to the `.grad` of their parameters."""
    for parameter, gradient in found.items():
        add(parameter, gradient)


def add(parameter: Parameter, gradient: Tensor | None) -> None:
    """Add to a parameter's `.grad`, in the memory layout of the parameter, which torch's fused optimizers assume."""
    if gradient is None:
        return
    gradient = gradient.detach()
    if parameter._backward_hooks or parameter._post_accumulate_grad_hooks:
        with whole_gradients():
            parts = _pending.parts
            assert parts is not None
            parts[parameter] = parts[parameter] + gradient if parameter in parts else gradient
        return
    if parameter.grad is not None:
        gradient = parameter.grad.detach() + gradient
    is_alike = gradient.stride() == parameter.stride()
    parameter.grad = gradient if is_alike else torch.empty_like(parameter).copy_(gradient)


def gradients(
    output: Tensor, sources: Sequence[Tensor], signal: Tensor, *, retain_graph: bool = False
) -> tuple[Tensor | None, ...]:
    """`torch.autograd.grad` without the hooks of parameters, which `add` calls."""
    hooks = [(source, source._backward_hooks) for source in sources if source._backward_hooks]
    try:
        for source, _ in hooks:
            source._backward_hooks = None
        return torch.autograd.grad(output, sources, signal, retain_graph=retain_graph, allow_unused=True)
    finally:
        for source, own in hooks:
            source._backward_hooks = own


# ── the node of autograd ──────────────────────────────────────────────────────────────────────────────────────────────


def with_gradient(module: Any, run: Callable[[], Tensor], source: Tensor | None = None) -> Tensor:
    """The output of `run()`, with an autograd node if gradients are enabled and the source or a parameter needs one.

    Args:
        module: the layer or network that `run` runs without a graph.
        source: the tensor from which the input was made: (batch, in_features) for a steady input or the mean of a
            stream; (time, batch, in_features) for an input that changes. It gets a gradient if it requires one.
    """
    if not torch.is_grad_enabled():
        return run()
    # Each parameter once, also if layers share it: for each duplicate, torch would add its whole gradient again.
    learnable = list(dict.fromkeys(parameter for layer in module.chain for _, parameter in trained_parameters(layer)))
    if not learnable and (source is None or not source.requires_grad):
        return run()
    output: Tensor = _LocalGradient.apply(module, run, source, *learnable)
    return output


class _LocalGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, module: Any, run: Callable[[], Tensor], source: Tensor | None, *learnable: Tensor) -> Tensor:
        output = run()
        ctx.module, ctx.learnable = module, learnable
        ctx.moment = [(layer._state_changes, layer.live_state.steps.clone()) for layer in module.chain]
        ctx.over_time = output.ndim > module.chain[-1].live_state.neuron[0].ndim
        ctx.source_size = None if source is None else tuple(source.shape)
        return output

    @staticmethod
    @once_differentiable
    @unaffected
    def backward(ctx: Any, signal: Tensor) -> tuple[Tensor | None, ...]:
        for layer, (changes, steps) in zip(ctx.module.chain, ctx.moment, strict=True):
            if layer._state_changes != changes or not torch.equal(layer.live_state.steps, steps):
                raise RuntimeError(
                    f"backward: the state of {layer} has changed since this output was computed. A layer keeps only "
                    "its present state: call backward before the next step, reset or load_state, or sum outputs with "
                    'net.run(xs, reduce="mean")'
                )
        signal = signal.sum(dim=0) if ctx.over_time else signal  # the output of each step counts as the average output
        found, input_grad = ctx.module.local_gradients(signal, return_input_grad=ctx.needs_input_grad[2])
        if input_grad is not None and len(ctx.source_size) > input_grad.ndim:
            input_grad = _over_steps(ctx.module.chain[0], input_grad, ctx.source_size[0])
        return None, None, input_grad, *(found.get(parameter) for parameter in ctx.learnable)


def _over_steps(layer: Layer, input_grad: Tensor, steps: int) -> Tensor:
    """dL/d input of each step, (time, batch, in_features): dL/d average input times the weight of the step."""
    decay = layer.trace_decay.detach()
    decay = decay if layer.input_trace.groups == 1 else decay.mean()  # each group averages the same input differently
    device, dtype = input_grad.device, input_grad.dtype
    ages = torch.arange(steps - 1, -1, -1, device=device, dtype=dtype).view(-1, *[1] * input_grad.ndim)
    return input_grad * (decay**ages * (1 - decay) / F.rise(decay, torch.tensor(steps, device=device)))
