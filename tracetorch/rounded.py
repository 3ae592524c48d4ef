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


class RoundedLine(torch.autograd.Function):
    """From 0 to 1 along z, its corners rounded: `(softplus(k·z) − softplus(k·(z − 1))) / k`."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        steepness, near, far, side = slope(z)
        ctx.save_for_backward(z, steepness)
        # It is symmetric, rate(z) = 1 − rate(1 − z), and where z is large the difference of two softplus would cancel.
        half = near.div_(far).log_().mul_(-1 / SHARPNESS).add_(0.5)
        return torch.copysign(half, side, out=half).add_(0.5)

    @staticmethod
    def backward(ctx: Any, signal: Tensor) -> Tensor:
        z, steepness = ctx.saved_tensors
        # Only who differentiates once more pays for the slope as a function of z.
        return signal * (slope(z)[0] if torch.is_grad_enabled() else steepness)


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
