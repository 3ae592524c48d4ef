"""A learning moment of one layer: its average input, one small graph through its average output, and what that says."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from torch.nn import Parameter

from tracetorch import functional as F
from tracetorch.nn import bank

if TYPE_CHECKING:
    from tracetorch.nn.layer import TraceLayer

At = Literal["output", "logits"]
"""What a signal is the derivative by: the average output, or that of which it is the softmax."""


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


@torch.enable_grad()
def backward(
    layer: TraceLayer,
    state: Any,
    signal: Tensor,
    above: TraceLayer | None,
    *,
    at: At = "output",
    below: bool = True,
) -> Tensor | None:
    """Add the gradient to every learnable parameter's `.grad`. Args and Returns: as `TraceLayer.backward`."""
    average = average_input(layer, state)
    _check_signal(layer, signal, average.shape[-2], above)
    learnable = {name: parameter for name, parameter in layer.named_parameters() if parameter.requires_grad}
    whole, of_current = signal if signal.ndim == 2 else signal.sum(dim=0), steady_map(layer, state.steps, at)

    def gives(average: Tensor) -> Tensor:
        return of_current(average_current(layer, average))

    if not len(layer.bank):
        told = _pull(gives, average, whole, learnable, below=below)
        return _over_groups(layer, told)
    # Decays learn from the layer's own trace: for each in the bank they would need a slope more.
    decays = {name: learnable.pop(name) for name in list(learnable) if name in ("raw_decay", "raw_trace_decay")}
    _pull(gives, average, whole, decays, below=False)
    if signal.ndim == 2 or above is None or not torch.equal(above.bank, layer.bank):
        signal = whole * bank.shares(_reader(layer, above), state.steps, layer.bank)
    averages = bank.average_inputs(state.trace, layer.trace_decay.detach(), state, layer.bank)
    return _over_groups(layer, _pull(gives, averages, signal, learnable, below=below))


def _over_groups(layer: TraceLayer, below: Tensor | None) -> Tensor | None:
    return below if below is None or layer.groups == 1 else below.sum(dim=-3)


def steady_map(layer: TraceLayer, steps: Tensor, at: At) -> Callable[[Tensor], Tensor]:
    """From an average current to the average output, or to the logits of that."""
    if at not in ("output", "logits"):
        raise ValueError(f'a signal is one at the "output" or at the "logits", got {at!r}')
    through = layer.average_output if at == "output" else layer.average_logits
    return lambda current: through(current, steps)


def _pull(
    gives: Callable[[Tensor], Tensor],
    average: Tensor,
    signal: Tensor,
    learnable: dict[str, Parameter],
    *,
    below: bool,
) -> Tensor | None:
    """Through the average output of one average input, or of several: to the parameters, and to the average input."""
    if below and not average.requires_grad:
        average.requires_grad_()
    sources = [*learnable.values(), average] if below else [*learnable.values()]
    if not sources:
        return None
    output = gives(average)
    gradients = torch.autograd.grad(output, sources, signal.to(output.dtype), allow_unused=True)
    for parameter, gradient in zip(learnable.values(), gradients, strict=False):
        accumulate(parameter, gradient)
    return gradients[-1] if below else None


@torch.no_grad()
def accumulate(parameter: Parameter, gradient: Tensor | None) -> None:
    """Add to a parameter's `.grad`, if there is anything to add.

    It lies in memory as the parameter does: torch's fused optimizers go through both side by side, and do not look.
    """
    if gradient is None:
        return
    if parameter.grad is not None:
        gradient = parameter.grad + gradient
    is_alike = gradient.stride() == parameter.stride()
    parameter.grad = gradient if is_alike else torch.empty_like(parameter).copy_(gradient)


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
        # Not `linear`: this way the gradient is laid out as the weight is, and the optimizer need not jump.
        current = average @ layer.weight.t()
    else:
        weight = layer.weight.view(layer.groups, -1, layer.in_features)
        current = torch.einsum("...gbi,goi->...bgo", average, weight).flatten(-2)
    return current if layer.bias is None else current + layer.bias


def _check_signal(layer: TraceLayer, signal: Tensor, batch: int, above: TraceLayer | None) -> None:
    wanted = (batch, layer.out_features)
    several = signal.ndim == 3 and above is not None and len(above.bank) == len(signal)
    if tuple(signal.shape[1:] if several else signal.shape) != wanted:
        raise ValueError(f"{layer} expects a signal of shape {wanted}, got {tuple(signal.shape)}")
