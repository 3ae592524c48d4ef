"""Named stretches of time, shaded in every panel and named above the first."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.axes import Axes

from tracetorch.plot.clock import Clock
from tracetorch.plot.style import COLORS, tint

Marks = Mapping[str, tuple[float, float]]
"""Names, and where they start and stop, in the unit of dt."""

SHADES = tuple(tint(COLORS[name], 0.2) for name in ("sky", "orange", "grey", "green", "purple"))
WIDTH = 195
"""Points that a panel is wide, about: what a letter (4 points) is measured by."""


def visible_marks(marks: Marks, clock: Clock) -> dict[str, tuple[float, float]]:
    """The marks as far as the panel reaches; what is empty or later is left out."""
    for name, (start, stop) in marks.items():
        if not 0 <= start <= stop:
            raise ValueError(f"mark {name!r} must start at 0 or later and not after it stops, got {start}, {stop}")
    cut = {name: (start, min(stop, clock.end)) for name, (start, stop) in marks.items()}
    return {name: (start, stop) for name, (start, stop) in cut.items() if start < stop}


def rows_of(marks: Marks, clock: Clock) -> dict[str, int]:
    """The row above the panel in which each name stands, so that none runs into another."""
    rows: dict[str, int] = {}
    ends: list[float] = []
    for name, (start, stop) in sorted(marks.items(), key=lambda mark: sum(mark[1])):
        middle, half = _middle(name, start, stop, clock)
        row = next((row for row, end in enumerate(ends) if middle - half > end), len(ends))
        ends[row : row + 1] = [middle + half]
        rows[name] = row
    return rows


def _middle(name: str, start: float, stop: float, clock: Clock) -> tuple[float, float]:
    """Where to put a name, moved inwards if it would stick out, and half its width: in the caller's unit."""
    half = (2.0 * len(name) + 2) / WIDTH * clock.end
    return max(half, min((start + stop) / 2, clock.end - half)), half


def shade(axes: Axes, marks: Marks, clock: Clock) -> None:
    """Shade each stretch in a panel, in a colour of its own."""
    for at, (start, stop) in enumerate(marks.values()):
        axes.axvspan(clock.at(start), clock.at(stop), color=SHADES[at % len(SHADES)], linewidth=0, zorder=0)


def name_marks(axes: Axes, marks: Marks, rows: dict[str, int], clock: Clock) -> None:
    """Write the names above a panel, whose title makes room for them."""
    for at, (name, (start, stop)) in enumerate(marks.items()):
        axes.annotate(
            name, (clock.at(_middle(name, start, stop, clock)[0]), 1), xycoords=axes.get_xaxis_transform(),
            xytext=(0, 4 + 11 * rows[name]), textcoords="offset points", ha="center", fontsize=7, annotation_clip=False,
            bbox={"facecolor": SHADES[at % len(SHADES)], "linewidth": 0, "pad": 1.2},
        )  # fmt: skip
    axes.set_title(axes.get_title("left"), fontsize=7, pad=4 + 11 * (1 + max(rows.values(), default=-1)))
