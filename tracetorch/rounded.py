"""The line from 0 to 1 whose corners are rounded: what `functional.lif_rate` is made of, and its slope."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

SHARPNESS = 8.0
"""How sharp the rounded corners of the LIF rate are; on MNIST 4 trained as well as 8 (98.2 % each, one seed)."""


_FLAT = 1e-12  # a slope of the LIF rate below this is none
_FAR = -70.0
_OTHER = math.exp(-SHARPNESS)  # of the far corner, what exponentials are of the near one


def rounded_line(z: Tensor) -> Tensor:
    """From 0 to 1 along z, its corners rounded: `(softplus(k·z) − softplus(k·(z − 1))) / k`; works under torch.func."""
    return _RoundedLine.apply(z)[0]


class _RoundedLine(torch.autograd.Function):
    """The line, and its slope, which the backward pass needs and the forward pass gives at little cost."""

    generate_vmap_rule = True

    @staticmethod
    def forward(z: Tensor) -> tuple[Tensor, Tensor]:
        steepness, near, far, side = slope(z)
        # It is symmetric, rate(z) = 1 − rate(1 − z), and where z is large the difference of two softplus would cancel.
        half = near.div_(far).log_().mul_(-1 / SHARPNESS).add_(0.5)
        return torch.sign(side).mul_(half).add_(0.5), steepness

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(inputs[0], output[1])
        ctx.save_for_forward(inputs[0], output[1])

    @staticmethod
    def backward(ctx: Any, signal: Tensor, _: Tensor) -> Tensor:
        z, steepness = ctx.saved_tensors
        # Only a second derivative needs the slope as a function of z.
        return signal * (slope(z)[0] if torch.is_grad_enabled() else steepness)

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> tuple[Tensor, None]:
        return tangent * ctx.saved_tensors[1], None


def slope(z: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The slope of the rounded line.

    Returns: the slope; 1 + e and 1 + e·exp(−k), where e is the exponential of how far z is from the nearer corner,
        inwards, in units of the rounding; and z − 1/2. All the shape of `z`.
    """
    side = z - 0.5
    # No further out than makes a difference: beyond, exponentials are too small to be normal numbers, and processors
    # take ten times as long with such.
    grown = torch.exp(torch.rsub(side.abs(), SHARPNESS / 2, alpha=SHARPNESS).clamp(min=_FAR))
    near, far = 1 + grown, 1 + _OTHER * grown
    steepness = torch.threshold((1 - _OTHER) * grown / (near * far), _FLAT, 0.0)  # less teaches nothing
    return steepness, near, far, side
