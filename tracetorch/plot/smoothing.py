"""Averages of curves that are known as a whole, without the lag of the running averages of `meter.py`."""

from __future__ import annotations

import math

import numpy as np

from tracetorch.plot.style import Array

_SHARE = 20  # of a series, that is about the default width
_PER_WIDTH = 8  # points per width at which an average is computed, at most; it is a line between these


def smoothed(x: Array, y: Array, width: float) -> Array:
    """The centred average of a curve at each of its points.

        w = 2^(−((xⱼ − xᵢ) / width)²),    average(xᵢ) = the line that fits the points with these weights, at xᵢ

    A line, not a mean: at the ends all neighbours are on one side, and the mean would lag behind a curve that rises or
    falls. Averages are cut to the range of the curve, so that an accuracy stays below 1.

    Args: x: in ascending order, (n,). y: finite, (n,). width: the distance of half the weight, in the unit of x.
    Source: Cleveland (1979), Robust locally weighted regression, doi:10.1080/01621459.1979.10481038: the local line.
    """
    if len(x) < 2:
        return y
    count = min(len(x), 1 + math.ceil(_PER_WIDTH * (x[-1] - x[0]) / width))
    points = x[np.unique(np.linspace(0, len(x) - 1, count).round().astype(int))]
    from_, to = np.searchsorted(x, points - 4 * width), np.searchsorted(x, points + 4 * width, "right")
    averages = [_line(x[a:b] - at, y[a:b], width) for at, a, b in zip(points, from_, to, strict=True)]
    return np.clip(np.interp(x, points, averages), y.min(), y.max())


def _line(distance: Array, y: Array, width: float) -> float:
    """The value at 0 of the line that fits the points."""
    weight = np.exp2(-((distance / width) ** 2))
    mean, mean_y = weight @ distance / weight.sum(), weight @ y / weight.sum()
    spread = weight @ (distance - mean) ** 2
    slope = weight @ ((distance - mean) * y) / spread if spread > 1e-9 * width**2 else 0.0
    return float(mean_y - slope * mean)


def default_width(span: float, count: int) -> float:
    """The width of the average of a curve: a round number, about a twentieth of the curve, but two gaps at least.

    Args: span: of the curve, in the unit of the width. count: of its points.
    """
    if count < 2 or not span > 0:
        return 1.0
    least, about = 2 * span / (count - 1), span / _SHARE
    power = 10.0 ** math.floor(math.log10(max(least, about)))
    rounded = [digit * power for digit in (1, 2, 5, 10)]
    if least > about:
        return min(value for value in rounded if value >= least)
    return max(value for value in rounded if value <= 1.3 * about)


def fits(width: float, span: float, count: int) -> bool:
    """Whether a curve is long enough for an average: a width is a gap at least, and a third of the curve at most."""
    return span <= width * (count - 1) and 3 * width <= span
