"""Converts tensors to the arrays that matplotlib draws, with checks of shapes; groups trials with similar values."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tracetorch.plot.style import Array


def as_array(value: Tensor, name: str, *axes: str) -> Array:
    """Convert a tensor on any device, of any dtype, to an array of float64.

    Args:
        value: the tensor.
        name: its name in error messages.
        axes: the names of its axes, such as "time", "neurons".
    Raises: ValueError for another number of axes, or for an empty axis.
    """
    tensor = torch.as_tensor(value).detach()
    if tensor.ndim != len(axes) or tensor.numel() == 0:
        wanted = ", ".join(axes) + ("," if len(axes) == 1 else "")
        raise ValueError(f"{name} must have shape ({wanted}) with something along each axis, got {tuple(tensor.shape)}")
    return tensor.cpu().double().numpy()


def as_trials(**columns: Tensor) -> list[Array]:
    """Columns of one table as arrays. Raises: ValueError unless they are finite and all of the shape (trials,)."""
    arrays = {name: as_array(value, name, "trials") for name, value in columns.items()}
    (first_name, first), *others = arrays.items()
    for name, other in others:
        if len(other) != len(first):
            raise ValueError(f"{first_name} and {name} must be of the same trials, got {len(first)} and {len(other)}")
    for name, values in arrays.items():
        if not np.isfinite(values).all():
            raise ValueError(f"{name} must be finite in every trial, got {(~np.isfinite(values)).sum()} that are not")
    return list(arrays.values())


class TrialGroups(NamedTuple):
    """Trials with the same value, or with values in one bin."""

    member: Array  # the group of each trial, (trials,), integers from 0
    centres: Array  # (groups,): the mean of the values in the group
    labels: list[str]  # "0.5" for one value, "0.5–0.8" for a bin

    def means(self, values: Array, other: TrialGroups) -> Array:
        """The means of `values` (trials,) for pairs of groups, (groups, other groups); NaN for pairs without trials."""
        shape = len(self.centres), len(other.centres)
        index = self.member * shape[1] + other.member
        trials = np.bincount(index, minlength=shape[0] * shape[1]).reshape(shape)
        total = np.bincount(index, values, minlength=shape[0] * shape[1]).reshape(shape)
        return np.divide(total, trials, out=np.full(shape, np.nan), where=trials > 0)


def group_trials(values: Array, *, most: int, bins: int) -> TrialGroups:
    """Group trials by distinct values, or by quantiles if there are more than `most` distinct values.

    Args: bins: number of quantile bins; equal values are in one bin.
    """
    scale = np.abs(values).max() or 1.0
    distinct, index = np.unique(np.round(values / scale, 6), return_inverse=True)  # rounding errors do not count
    is_binned = len(distinct) > most
    if is_binned:
        edges = np.unique(np.quantile(values, np.linspace(0, 1, bins + 1)[1:-1]))
        _, index = np.unique(np.searchsorted(edges, values, side="left"), return_inverse=True)
    centres = np.bincount(index, values) / np.bincount(index)
    if not is_binned:
        return TrialGroups(index, centres, [f"{centre:.5g}" for centre in centres])
    ranges = [(values[index == at].min(), values[index == at].max()) for at in range(len(centres))]
    enough = max(0, 1 - math.floor(math.log10(scale / len(ranges))))
    digits = next((count for count in range(enough) if _are_exact(ranges, count, scale)), enough)
    return TrialGroups(index, centres, [f"{low:.{digits}f}–{high:.{digits}f}" for low, high in ranges])


def _are_exact(ranges: list[tuple[float, float]], digits: int, scale: float) -> bool:
    """Whether so many decimals are all that the ends of the ranges have, apart from rounding errors."""
    return all(abs(round(end, digits) - end) <= 1e-6 * scale for ends in ranges for end in ends)
