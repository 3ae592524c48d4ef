"""The output of `net(x)` and `net.run(xs)` as one node of torch's autograd, whose backward pass is the local gradient.

The node holds no history: it refers to the network, whose state is all that a learning moment needs. So a layer or a
network stands anywhere in a torch module, and `loss.backward()` gives what `net.backward(signal)` gives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tracetorch import functional as F
from tracetorch.modes import unaffected

if TYPE_CHECKING:
    from tracetorch.nn.layer import TraceLayer
    from tracetorch.nn.sequential import Sequential


def with_gradient(module: TraceLayer | Sequential, run: Callable[[], Tensor], source: Tensor | None = None) -> Tensor:
    """The output of `run()`, with a node if gradients are enabled and something below or in the module learns.

    Args:
        run: runs the module and gives its output, without a graph.
        source: what the input was made from: (batch, in_features) for an input that is steady, or the mean of a
            stream; (time, batch, in_features) for one that changes. It gets a gradient if it requires one.
    """
    if not torch.is_grad_enabled():
        return run()
    learnable = [value for layer in module.chain for value in layer.own_parameters() if value.requires_grad]
    if not learnable and (source is None or not source.requires_grad):
        return run()
    output: Tensor = _LocalGradient.apply(module, run, source, *learnable)
    return output


class _LocalGradient(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, module: TraceLayer | Sequential, run: Callable[[], Tensor], source: Tensor | None, *learnable: Tensor
    ) -> Tensor:
        output = run()
        ctx.module, ctx.learnable, ctx.moment = module, learnable, _moment(module)
        ctx.source_size = None if source is None else tuple(source.shape)
        return output

    @staticmethod
    @once_differentiable
    @unaffected
    def backward(ctx: Any, signal: Tensor) -> tuple[Tensor | None, ...]:
        _check_moment(ctx.module, ctx.moment)
        signal = signal.sum(dim=0) if signal.ndim == 3 else signal  # every step of a chunk has the average output
        asks = ctx.needs_input_grad[2]
        found, below = ctx.module.local_gradients(signal, below=asks)
        if below is not None and len(ctx.source_size) == 3:
            below = _over_time(ctx.module.chain[0], below, ctx.source_size[0])
        return None, None, below, *(found.get(parameter) for parameter in ctx.learnable)


def _moment(module: TraceLayer | Sequential) -> list[tuple[int, Tensor]]:
    """What tells one state from another: how often it was replaced, and its number of steps."""
    return [(layer.state_changes, layer.present.steps.clone()) for layer in module.chain]


def _check_moment(module: TraceLayer | Sequential, moment: list[tuple[int, Tensor]]) -> None:
    for layer, (changes, steps) in zip(module.chain, moment, strict=True):
        if layer.state_changes != changes or not torch.equal(layer.present.steps, steps):
            raise RuntimeError(
                f"backward: the state of {layer} has changed since this output was computed. A layer keeps only its "
                "present state: call backward before the next step, reset or load_state, or sum outputs with "
                'net.run(xs, reduce="mean")'
            )


def _over_time(layer: TraceLayer, below: Tensor, steps: int) -> Tensor:
    """dL/d average input as dL/d input of each step, (time, batch, in_features): by its weight in the average."""
    decay = layer.trace_decay.detach()
    decay = decay if layer.groups == 1 else decay.mean()  # groups of neurons average the same input differently
    ages = torch.arange(steps - 1, -1, -1, device=below.device, dtype=below.dtype)[:, None, None]
    count = torch.tensor(steps, device=below.device)
    return below * (decay**ages * (1 - decay) / F.seen(decay, count))
