"""Trials that belong together: the same value, or a bin of neighbouring values."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


class TrialGroups(NamedTuple):
    """Which group each trial is in, and what each group stands for."""

    member: Array  # (trials,), whole, from 0
    centres: Array  # (groups,): the mean of the values in the group
    labels: list[str]  # "0.5" for one value, "0.5–0.8" for a bin

    def means(self, values: Array, other: TrialGroups) -> Array:
        """Mean of `values` (trials,) for each pair of groups, (groups, the other's groups); NaN where there is none."""
        shape = len(self.centres), len(other.centres)
        index = self.member * shape[1] + other.member
        trials = np.bincount(index, minlength=shape[0] * shape[1]).reshape(shape)
        total = np.bincount(index, values, minlength=shape[0] * shape[1]).reshape(shape)
        return np.divide(total, trials, out=np.full(shape, np.nan), where=trials > 0)


def group_trials(values: Array, *, most: int, bins: int) -> TrialGroups:
    """Group by distinct values, or by quantiles if there are more than `most` of them.

    Args:
        values: (trials,), finite.
        most: how many distinct values stand for themselves.
        bins: else how many bins of about equally many trials; equal values are never parted.
    """
    scale = np.abs(values).max() or 1.0
    distinct, index = np.unique(np.round(values / scale, 6), return_inverse=True)  # one value, however it was rounded
    binned = len(distinct) > most
    if binned:
        edges = np.unique(np.quantile(values, np.linspace(0, 1, bins + 1)[1:-1]))
        _, index = np.unique(np.searchsorted(edges, values, side="left"), return_inverse=True)
    centres = np.bincount(index, values) / np.bincount(index)
    if not binned:
        return TrialGroups(index, centres, [f"{centre:.5g}" for centre in centres])
    ends = [(values[index == at].min(), values[index == at].max()) for at in range(len(centres))]
    digits = max(0, 1 - math.floor(math.log10(scale / len(ends))))
    return TrialGroups(index, centres, [f"{low:.{digits}f}–{high:.{digits}f}" for low, high in ends])
