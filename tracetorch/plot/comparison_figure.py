"""Figures that compare groups of runs: learning curves and final values, or one quantity against another."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator
from matplotlib.transforms import ScaledTranslation

from tracetorch.plot.labels import count_axis, drawable, label_level, legend, remark, round_ticks, shortened
from tracetorch.plot.style import COLORS, DOUBLE, RIM, Array, figure, look_of_line, small, tint

_MARKERS = "osD^v<>pX"
_NAME_LETTERS, _NAME_LINES = 30, 3  # letters in a line, and lines, of a name next to the right panel of `comparison`
_LINE_INCHES, _GAP_INCHES, _MIN_INCHES = 0.115, 0.07, 1.75  # heights: a line, the gap below a name, all names

_MAX_COLUMNS, _PANEL_INCHES = 3, 2.1  # of `scatter`
_LEGEND_LETTERS, _TITLE_LETTERS = 60, 34  # of a name in the legend, and in the title of a panel
_MIN_LOG_RATIO, _MAX_LOG_RATIO = 10.0, 1e30  # ratios of the largest to the smallest value on a logarithmic axis
_MAX_VALUE_TICKS = 5
_TICK_LABEL_WIDTH = 0.06  # as a fraction of the axis
_MAX_CHANCE_DISTANCE = 3  # of a chance level, drawn as a line, from the lowest point, in ranges of the points
_MARGIN = 0.35  # around the runs, as a fraction of their range; longer intervals are cut
_BAR_DISTANCE, _MAX_SPREAD = 5.0, 24.0  # points between neighbouring bars at one x, and between the first and the last

Bar = tuple[float, float]  # start and end


class Curve(NamedTuple):
    """A mean over runs, and its band."""

    x: Array
    mean: Array
    low: Array  # NaN where there is no band
    high: Array
    whole: Array  # whether the mean is over all runs; elsewhere the line is thin and dotted


class Entry(NamedTuple):
    """One group of `comparison`."""

    name: str
    values: Sequence[float]
    mean: float
    bar: Bar | None  # the interval of the mean; None to draw only the mean
    curve: Curve | None
    letter: str = ""  # of the group in tables; shown in front of the name


class Mark(NamedTuple):
    """A point of `scatter`: the mean of some runs."""

    x: float
    y: float
    x_bar: Bar | None  # an interval; None for one run, or for equal values
    y_bar: Bar | None
    runs: Sequence[tuple[float, float]]  # x and y of each run


class Series(NamedTuple):
    """One group of `scatter`."""

    name: str  # "" for none
    marks: Sequence[Mark]


class Panel(NamedTuple):
    """One experiment of `scatter`."""

    title: str
    series: Sequence[Series]
    chance: float | None  # chance level of y


def comparison(entries: Sequence[Entry], *, of_curves: str, of_values: str, note: str = "") -> Figure:
    """Learning curves in a left panel, final values in a right panel; its rows, one for each group, are the legend.

    Up to eight groups differ in colour and marker. More groups repeat the colours with other markers and lines.

    Args:
        entries: the groups, from the top; a row's label is the letter, the name and the number of values. Parts of
            names, such as "lr=0.1", are left out if all names have them; long names lose more, but stay distinct.
        of_curves, of_values: labels of the panels' axes, with units.
        note: explains lines, bands and bars; written below the panels.
    Raises: ValueError for no group.
    """
    if not entries:
        raise ValueError("comparison needs at least one group, got none")
    names = _wrapped(entries)
    needed = np.array([_LINE_INCHES * (1 + name.count("\n")) + _GAP_INCHES for name in names])
    heights = needed * max(1.0, _MIN_INCHES / needed.sum())
    notes = textwrap.wrap(drawable(note), 128)
    with figure(DOUBLE, heights.sum() + 0.45 + 0.14 * len(notes)) as fig:
        left, right = fig.subplots(1, 2, width_ratios=(1.15, 1))
        for at, entry in enumerate(entries):
            if entry.curve is not None:
                _draw_curve(left, entry.curve, 0.15 if len(entries) <= 4 else 0.08, **_look_of(at))
        _finish_curves(left, [entry.curve.mean for entry in entries if entry.curve is not None])
        left.set_xlabel("updates")
        left.set_ylabel(drawable(of_curves), parse_math=False)
        rows = np.cumsum(heights) - heights / 2  # a name of two lines makes its row higher
        for at, (entry, row) in enumerate(zip(entries, rows, strict=True)):
            _draw_values(right, entry, float(row), _look_of(at))
        right.set_ylim(heights.sum(), 0)
        right.set_yticks(rows, names, parse_math=False)
        right.yaxis.tick_right()
        right.tick_params(axis="y", length=0)
        right.spines["left"].set_visible(False)
        for row in rows:
            right.axhline(row, color=tint(COLORS["grey"], 0.25), linewidth=0.5, zorder=0)
        right.xaxis.set_major_locator(round_ticks(5))
        right.set_xlabel(drawable(of_values), parse_math=False)
        _write(fig, notes)
    return fig


def scatter(
    panels: Sequence[Panel], *, of_x: str, of_y: str, connected: bool, share: bool = False, note: str = ""
) -> Figure:
    """Points with intervals. Each group has the same colour and marker in all panels.

    Axes are the same in all panels, and logarithmic if values above 0 span more than a decade. Chance levels are dashed
    lines. If the points are not connected, a level far below them is text instead: a line would compress the points.

    Args:
        panels: at least one.
        of_x, of_y: labels of the axes, with units.
        connected: whether lines connect the points. Then the values of x are the ticks if they are few and far apart.
        share: whether y is a share, such as an accuracy: its axis is never logarithmic.
        note: explains points and bars; written below the panels.
    Raises: ValueError for no panel, or for one without a mark.
    """
    if not panels or not all(any(series.marks for series in panel.series) for panel in panels):
        raise ValueError("scatter needs at least one panel, and a mark in each")
    names = list(dict.fromkeys(series.name for panel in panels for series in panel.series))
    runs = [run for panel in panels for series in panel.series for mark in series.marks for run in mark.runs]
    lowest, highest = min(y for _, y in runs), max(y for _, y in runs)
    furthest = lowest - _MAX_CHANCE_DISTANCE * (highest - lowest)
    if connected or highest == lowest:  # lines may fall to chance
        furthest = -math.inf
    columns = min(_MAX_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    notes = textwrap.wrap(drawable(note), 128 if columns > 1 else 84)
    with figure(DOUBLE if columns > 1 else DOUBLE * 0.66, _PANEL_INCHES * rows + 0.4 + 0.14 * len(notes)) as fig:
        grid = fig.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for axes, panel in zip(grid.flat, panels, strict=False):
            for series in panel.series:
                at = names.index(series.name)
                distance = min(_BAR_DISTANCE, _MAX_SPREAD / len(names)) if connected else 0.0
                shift = distance * (at - (len(names) - 1) / 2)
                _draw_series(axes, series, at, connected=connected, distance=distance, shift=shift)
            if panel.chance is not None and panel.chance >= furthest:
                label_level(axes, panel.chance, "chance")
            elif panel.chance is not None:
                below: dict[str, Any] = {"ha": "right", "va": "bottom", "fontsize": small(), "color": COLORS["grey"]}
                axes.text(1, 0.02, f"chance: {panel.chance:.3g}", transform=axes.transAxes, **below)
            axes.set_title(textwrap.shorten(drawable(panel.title), _TITLE_LETTERS), parse_math=False)
        for axes in list(grid.flat)[len(panels) :]:
            axes.set_visible(False)
        _scale(grid[0, 0], "x", [x for x, _ in runs], log=True, at_values=connected)
        levels = [panel.chance for panel in panels if panel.chance is not None and panel.chance >= furthest]
        _scale(grid[0, 0], "y", [y for _, y in runs] + levels, log=not share, maximum=1.0 if share else math.inf)
        for at, axes in enumerate(list(grid.flat)[: len(panels)]):
            if at % columns == 0:
                axes.set_ylabel(drawable(of_y), parse_math=False)
            if at + columns >= len(panels):
                axes.set_xlabel(drawable(of_x), parse_math=False)
                axes.tick_params(labelbottom=True)
        if any(names):
            short = shortened(list(map(_one_line, names)), lambda name: len(name) <= _LEGEND_LETTERS)
            handles = zip(names, short, strict=True)
            legend(fig, [_handle(*name, at, panels, connected=connected) for at, name in enumerate(handles)])
        _write(fig, notes)
    return fig


def _look_of(at: int, *, connected: bool = True) -> dict[str, Any]:
    """Colour, marker and line of the group with this number."""
    look = look_of_line(at) | {"marker": _MARKERS[at % len(_MARKERS)]}
    return look if connected else look | {"linestyle": "none"}


def _mark_of(at: int, *, connected: bool) -> dict[str, Any]:
    """The look of the means of a group. Without lines, marks are hollow: none hides another."""
    rim = RIM if connected else {"markerfacecolor": "none", "markeredgewidth": 1.2}
    return {**_look_of(at, connected=connected), "markersize": 4.8, **rim}


def _one_line(name: str) -> str:
    return " ".join(drawable(name).split())


def _write(fig: Figure, notes: Sequence[str]) -> None:
    if notes:
        fig.supxlabel("\n".join(notes), x=0.01, ha="left", fontsize=small(), color=COLORS["grey"], parse_math=False)


# ── comparison ──────────────────────────────────────────────────────────────────────────────────────────────────────


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
    """Draw the mean and its interval in the middle of the row, and the runs below them."""
    color, count = look["color"], len(entry.values)
    if count > 1:
        small: dict[str, Any] = {"color": tint(color, 0.5), "markersize": 2, "markeredgewidth": 0}
        axes.plot(entry.values, np.full(count, row + 0.065), "o", **small, zorder=2, rasterized=count > 500)
    if entry.bar is not None:
        axes.plot(entry.bar, (row, row), color=color, linewidth=1.4, zorder=3)
    axes.plot([entry.mean], [row], look["marker"], color=color, markersize=4.8, **RIM, zorder=4)


def _finish_curves(axes: Axes, means: Sequence[Array]) -> None:
    """Set ticks, and limits by the means: wide bands of a few runs must not compress the curves."""
    if not means:
        remark(axes, "no curves were recorded")
        axes.set(xticks=[], yticks=[])
        return
    count_axis(axes.xaxis, 5)
    axes.yaxis.set_major_locator(round_ticks(6))
    lowest, highest = min(map(np.nanmin, means)), max(map(np.nanmax, means))
    margin, (bottom, top) = 0.35 * (highest - lowest), axes.get_ylim()
    if margin > 0:
        axes.set_ylim(max(bottom, lowest - margin), min(top, highest + margin))


_IN_A_LIST = re.compile(r",(?! )")  # a line may end there


def _wrapped(entries: Sequence[Entry]) -> list[str]:
    """The letter, name and number of values of each group, in up to three lines; in more to keep names distinct."""
    letters = [f"{entry.letter} " if entry.letter else "" for entry in entries]
    counts = [f" (n={len(entry.values)})" for entry in entries]
    around = "x" * max(len(letter) for letter in letters), "x" * (max(len(count) for count in counts) - 1)

    def lines(text: str) -> list[str]:
        return textwrap.wrap(_IN_A_LIST.sub(", ", text), _NAME_LETTERS)

    names = shortened(
        [_one_line(entry.name) for entry in entries],
        lambda name: len(lines(f"{around[0]}{name} {around[1]}")) <= _NAME_LINES,
    )
    return ["\n".join(lines("".join(parts))) for parts in zip(letters, names, counts, strict=True)]


# ── scatter ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _draw_series(axes: Axes, series: Series, at: int, *, connected: bool, distance: float, shift: float) -> None:
    """Draw the means, their intervals, and the runs next to them.

    Args:
        distance: between two groups at one value of x, in points; runs are half as far to the right of their bar.
        shift: offset of this group from the value of x, in points.
    """
    look = _mark_of(at, connected=connected)
    color = look["color"]
    inches = axes.figure.dpi_scale_trans
    of_bar = axes.transData + ScaledTranslation(shift / 72, 0, inches)
    of_runs = of_bar + ScaledTranslation(distance / 2 / 72, 0, inches)
    for mark in series.marks:
        ends = [(mark.x, end) for end in mark.y_bar or ()] + [(end, mark.y) for end in mark.x_bar or ()]
        axes.update_datalim([*mark.runs, (mark.x, mark.y), *ends])  # matplotlib ignores artists with an offset
        if len(mark.runs) > 1:
            small: dict[str, Any] = {"color": tint(color, 0.5), "markersize": 2, "markeredgewidth": 0}
            axes.plot(*zip(*mark.runs, strict=True), "o", **small, transform=of_runs)
        if mark.y_bar is not None:
            axes.plot((mark.x, mark.x), mark.y_bar, color=color, linewidth=1.2, zorder=3, transform=of_bar)
        if mark.x_bar is not None:
            axes.plot(mark.x_bar, (mark.y, mark.y), color=color, linewidth=1.2, zorder=3, transform=of_bar)
    x, y = [mark.x for mark in series.marks], [mark.y for mark in series.marks]
    axes.plot(x, y, **look, zorder=4, transform=of_bar)
    axes.autoscale_view()


def _handle(name: str, shown: str, at: int, panels: Sequence[Panel], *, connected: bool) -> Line2D:
    """Make a legend entry: the name as shown, and the number of runs per point."""
    counts = [len(m.runs) for panel in panels for series in panel.series if series.name == name for m in series.marks]
    n = f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)}–{max(counts)}"
    return Line2D([], [], **_mark_of(at, connected=connected), label=f"{shown} (n={n})")


def _scale(
    axes: Axes, name: str, values: Sequence[float], *, log: bool, at_values: bool = False, maximum: float = math.inf
) -> None:
    """Set scale, ticks and limits by the runs: wide intervals of a few runs must not compress the points.

    Args: at_values: whether the values are the ticks if they are few. maximum: largest possible value; the axis ends at
        most slightly above it.
    """
    axis, low, high = getattr(axes, f"{name}axis"), min(values), max(values)
    get_limits, set_limits = getattr(axes, f"get_{name}lim"), getattr(axes, f"set_{name}lim")
    is_log = log and low > 0 and _MIN_LOG_RATIO < high / low < _MAX_LOG_RATIO
    if is_log:
        getattr(axes, f"set_{name}scale")("log")
        axis.set_major_locator(LogLocator(10, subs=(1.0,) if high / low > _MIN_LOG_RATIO**2 else (1.0, 2.0, 5.0)))
        axis.set_major_formatter("{x:,.10g}")
        axis.set_minor_formatter(NullFormatter())
        margin = (high / low) ** 0.08
        set_limits(low / margin, high * margin)
    else:
        axis.set_major_locator(round_ticks(5))
        margin = _MARGIN * (high - low)
        if margin > 0 and math.isfinite(margin):
            bottom, top = get_limits()
            bottom = max(min(bottom, low - margin / 7), low - margin)
            set_limits(bottom, min(top, high + margin, max(high, maximum) + margin / 7))
    if at_values and len(set(values)) <= _MAX_VALUE_TICKS and _are_apart(values, is_log=is_log):
        axis.set_major_locator(FixedLocator(sorted(set(values))))
        axis.set_major_formatter(FuncFormatter(lambda value, at: f"{value:,.6g}"))
        axis.set_minor_locator(NullLocator())


def _are_apart(values: Sequence[float], *, is_log: bool) -> bool:
    """Whether the labels of ticks at all values fit next to each other."""
    positions = sorted({math.log(value) if is_log else value for value in values})
    return all(right - left > _TICK_LABEL_WIDTH * (positions[-1] - positions[0]) for left, right in pairwise(positions))
