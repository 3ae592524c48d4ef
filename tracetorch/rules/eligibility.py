"""An eligibility for every synapse of a layer: what it did that a signal may still ask for."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from tracetorch.nn import Layer
from tracetorch.rules.stepwise import StepwiseGraph, add_gradient, by_group


class Chunk(NamedTuple):
    """What is left of a stretch, to be folded."""

    trace: Tensor  # (groups, time, batch, in_features)
    ones_trace: Tensor  # (time, batch, 1 or out_features)
    slope: Tensor  # ψ, (time·batch, out_features)


class Eligibility:
    """ē of every synapse and bias of a layer, after the chunks that were folded into it; nothing before the first.

    Memory: batch × synapses once there was a second chunk; what the last one left before that.
    """

    def __init__(self, layer: Layer):
        self.layer = layer
        self.last: Chunk | None = None  # gone through, and not folded yet: there may be no signal after it
        self.weight: Tensor | None = None  # (groups × batch, neurons of the group, in_features)
        self.bias: Tensor | None = None  # (batch, out_features)

    def take(self, graph: StepwiseGraph, slope: Tensor) -> None:
        """Remember a chunk until it is known whether there is another after it. Args: slope: ψ."""
        if self.layer.weight.requires_grad or (self.layer.bias is not None and self.layer.bias.requires_grad):
            self.last = Chunk(graph.trace, graph.ones_trace(), slope)

    @torch.no_grad()
    def fold(self, kept: float) -> None:
        """Take in the last chunk, of k steps: ē ← κᵏ·ē + Σ_t κ^(k − t)·ψ(t)·x̂(t)ᵀ. Args: kept: κ."""
        if self.last is None or not kept:
            return
        (trace, ones_trace, slope), self.last = self.last, None
        steps = len(ones_trace)
        ages = torch.arange(steps - 1, -1, -1, dtype=slope.dtype, device=slope.device)
        left = slope.unflatten(0, (steps, -1)) * (kept**ages)[:, None, None]
        slopes, traces = by_group(self.layer, left).permute(0, 2, 3, 1), trace.transpose(1, 2)
        factors = slopes.flatten(0, 1), traces.flatten(0, 1)  # (groups × batch, …, time) and (groups × batch, time, …)
        if self.weight is None:
            self.weight = torch.bmm(*factors)
        else:
            self.weight.baddbmm_(*factors, beta=kept**steps)
        if self.layer.bias is not None:
            new = (left * ones_trace).sum(dim=0)
            self.bias = new if self.bias is None else kept**steps * self.bias + new

    @torch.no_grad()
    def forget(self, mask: Tensor) -> None:
        """Reset some samples, bool (batch,)."""
        if self.last is not None:
            self.last.slope.view(-1, *mask.shape, len(self.layer.weight))[:, mask] = 0
        if self.weight is not None:
            self.weight.unflatten(0, (-1, len(mask)))[:, mask] = 0
        if self.bias is not None:
            self.bias[mask] = 0

    @torch.no_grad()
    def learn(self, told: Tensor) -> None:
        """Add `Σ L·ē` to the gradients. Args: told: L, (batch, out_features)."""
        if self.weight is None:
            return
        parts = by_group(self.layer, told)
        found = torch.einsum("gbo,gboi->goi", parts, self.weight.unflatten(0, parts.shape[:2]))
        add_gradient(self.layer, "weight", found.flatten(0, 1))
        if self.bias is not None:
            add_gradient(self.layer, "bias", (told * self.bias).sum(dim=0))

    def state_dict(self) -> dict[str, Any]:
        """Tensors, for a checkpoint: copies, because what is remembered changes in place."""
        last = None if self.last is None else [value.clone() for value in self.last]
        return {"last": last, **{n: None if v is None else v.clone() for n, v in self._sums().items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        like = self.layer.weight
        last = state["last"] and Chunk(*(value.to(like, copy=True) for value in state["last"]))
        self.last = last or None
        found = (state[name] for name in self._sums())
        self.weight, self.bias = (None if value is None else value.to(like, copy=True) for value in found)

    def _sums(self) -> dict[str, Tensor | None]:
        return {"weight": self.weight, "bias": self.bias}
