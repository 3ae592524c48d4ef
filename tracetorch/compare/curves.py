"""The mean course of several runs, and how sure it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tracetorch.compare.statistics import half_width
from tracetorch.compare.values import Points

_MOST_POINTS = 400  # more than a printed line can show

Array = np.ndarray[Any, np.dtype[np.float64]]


class Course(NamedTuple):
    """A mean over runs at each of some updates."""

    x: Array
    mean: Array  # over those that came so far
    low: Array  # of the band; NaN where there is none
    high: Array
    whole: Array  # whether all runs came so far


def course(curves: Sequence[Points]) -> Course | None:
    """The mean of curves and its band: the 95 % interval, but for two, where that says little, all between them.

    Between its records a run counts with what lies on the line between them; before the first and after the last, not
    at all. The band goes as far as all do.
    """
    given = [dict(curve) for curve in curves if curve]  # an update that was recorded twice counts once
    if not given:
        return None
    x = np.unique([update for curve in given for update in curve])
    if len(x) > _MOST_POINTS:
        x = np.linspace(x[0], x[-1], _MOST_POINTS)
    rows = []
    for curve in given:
        at = sorted(curve)
        rows.append(np.interp(x, at, [curve[update] for update in at], left=np.nan, right=np.nan))
    values = np.array(rows)
    there = np.isfinite(values).sum(axis=0)
    x, values, there = x[there > 0], values[:, there > 0], there[there > 0]
    whole = there == len(given)
    mean = np.nansum(values, axis=0) / there
    low, high = np.full_like(mean, np.nan), np.full_like(mean, np.nan)
    if len(given) == 2:
        low[whole], high[whole] = values[:, whole].min(axis=0), values[:, whole].max(axis=0)
    elif len(given) > 2:
        half = half_width(1.0, len(given), len(given) - 1) * values[:, whole].std(axis=0, ddof=1)
        low[whole], high[whole] = mean[whole] - half, mean[whole] + half
    return Course(x, mean, low, high, whole)
