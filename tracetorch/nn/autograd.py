"""The output of `net(x)` and `net.run(xs)` as one node of torch's autograd, whose backward pass is the local gradient.

The node holds no history: it refers to the network, whose state is all that a learning moment needs. So a layer or a
network stands anywhere in a torch module, and `loss.backward()` gives what `net.backward(signal)` gives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import Parameter

from tracetorch import functional as F
from tracetorch.modes import unaffected
from tracetorch.nn.local_gradient import trained_parameters


class Learns(Protocol):
    """A layer or a network, as far as its backward pass needs it."""

    @property
    def chain(self) -> list[Any]: ...

    def local_gradients(
        self, signal: Tensor, *, return_input_grad: bool = True
    ) -> tuple[dict[Parameter, Tensor], Tensor | None]: ...


def with_gradient(module: Learns, run: Callable[[], Tensor], source: Tensor | None = None) -> Tensor:
    """The output of `run()`, with a node if gradients are enabled and something below or in the module learns.

    Args:
        run: runs the module and gives its output, without a graph.
        source: what the input was made from: (batch, in_features) for an input that is steady, or the mean of a
            stream; (time, batch, in_features) for one that changes. It gets a gradient if it requires one.
    """
    if not torch.is_grad_enabled():
        return run()
    # Each once, though layers may share it: its node gives the whole gradient, which torch would add up.
    learnable = list(dict.fromkeys(parameter for layer in module.chain for _, parameter in trained_parameters(layer)))
    if not learnable and (source is None or not source.requires_grad):
        return run()
    output: Tensor = _LocalGradient.apply(module, run, source, *learnable)
    return output


class _LocalGradient(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, module: Learns, run: Callable[[], Tensor], source: Tensor | None, *learnable: Tensor
    ) -> Tensor:
        output = run()
        ctx.module, ctx.learnable, ctx.moment = module, learnable, _moment(module)
        ctx.over_time = output.ndim > module.chain[-1].live_state.neuron[0].ndim
        ctx.source_size = None if source is None else tuple(source.shape)
        return output

    @staticmethod
    @once_differentiable
    @unaffected
    def backward(ctx: Any, signal: Tensor) -> tuple[Tensor | None, ...]:
        _check_moment(ctx.module, ctx.moment)
        signal = signal.sum(dim=0) if ctx.over_time else signal  # every step of a chunk has the average output
        asks = ctx.needs_input_grad[2]
        found, below = ctx.module.local_gradients(signal, return_input_grad=asks)
        if below is not None and len(ctx.source_size) > below.ndim:
            below = _over_time(ctx.module.chain[0], below, ctx.source_size[0])
        return None, None, below, *(found.get(parameter) for parameter in ctx.learnable)


def _moment(module: Learns) -> list[tuple[int, Tensor]]:
    """What tells one state from another: how often it was replaced, and its number of steps."""
    return [(layer._state_changes, layer.live_state.steps.clone()) for layer in module.chain]


def _check_moment(module: Learns, moment: list[tuple[int, Tensor]]) -> None:
    for layer, (changes, steps) in zip(module.chain, moment, strict=True):
        if layer._state_changes != changes or not torch.equal(layer.live_state.steps, steps):
            raise RuntimeError(
                f"backward: the state of {layer} has changed since this output was computed. A layer keeps only its "
                "present state: call backward before the next step, reset or load_state, or sum outputs with "
                'net.run(xs, reduce="mean")'
            )


def _over_time(layer: Any, below: Tensor, steps: int) -> Tensor:
    """dL/d average input as dL/d input of each step, (time, batch, in_features): by its weight in the average."""
    decay = layer.trace_decay.detach()
    decay = (
        decay if layer.input_trace.groups == 1 else decay.mean()
    )  # groups of neurons average the same input differently
    ages = torch.arange(steps - 1, -1, -1, device=below.device, dtype=below.dtype)
    ages = ages.view(-1, *[1] * below.ndim)
    count = torch.tensor(steps, device=below.device)
    return below * (decay**ages * (1 - decay) / F.rise(decay, count))
