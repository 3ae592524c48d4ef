"""Groups of runs beside each other: the course of learning on the left, what came of it on the right."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.ticker import StrMethodFormatter

from tracetorch.plot.style import COLORS, DOUBLE, figure, remark, round_ticks, tint

Array = np.ndarray[Any, np.dtype[np.float64]]

_HUES = tuple(COLORS[name] for name in ("blue", "vermillion", "green", "purple", "orange", "sky", "black", "grey"))
_DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)), (0, (8, 2)))
_MARKERS = "osD^v<>pX"
_LETTERS_IN_A_LINE, _LINES = 30, 2  # of a name next to the right panel
_LINE_INCHES, _GAP_INCHES, _LEAST_INCHES = 0.115, 0.07, 1.75


class Curve(NamedTuple):
    """A mean over runs, and its band."""

    x: Array
    mean: Array
    low: Array  # NaN where there is no band
    high: Array
    whole: Array  # whether all runs count here; elsewhere the line is thin and dotted


class Entry(NamedTuple):
    """One group."""

    name: str
    values: Sequence[float]
    mean: float
    bar: tuple[float, float] | None  # from where to where; None for the point alone
    curve: Curve | None


def comparison(entries: Sequence[Entry], *, of_curves: str, of_values: str, note: str = "") -> Figure:
    """Learning curves over each other, and final values in a row for each group; the rows are the legend of both.

    Eight groups differ by colour, more by their markers and lines as well.

    Args:
        entries: the groups, from the top; next to its row stand its name and its number of values.
        of_curves, of_values: what is drawn on the left and on the right, with units.
        note: what lines, bands and bars are; below the panels.
    Raises: ValueError for no group.
    """
    if not entries:
        raise ValueError("comparison needs at least one group, got none")
    names = [_wrapped(entry) for entry in entries]
    needed = np.array([_LINE_INCHES * (1 + name.count("\n")) + _GAP_INCHES for name in names])
    heights = needed * max(1.0, _LEAST_INCHES / needed.sum())
    notes = textwrap.wrap(drawable(note), 128)
    with figure(DOUBLE, heights.sum() + 0.45 + 0.14 * len(notes)) as fig:
        left, right = fig.subplots(1, 2, width_ratios=(1.15, 1))
        for at, entry in enumerate(entries):
            if entry.curve is not None:
                _draw_curve(left, entry.curve, 0.15 if len(entries) <= 4 else 0.08, **look_of(at))
        _finish_curves(left, [entry.curve.mean for entry in entries if entry.curve is not None])
        left.set_xlabel("updates")
        left.set_ylabel(drawable(of_curves), parse_math=False)
        rows = np.cumsum(heights) - heights / 2  # a name of two lines takes more room than one of one
        for at, (entry, row) in enumerate(zip(entries, rows, strict=True)):
            _draw_values(right, entry, float(row), look_of(at))
        _finish_values(right, names, rows, heights.sum())
        right.set_xlabel(drawable(of_values), parse_math=False)
        if notes:
            fig.supxlabel("\n".join(notes), x=0.01, ha="left", fontsize=7, color=COLORS["grey"], parse_math=False)
    return fig


def look_of(at: int) -> dict[str, Any]:
    """How a group looks in both panels."""
    rounds = at // len(_HUES)
    return {
        "color": _HUES[at % len(_HUES)],
        "marker": _MARKERS[(at % len(_HUES) + rounds) % len(_MARKERS)],
        "linestyle": _DASHES[rounds % len(_DASHES)],
    }


def _draw_curve(axes: Axes, curve: Curve, alpha: float, *, color: str, marker: str, linestyle: Any) -> None:
    every = max(1, -(-len(curve.x) // 10))
    axes.plot(curve.x, curve.mean, ":", color=tint(color, 0.7), linewidth=0.8, zorder=2)
    axes.plot(
        curve.x, np.where(curve.whole, curve.mean, np.nan), color=color, linestyle=linestyle, marker=marker,
        markevery=every, markersize=3.2, markeredgecolor="white", markeredgewidth=0.4, linewidth=1.2, zorder=3,
    )  # fmt: skip
    if np.isfinite(curve.low).any():
        axes.fill_between(curve.x, curve.low, curve.high, color=color, alpha=alpha, linewidth=0, zorder=1)


def _draw_values(axes: Axes, entry: Entry, row: float, look: dict[str, Any]) -> None:
    """The mean and its interval in the middle of the row, the runs below."""
    color, marker = look["color"], look["marker"]
    if len(entry.values) > 1:
        axes.plot(
            entry.values, np.full(len(entry.values), row + 0.065), "o", color=tint(color, 0.5), markersize=2,
            markeredgewidth=0, zorder=2, rasterized=len(entry.values) > 500,
        )  # fmt: skip
    if entry.bar is not None:
        axes.plot(entry.bar, (row, row), color=color, linewidth=1.4, zorder=3)
    axes.plot(
        [entry.mean], [row], marker, color=color, markersize=4.8, markeredgecolor="white", markeredgewidth=0.5, zorder=4
    )


def _finish_curves(axes: Axes, means: Sequence[Array]) -> None:
    """Ticks, and limits that the means set: the band of a few runs that disagree would squeeze all else to a line."""
    if not means:
        remark(axes, "no curves were recorded")
        axes.set_xticks([])
        axes.set_yticks([])
        return
    axes.xaxis.set_major_locator(round_ticks(5, integer=True, min_n_ticks=1))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.yaxis.set_major_locator(round_ticks(6))
    lowest, highest = min(map(np.nanmin, means)), max(map(np.nanmax, means))
    room, (bottom, top) = 0.35 * (highest - lowest), axes.get_ylim()
    if room > 0:
        axes.set_ylim(max(bottom, lowest - room), min(top, highest + room))


def _finish_values(axes: Axes, names: Sequence[str], rows: Array, height: float) -> None:
    axes.set_ylim(height, 0)
    axes.set_yticks(rows, names, parse_math=False)
    axes.yaxis.tick_right()
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    for row in rows:
        axes.axhline(row, color=tint(COLORS["grey"], 0.25), linewidth=0.5, zorder=0)
    axes.xaxis.set_major_locator(round_ticks(5))


def _wrapped(entry: Entry) -> str:
    """A name and its n, in two lines at most; of a long one, the beginning."""
    name, n = " ".join(drawable(entry.name).split()), f" (n={len(entry.values)})"
    lines = textwrap.wrap(name + n, _LETTERS_IN_A_LINE)
    if len(lines) <= _LINES:
        return "\n".join(lines)
    first = lines[0]
    rest = name[len(first) :].strip()
    return f"{first}\n{rest[: _LETTERS_IN_A_LINE - len(n) - 1]}…{n}"


def drawable(text: str) -> str:
    """The same text; what the font does not have becomes a question mark, for matplotlib would warn of each."""
    known = get_font(findfont("DejaVu Sans")).get_charmap()
    return "".join(letter if ord(letter) in known else "?" for letter in text)
