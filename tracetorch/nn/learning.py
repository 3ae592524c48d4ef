"""A learning moment of one layer: its average input, one small graph through its average output, and what that says."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn.functional import linear

from tracetorch import functional as F
from tracetorch.modes import check_tensor, unaffected
from tracetorch.nn import bank
from tracetorch.nn.gradients import gradients

if TYPE_CHECKING:
    from tracetorch.nn.layer import TraceLayer

At = Literal["output", "logits"]
"""What a signal is the derivative by: the average output, or that of which it is the softmax."""


@unaffected
def average_input(layer: TraceLayer, state: Any) -> Tensor:
    """The weighted mean of all input since the last reset, recent steps weighing more: (…, batch, in_features).

    If a decay learns from it, it depends on that decay just as the recorded input makes it.

    Raises: RuntimeError before the first step.
    """
    if state is None:
        raise RuntimeError(f"{layer} has seen no input: call net(x) or net.run(xs) before net.backward(signal)")
    trace, decay = state.trace, layer.trace_decay
    if layer.keeps_slope:
        decay = layer.learnable_trace_decay
        slope = state.second[: layer.groups] if trace.ndim == 3 else state.second[0]
        trace = trace + slope * (decay - decay.detach())
    return F.average_input(trace, decay, state.steps)


Gradients = dict[Parameter, Tensor]


@unaffected
@torch.enable_grad()
def local_gradients(
    layer: TraceLayer,
    state: Any,
    signal: Tensor,
    above: TraceLayer | None,
    *,
    at: At = "output",
    below: bool = True,
) -> tuple[Gradients, Tensor | None]:
    """The gradients of a learning moment. Args: as `TraceLayer.backward`.

    Returns: the gradient of each learnable parameter that has one; and what `TraceLayer.backward` returns.
    """
    if state is None:
        raise RuntimeError(f"{layer} has seen no input: call net(x) or net.run(xs) before net.backward(signal)")
    _check_signal(layer, signal, state.trace.shape[-2], above)
    learnable = {name: parameter for name, parameter in parameters_of(layer) if parameter.requires_grad}
    whole, of_current = signal if signal.ndim == 2 else signal.sum(dim=0), steady_map(layer, state.steps, at)
    if layer.learns_by_products:
        return _by_products(layer, state, whole, learnable, at=at, below=below)
    average = average_input(layer, state)

    def gives(average: Tensor) -> Tensor:
        return of_current(average_current(layer, average))

    if not len(layer.bank):
        found, told = _vjp(gives, average, whole, learnable, below=below)
        return found, _over_groups(layer, told)
    # Decays learn from the layer's own trace: for each in the bank they would need a slope more.
    decays = {name: learnable.pop(name) for name in list(learnable) if name in ("raw_decay", "raw_trace_decay")}
    of_decays, _ = _vjp(gives, average, whole, decays, below=False)
    if signal.ndim == 2 or above is None or not torch.equal(above.bank, layer.bank):
        signal = whole * bank.shares(_reader(layer, above), state.steps, layer.bank)
    averages = bank.average_inputs(state.trace, layer.trace_decay.detach(), state, layer.bank)
    found, told = _vjp(gives, averages, signal, learnable, below=below)
    return of_decays | found, _over_groups(layer, told)


def parameters_of(layer: TraceLayer) -> Iterable[tuple[str, Parameter]]:
    """`named_parameters`, which takes its time to look for modules within, where there are none."""
    if layer._modules:
        return layer.named_parameters()
    return ((name, parameter) for name, parameter in layer._parameters.items() if parameter is not None)


@torch.no_grad()
def _by_products(
    layer: TraceLayer, state: Any, signal: Tensor, learnable: dict[str, Parameter], *, at: At, below: bool
) -> tuple[Gradients, Tensor | None]:
    """The usual case, a constant average input: autograd goes back to the current; two products do the rest.

    The gradient of the weights is computed in their layout, and no graph holds the product.
    """
    if not learnable and not below:
        return {}, None
    average = average_input(layer, state)
    current = average_current(layer, average)
    of_map = {name: parameter for name, parameter in learnable.items() if name not in ("weight", "bias")}
    with torch.enable_grad():
        found, delta = _vjp(steady_map(layer, state.steps, at), current, signal, of_map, below=True)
    assert delta is not None
    if "weight" in learnable:
        found[layer.weight] = delta.t() @ average
    if "bias" in learnable:
        found[learnable["bias"]] = delta.sum(dim=0)
    return found, delta @ layer.weight if below else None


def _over_groups(layer: TraceLayer, below: Tensor | None) -> Tensor | None:
    return below if below is None or layer.groups == 1 else below.sum(dim=-3)


def steady_map(layer: TraceLayer, steps: Tensor, at: At) -> Callable[[Tensor], Tensor]:
    """From an average current to the average output, or to the logits of that."""
    if at not in ("output", "logits"):
        raise ValueError(f'at must be "output" or "logits", got {at!r}')
    through = layer.average_output if at == "output" else layer.average_logits
    return lambda current: through(current, steps)


def _vjp(
    gives: Callable[[Tensor], Tensor],
    average: Tensor,
    signal: Tensor,
    learnable: dict[str, Parameter],
    *,
    below: bool,
) -> tuple[Gradients, Tensor | None]:
    """Back through `gives`: to the parameters, and to where it begins: an average input, several of them, a current."""
    if below and not average.requires_grad:
        average.requires_grad_()
    sources = [*learnable.values(), average] if below else [*learnable.values()]
    if not sources:
        return {}, None
    output = gives(average)
    # Retained, because a weight that is computed from others has a graph that later moments need.
    found = gradients(output, sources, signal.to(output.dtype), retain_graph=True)
    of_parameters = zip(learnable.values(), found, strict=False)
    return {parameter: one for parameter, one in of_parameters if one is not None}, found[-1] if below else None


def _reader(layer: TraceLayer, above: TraceLayer | None) -> Tensor:
    """The decay with which the outputs are remembered by whom the signal comes from; with its own, if from a loss."""
    if above is None:
        return layer.trace_decay.detach().mean()
    if len(above.bank):
        return above.bank[-1]
    return above.trace_decay.detach() if above.groups == 1 else above.trace_decay.detach().mean()


def average_current(layer: TraceLayer, average: Tensor) -> Tensor:
    """What current an average input makes, (…, batch, out_features); each group of neurons has its own average."""
    if layer.groups == 1:
        return linear(average, layer.weight, layer.bias)
    weight = layer.weight.view(layer.groups, -1, layer.in_features)
    current = torch.einsum("...gbi,goi->...bgo", average, weight).flatten(-2)
    return current if layer.bias is None else current + layer.bias


def _check_signal(layer: TraceLayer, signal: Tensor, batch: int, above: TraceLayer | None) -> None:
    check_tensor(signal, f"the signal for {layer}")
    wanted = (batch, layer.out_features)
    several = signal.ndim == 3 and above is not None and len(above.bank) == len(signal)
    if tuple(signal.shape[1:] if several else signal.shape) != wanted:
        raise ValueError(f"{layer} expects a signal of shape {wanted}, got {tuple(signal.shape)}")
    if signal.device != layer.weight.device:
        where = f"{layer} is on {layer.weight.device}, and its signal on {signal.device}"
        raise ValueError(f"{where}: move one of them with .to")
