"""The time axis of a figure, and what panels over time share."""

from __future__ import annotations

import textwrap
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes

from tracetorch.plot.style import round_ticks

MANY = 2_000
"""From this many spikes in a panel on, an SVG holds them as a picture (200 dpi) and not one by one."""

Array = np.ndarray[Any, np.dtype[Any]]


class Clock(NamedTuple):
    """From steps, and from the unit of dt, to positions on the time axis."""

    centres: Array  # where the middle of each step lies
    factor: float  # from the caller's unit to the axis'
    shift: float
    end: float  # in the caller's unit
    label: str

    @classmethod
    def over(cls, steps: int, dt: float | None) -> Clock:
        if dt is None:
            return cls(np.arange(steps), 1.0, -0.5, steps, "time (steps)")
        if not dt > 0:
            raise ValueError(f"dt must be above 0 seconds, or None to count in steps, got {dt}")
        factor, unit = (1e3, "ms") if steps * dt < 2 else (1.0, "s")
        return cls((np.arange(steps) + 0.5) * dt * factor, factor, 0.0, steps * dt, f"time ({unit})")

    def at(self, value: float) -> float:
        return value * self.factor + self.shift


def evenly(count: int, most: int) -> list[int]:
    """At most so many of `count` neurons, evenly spaced."""
    if most < 1:
        raise ValueError(f"neurons, the most to draw, must be at least 1, got {most}")
    return np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist()


def rate(mean: float, dt: float | None) -> str:
    """A mean number of spikes per step, in words."""
    if dt is None:
        return f"{mean:.2g} spikes per step"
    return f"{mean / dt:,.0f} Hz" if mean / dt >= 100 else f"{mean / dt:.3g} Hz"


def title(axes: Axes, text: str) -> None:
    """A panel's small title, wrapped to its width."""
    axes.set_title(textwrap.fill(text, 58), fontsize=7)


def time_axis(axes: Axes, clock: Clock) -> None:
    """Limits, ticks and label of the axis that the panels above share."""
    axes.set_xlim(clock.at(0), clock.at(clock.end))
    axes.xaxis.set_major_locator(round_ticks(6, integer=clock.label == "time (steps)", min_n_ticks=1))
    axes.set_xlabel(clock.label)
