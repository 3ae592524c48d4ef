"""Samples as the readers return them: inputs, targets, and the fields by which they can be split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from tracetorch.printable import printable

Array = np.ndarray[Any, Any]


class Events(NamedTuple):
    """The events of one sample, in order of time."""

    times: Array  # (events,), float32 or float64, seconds from the start of the sample
    channels: Array  # (events,), whole numbers from 0


@dataclass(frozen=True)
class Samples:
    """A data set."""

    inputs: Sequence[Any] | Array
    """One entry for each sample: an array (steps, channels) or (channels,), float32; or `Events`."""
    channels: int
    """Number of input channels."""
    target: Sequence[Any] | Array
    """One entry for each sample: a string, a number, a vector of numbers, or an array (steps, …)."""
    fields: dict[str, Array]
    """Columns of strings or numbers, (samples,) each, by which samples can be split; may be empty."""
    names: Sequence[str]
    """The name of each sample in messages: its file, or its row."""
    source: str
    """The name of the data in messages: their path."""
    dt: float | None = None
    """Seconds from one step of the arrays to the next; None if unknown."""
    image: tuple[int, int] | None = None
    """Height and width, if a sample or a step is an image of one channel; None if not."""
    is_scaled: bool = False
    """Whether the inputs need no normalization, for example brightness from 0 to 1."""
    target_names: tuple[str, ...] = ()
    """Names of the values of a target, or the one name of all; empty if unknown."""
    channel_names: tuple[str, ...] = ()
    """Names of the channels, such as columns; empty if unknown."""
    frequencies: Array | None = None
    """The centre of each channel in Hz, ascending, if channels are frequency bands; None if not."""
    remark: str = ""
    """A note of the reader: what it changed, or a setting that may be missing."""

    lengths: Sequence[int] | None = None
    """Number of steps of each sample, 0 without steps, if it is known without reading all inputs; None if not."""

    def __len__(self) -> int:
        return len(self.inputs)

    def names_of_channels(self) -> list[str]:
        """Return the names of the channels, or of frequency bands their centres; [] if neither is known."""
        if self.frequencies is not None:
            return [f"{frequency:,.0f} Hz" for frequency in self.frequencies]
        return list(self.channel_names)

    def other_channel(self, trained: Sequence[str]) -> str:
        """Say which channel is another one than in training; "" if none is. Args: trained: names; [] if unknown."""
        own = self.names_of_channels()
        at = next((number for number, pair in enumerate(zip(trained, own, strict=False)) if pair[0] != pair[1]), None)
        if at is None:
            return ""
        inputs = printable(",".join(trained), 200)
        advice = f"task.inputs=[{inputs}]" if self.frequencies is None else "one task.sample_rate for both"
        found = f"channel {at} was {printable(trained[at], 40)} in training and is {printable(own[at], 40)}"
        return f"{found} in {self.source}: give {advice}"

    def num_steps(self) -> Sequence[int]:
        """Return the number of steps of each sample; 0 for samples without steps and for events."""
        if self.lengths is not None:
            return self.lengths
        return [len(value) if isinstance(value, np.ndarray) and value.ndim > 1 else 0 for value in self.inputs]


def check_finite(values: Array, what: str) -> None:
    """Raises: ValueError that names the first value that is not finite. Args: what: the name of the array."""
    is_finite = np.isfinite(values)
    if not is_finite.all():
        at = tuple(int(index) for index in np.argwhere(~is_finite)[0])
        raise ValueError(f"{what}{list(at)} is {values[at]}; wanted: finite numbers")
