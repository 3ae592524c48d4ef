"""How a gradient gets into a parameter's `.grad`: with the hooks of the parameter, as torch would put it there.

`Tensor.register_hook` may change a gradient, as a mask of absent synapses does, and
`Tensor.register_post_accumulate_grad_hook` may use it at once. Each is called once for each `backward` of a layer, a
network or a rule, with the whole gradient, in however many parts the rule finds it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import Parameter


class _Open(threading.local):
    """The parts found so far of gradients whose parameters have hooks; None outside of `whole_gradients`."""

    parts: dict[Parameter, Tensor] | None = None


_open = _Open()


@contextmanager
def whole_gradients() -> Iterator[None]:
    """Within, the parts of a gradient are added up before any hook sees it. Nothing is learnt if an error leaves it."""
    if _open.parts is not None:
        yield
        return
    _open.parts = {}
    try:
        yield
        whole = _open.parts
    finally:
        _open.parts = None
    for parameter, gradient in whole.items():
        parameter.backward(gradient)  # torch calls the hooks, and adds to `.grad` in between


def accumulate(found: dict[Parameter, Tensor]) -> None:
    """Add gradients to the `.grad` of their parameters."""
    for parameter, gradient in found.items():
        add(parameter, gradient)


def add(parameter: Parameter, gradient: Tensor | None) -> None:
    """Add to a parameter's `.grad`, if there is anything to add.

    It lies in memory as the parameter does: torch's fused optimizers go through both side by side, and do not look.
    """
    if gradient is None:
        return
    gradient = gradient.detach()
    if parameter._backward_hooks or parameter._post_accumulate_grad_hooks:
        with whole_gradients():
            parts = _open.parts
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
    """`torch.autograd.grad`, which would call the hooks of parameters; that is left to `accumulate`."""
    hooks = [(source, source._backward_hooks) for source in sources if source._backward_hooks]
    try:
        for source, _ in hooks:
            source._backward_hooks = None
        return torch.autograd.grad(output, sources, signal, retain_graph=retain_graph, allow_unused=True)
    finally:
        for source, theirs in hooks:
            source._backward_hooks = theirs
