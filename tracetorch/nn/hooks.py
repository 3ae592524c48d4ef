"""Forward hooks of layers and networks that run over many steps at once: `Module` knows only the call of one step."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor
from torch.nn import Module

from tracetorch import kernels
from tracetorch.kernels import Draws, Sink

if TYPE_CHECKING:
    from tracetorch.nn.layer import TraceLayer
    from tracetorch.nn.sequential import Sequential


def has_hooks(module: Module) -> bool:
    """Whether anything wants to see, or to change, what goes into a module or comes out of it."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def call_with_hooks(module: Module, forward: Callable[[Tensor], Tensor], xs: Tensor) -> Tensor:
    """`forward(xs)` as the call of a module: between its forward pre-hooks and its forward hooks."""
    if not has_hooks(module):
        return forward(xs)
    vars(module)["forward"] = forward  # found before the method, so that torch itself calls every kind of hook
    try:
        with torch.enable_grad():  # a hook may compute a weight from parameters that learn, as pruning does
            return cast(Tensor, module(xs)).detach()
    finally:
        del vars(module)["forward"]


def pass_on(module: TraceLayer | Sequential, xs: Tensor | Draws) -> Tensor:
    """A chunk through a layer or a network, with hooks. Returns: its outputs, (time, batch, out_features)."""

    def advance(xs: Tensor) -> Tensor:
        weight = next(module.parameters())
        outputs = torch.empty(*xs.shape[:2], module.out_features, dtype=weight.dtype, device=weight.device)
        module.advance(xs, Sink(outputs=outputs))
        return outputs

    return call_with_hooks(module, advance, kernels.spikes(xs) if isinstance(xs, Draws) else xs)


def advance_with_hooks(module: TraceLayer | Sequential, xs: Tensor | Draws, sink: Sink) -> None:
    """A chunk through a layer or a network; `sink` takes the outputs."""
    if has_hooks(module):
        sink.take_chunk(pass_on(module, xs))
    else:
        module.advance(xs, sink)
