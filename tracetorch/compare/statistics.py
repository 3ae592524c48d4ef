"""Means and differences with 95 % intervals, by Student's t."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from scipy.special import stdtrit

LEVEL = 0.95


class Summary(NamedTuple):
    """Values of one group."""

    n: int
    mean: float
    low: float  # of the interval of the mean; NaN for one value
    high: float
    sd: float  # NaN for one value
    least: float
    most: float

    @property
    def bar(self) -> tuple[float, float] | None:
        """The interval to draw; the range for two values, whose interval says little; None for one."""
        return None if self.n == 1 else (self.least, self.most) if self.n == 2 else (self.low, self.high)


class Difference(NamedTuple):
    """The mean of one group minus that of another."""

    mean: float
    low: float  # NaN if a group has one run
    high: float
    how: str


def half_width(sd: float, n: float, freedom: float) -> float:
    """Half of the interval of a mean of n values; NaN without degrees of freedom."""
    return float(stdtrit(freedom, (1 + LEVEL) / 2)) * sd / math.sqrt(n) if freedom > 0 else math.nan


def summarize(values: Sequence[float]) -> Summary:
    """Mean, interval and range of one or more values.

        mean ± t(n − 1) · s / √n

    Example:
        >>> summarize([1.0, 2.0, 3.0]).mean
        2.0
    """
    n, mean = len(values), statistics.fmean(values)
    sd = statistics.stdev(values) if n > 1 else math.nan
    half = half_width(sd, n, n - 1)
    return Summary(n, mean, mean - half, mean + half, sd, min(values), max(values))


def difference(before: Sequence[tuple[str, float]], after: Sequence[tuple[str, float]]) -> Difference:
    """The mean of the group `after` minus that of `before`.

    Paired if both groups consist of the same seeds, each once: a seed gives both the same weights and trials, and its
    effect cancels. Otherwise Welch's interval, for unequal variances.

    Args: before, after: the seed ("" if unknown) and the value of each run.
    """
    one, other = dict(before), dict(after)
    each_once = len(one) == len(before) and len(other) == len(after) and "" not in one
    if each_once and len(one) > 1 and one.keys() == other.keys():
        found = summarize([other[seed] - value for seed, value in one.items()])
        return Difference(found.mean, found.low, found.high, "paired by seed")
    a, b = (summarize([value for _, value in group]) for group in (before, after))
    mean = b.mean - a.mean
    if min(a.n, b.n) == 1:
        return Difference(mean, math.nan, math.nan, "one run alone has no interval")
    half, of_a, of_b = 0.0, a.sd * a.sd / a.n, b.sd * b.sd / b.n
    if of_a + of_b > 0:
        share = of_a / (of_a + of_b)
        freedom = 1 / (share * share / (a.n - 1) + (1 - share) * (1 - share) / (b.n - 1))
        half = half_width(math.sqrt(of_a + of_b), 1, freedom)
    return Difference(mean, mean - half, mean + half, "Welch")
