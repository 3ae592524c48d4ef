"""Means and differences with 95 % intervals, by Student's t."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from scipy.special import stdtrit

LEVEL = 0.95


class Summary(NamedTuple):
    """The statistics of the values of one group."""

    n: int
    mean: float
    low: float  # of the interval of the mean; NaN for one value
    high: float
    sd: float  # NaN for one value
    least: float
    most: float

    @property
    def bar(self) -> tuple[float, float] | None:
        """The interval to draw; for two values, whose interval is very wide, their range; None for one value."""
        return None if self.n == 1 else (self.least, self.most) if self.n == 2 else (self.low, self.high)


class Difference(NamedTuple):
    """The mean of one group minus the mean of another, and the interval of the difference."""

    mean: float
    low: float  # NaN if a group has one run
    high: float
    how: str  # the method; without an interval, the reason


def half_width(sd: float, n: float, freedom: float) -> float:
    """Half the width of the interval of a mean of n values; NaN without degrees of freedom."""
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


def difference(first: Sequence[tuple[str, float]], second: Sequence[tuple[str, float]]) -> Difference:
    """The mean of the second group minus the mean of the first.

    Runs are paired by seed if both groups have the same seeds, each once: a seed gives both groups the same weights and
    trials, so its effect cancels. Otherwise the interval is Welch's, for unequal variances.

    Args: before, after: the seed ("" if unknown) and the value of each run.
    """
    firsts, seconds = dict(first), dict(second)
    has_unique_seeds = len(firsts) == len(first) and len(seconds) == len(second) and "" not in firsts
    if has_unique_seeds and len(firsts) > 1 and firsts.keys() == seconds.keys():
        paired = summarize([seconds[seed] - value for seed, value in firsts.items()])
        return Difference(paired.mean, paired.low, paired.high, "paired by seed")
    a, b = (summarize([value for _, value in group]) for group in (first, second))
    mean = b.mean - a.mean
    if min(a.n, b.n) == 1:
        return Difference(mean, math.nan, math.nan, "one run alone has no interval")
    half, var_a, var_b = 0.0, a.sd * a.sd / a.n, b.sd * b.sd / b.n  # variances of the means
    if var_a + var_b > 0:
        share = var_a / (var_a + var_b)
        freedom = 1 / (share * share / (a.n - 1) + (1 - share) * (1 - share) / (b.n - 1))
        half = half_width(math.sqrt(var_a + var_b), 1, freedom)
    return Difference(mean, mean - half, mean + half, "Welch")
