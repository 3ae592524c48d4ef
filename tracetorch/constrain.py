"""Constrained parameters: stored as unconstrained numbers, read as decays and positive levels.

A decay must stay inside (0, 1) and a threshold above 0 while an optimizer moves them. Each is stored *raw*, on the
whole real line, and read through a smooth one-to-one map. Nothing is clamped, so no gradient is lost at a boundary.

    decay = ε + (1 − 2ε)·sigmoid(raw)     raw = the inverse; ε, the rounding error of the dtype, keeps it off 0 and 1
    threshold = δ + softplus(raw)         raw = the inverse; δ, far below any rounding of 1, keeps gradients finite

The same leak has three forms; layers take only the first:

    decay β         what is left after one step, in (0, 1)
    half-life h     β^h = 1/2,   h = −ln 2 / ln β       (in steps, or in the unit of `dt`)
    time constant τ β^τ = 1/e,   τ = −1 / ln β          (in steps, or in the unit of `dt`)
"""

import math

import torch
from torch import Tensor

from tracetorch.modes import numbers

Number = float | Tensor


def decay_from_raw(raw: Tensor) -> Tensor:
    """Read a raw number as a decay in (0, 1): `sigmoid(raw)`, kept away from both ends by a rounding error ε.

    With a decay rounded to 1, the average input would be 0/0.
    """
    eps = torch.finfo(raw.dtype).eps
    return eps + (1 - 2 * eps) * torch.sigmoid(raw)


def raw_from_decay(decay: Number) -> Tensor:
    """Store a decay: the inverse of `decay_from_raw`. Raises: ValueError outside (0, 1), or too close to its ends."""
    decay = _in_range(decay, "a decay", 0.0, 1.0)
    eps = torch.finfo(decay.dtype).eps
    inner = (decay - eps) / (1 - 2 * eps)
    if not bool(((inner > 0) & (inner < 1)).all()):
        raise ValueError(f"a decay must differ from 0 and from 1 by more than {eps:g} in {decay.dtype}")
    return torch.logit(inner)


def positive_from_raw(raw: Tensor) -> Tensor:
    """Read a raw number as a positive level, such as a threshold: `softplus(raw)` above δ, 3e-10 in float32.

    Gradients are divided by the square of a threshold; one of 1e-20 would make them infinite or NaN.
    """
    return _lowest_level(raw.dtype) + torch.nn.functional.softplus(raw)


def raw_from_positive(level: Number) -> Tensor:
    """Store a positive level: the inverse of `positive_from_raw`. Raises: ValueError if not finite or not above δ."""
    level = _in_range(level, "a threshold", 0.0, math.inf)
    lowest = _lowest_level(level.dtype)
    if not bool((level > lowest).all()):
        raise ValueError(f"a threshold must be above {lowest:.1g} in {level.dtype}, got {float(level.min()):g}")
    level = level - lowest
    return level + torch.log(-torch.expm1(-level))


def decay_from_half_life(half_life: Number, dt: float = 1.0) -> Tensor:
    """The decay per step that halves a value in `half_life`, in steps or in the unit of `dt`, the length of a step."""
    return torch.exp2(-dt / _in_range(half_life, "a half-life", 0.0, math.inf))


def half_life_from_decay(decay: Number, dt: float = 1.0) -> Tensor:
    """The time in which a value with this decay halves, in steps or in the unit of `dt`."""
    return -dt / torch.log2(_in_range(decay, "a decay", 0.0, 1.0))


def decay_from_time_constant(time_constant: Number, dt: float = 1.0) -> Tensor:
    """The decay per step that leaves 1/e of a value after `time_constant`, in steps or in the unit of `dt`."""
    return torch.exp(-dt / _in_range(time_constant, "a time constant", 0.0, math.inf))


def time_constant_from_decay(decay: Number, dt: float = 1.0) -> Tensor:
    """The time in which a value with this decay falls to 1/e, in steps or in the unit of `dt`."""
    return -dt / torch.log(_in_range(decay, "a decay", 0.0, 1.0))


def spread(low: float, high: float, count: int) -> Tensor:
    """`count` decays whose half-lives are evenly spaced in the logarithm, from `low` to `high` (both decays).

    A population with many time scales: `LIF(784, 64, decay=spread(.5, .999, 64), trace_decay=.9)`.
    """
    if count < 1:
        raise ValueError(f"spread needs a count of at least 1, got {count}")
    ends = torch.log(half_life_from_decay(torch.tensor([low, high], dtype=torch.float64)))
    half_lives = torch.exp(torch.linspace(float(ends[0]), float(ends[1]), count, dtype=torch.float64))
    return decay_from_half_life(half_lives).to(torch.get_default_dtype())


def _lowest_level(dtype: torch.dtype) -> float:
    info = torch.finfo(dtype)
    return min(info.tiny**0.25, info.eps)


def _in_range(value: Number, what: str, low: float, high: float) -> Tensor:
    tensor = value if isinstance(value, Tensor) else numbers(value, what)
    if not bool(((tensor > low) & (tensor < high)).all()):
        wanted = f"between {low:g} and {high:g}" if math.isfinite(high) else f"a finite number above {low:g}"
        shown = tensor.tolist() if tensor.numel() <= 4 else f"values from {tensor.min():g} to {tensor.max():g}"
        raise ValueError(f"{what} must be {wanted} (both excluded), got {shown}")
    return tensor
