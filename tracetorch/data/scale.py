"""Scaling of the channels of inputs or targets, learned from training samples alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

import numpy as np

from tracetorch.data.samples import Array

Method = Literal["none", "standard", "range"]


class Scale(NamedTuple):
    """The map x → (x − shift)·factor of each channel."""

    shift: Array  # (channels,), float32
    factor: Array  # (channels,), float32
    clips: bool  # whether the result is limited to [0, 1]

    def __call__(self, values: Array) -> Array:
        """Return scaled values, (…, channels), float32."""
        scaled = (values - self.shift) * self.factor
        return np.clip(scaled, 0, 1, dtype=np.float32) if self.clips else scaled.astype(np.float32, copy=False)


def fit(method: Method, samples: Iterable[Array], channels: int) -> Scale:
    """Learn a scale from samples, (steps, channels) or (channels,) each.

    Args: method: "standard": mean 0 and standard deviation 1; "range": from 0 to 1, clipped; "none": no scaling.
    Returns: the scale; a channel that never changes has the factor 1. Without samples, the scale changes nothing.
    """
    if method == "none":
        return Scale(np.zeros(channels, np.float32), np.ones(channels, np.float32), False)
    count, total, squares = 0, np.zeros(channels), np.zeros(channels)
    low, high = np.full(channels, np.inf), np.full(channels, -np.inf)
    for sample in samples:
        if not sample.size:
            continue
        values = np.atleast_2d(sample).astype(np.float64)
        count, total, squares = count + len(values), total + values.sum(axis=0), squares + (values**2).sum(axis=0)
        low, high = np.minimum(low, values.min(axis=0)), np.maximum(high, values.max(axis=0))
    if not count:
        return Scale(np.zeros(channels, np.float32), np.ones(channels, np.float32), False)
    if method == "range":
        shift, width = low, high - low
    else:
        shift = total / count
        width = np.sqrt(np.maximum(squares / count - shift**2, 0))
    is_constant = width <= 1e-7 * np.maximum(1, np.abs(shift))
    factor = 1 / np.where(is_constant, 1, width)
    return Scale(shift.astype(np.float32), factor.astype(np.float32), method == "range")
