"""Centred averages of complete curves; the running averages of `meter.py` lag behind."""

from __future__ import annotations

import math

import numpy as np

from tracetorch.plot.style import Array

_SHARE = 20  # the default width is about a twentieth of a series
_LEAST_POINTS = 20  # of a curve that has a default average
_PER_WIDTH = 8  # most points per width at which an average is computed; values between them are interpolated


def smoothed(x: Array, y: Array, width: float) -> Array:
    """The centred average of a curve at each of its points.

        w = 2^(−((xⱼ − xᵢ) / width)²),    average(xᵢ) = the line that fits the points with these weights, at xᵢ

    A line is fitted because a mean is biased at the ends, where all neighbours are on one side. Averages are clipped to
    the range of the curve, so that an accuracy does not exceed 1.

    Args: x: in ascending order, (n,). y: finite, (n,). width: distance with weight ½, above 0, in the unit of x.
    Returns: (n,).
    Source: Cleveland (1979), Robust locally weighted regression, doi:10.1080/01621459.1979.10481038: the local line.
    """
    if len(x) < 2:
        return y
    count = min(len(x), 1 + math.ceil(_PER_WIDTH * (x[-1] - x[0]) / width))
    points = x[np.unique(np.linspace(0, len(x) - 1, count).round().astype(int))]
    starts, stops = np.searchsorted(x, points - 4 * width), np.searchsorted(x, points + 4 * width, "right")
    averages = [_line(x[a:b] - at, y[a:b], width) for at, a, b in zip(points, starts, stops, strict=True)]
    return np.clip(np.interp(x, points, averages), y.min(), y.max())


def _line(distance: Array, y: Array, width: float) -> float:
    """The value at distance 0 of the weighted least-squares line through the points."""
    weight = np.exp2(-((distance / width) ** 2))
    mean, mean_y = weight @ distance / weight.sum(), weight @ y / weight.sum()
    spread = weight @ (distance - mean) ** 2
    slope = weight @ ((distance - mean) * y) / spread if spread > 1e-9 * width**2 else 0.0
    return float(mean_y - slope * mean)


def default_width(span: float, count: int) -> float:
    """The width of the average of a curve: a round number, about a twentieth of the curve, and at least two gaps.

    Infinite for fewer than 20 points: their average would hide how fast they change.

    Args: span: of the curve, in the unit of the width. count: of its points.
    """
    if count < 2 or not span > 0:
        return 1.0
    if count < _LEAST_POINTS:
        return math.inf
    least, about = 2 * span / (count - 1), span / _SHARE
    power = 10.0 ** math.floor(math.log10(max(least, about)))
    rounded = [digit * power for digit in (1, 2, 5, 10)]
    if least > about:
        return min(value for value in rounded if value >= least)
    return max(value for value in rounded if value <= 1.3 * about)


def fits(width: float, span: float, count: int) -> bool:
    """Whether an average of this width suits a curve: at least a gap between points, at most a third of the curve."""
    return span <= width * (count - 1) and 3 * width <= span
