"""Samples as the readers give them: inputs, targets, and the fields by which they are split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Events(NamedTuple):
    """The events of one sample, in order of time."""

    times: np.ndarray  # (events,), float64, seconds from the start of the sample
    channels: np.ndarray  # (events,), int64


class Samples(NamedTuple):
    """A data set in memory."""

    inputs: Sequence[np.ndarray | Events]
    """One entry for each sample: an array (steps, channels) or (channels,), float32, or events."""
    channels: int
    """Number of input channels."""
    target: Sequence[object]
    """One entry for each sample: a label (a string or a whole number), a vector of numbers, or an array (steps, …)."""
    fields: dict[str, np.ndarray]
    """Columns of strings or numbers, (samples,) each, by which samples can be split; may be empty."""
    names: Sequence[str]
    """What messages call a sample: its file, or its row."""
    dt: float | None = None
    """Seconds from one step of the arrays to the next; None if unknown."""

    def __len__(self) -> int:
        return len(self.inputs)
