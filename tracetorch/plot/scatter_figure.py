"""How one quantity goes with another: lines of points with intervals, a panel for each experiment."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator
from matplotlib.transforms import ScaledTranslation

from tracetorch.plot.comparison_figure import drawable, look_of
from tracetorch.plot.style import COLORS, DOUBLE, figure, label_level, legend, round_ticks, tint

_COLUMNS = 3
_PANEL_INCHES = 2.1
_LETTERS, _LETTERS_IN_TITLE = 60, 34  # of a name in the legend, and of one above a panel
_DECADE = 10.0
_MOST_DECADES = 1e30
_MOST_TICKS = 5
_NUMBER = 0.06  # of an axis, what a number below it takes
_ROOM = 0.35  # of the range of the runs, for intervals that reach further
_APART, _SPREAD = 5.0, 24.0  # points between the bars of two groups at one value of x, and between the first and last

Bar = tuple[float, float]


class Mark(NamedTuple):
    """A point: the mean of some runs."""

    x: float
    y: float
    x_bar: Bar | None  # from where to where; None for one run, or where all have the same
    y_bar: Bar | None
    runs: Sequence[tuple[float, float]]  # x and y of each


class Series(NamedTuple):
    """One group."""

    name: str  # "" for one that needs no name
    marks: Sequence[Mark]


class Panel(NamedTuple):
    """One experiment."""

    title: str
    series: Sequence[Series]
    chance: float | None


def scatter(
    panels: Sequence[Panel], *, of_x: str, of_y: str, connected: bool, share: bool = False, note: str = ""
) -> Figure:
    """Points with intervals, a colour and a marker for each name, the same in every panel.

    Axes are the same in all panels, and logarithmic where values span more than a decade.

    Args:
        panels: at least one.
        of_x, of_y: what is drawn, with units.
        connected: whether a line leads from point to point, and a few values of x are ticks themselves.
        share: whether y is one, such as an accuracy: its axis is never logarithmic.
        note: what points and bars are; below the panels.
    Raises: ValueError for no panel, or for one without a mark.
    """
    if not panels or not all(any(series.marks for series in panel.series) for panel in panels):
        raise ValueError("scatter needs at least one panel, and a mark in each")
    names = list(dict.fromkeys(series.name for panel in panels for series in panel.series))
    runs = [run for panel in panels for series in panel.series for mark in series.marks for run in mark.runs]
    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    notes = textwrap.wrap(drawable(note), 128 if columns > 1 else 84)
    with figure(DOUBLE if columns > 1 else DOUBLE * 0.66, _PANEL_INCHES * rows + 0.4 + 0.14 * len(notes)) as fig:
        grid = fig.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for axes, panel in zip(grid.flat, panels, strict=False):
            for series in panel.series:
                at = names.index(series.name)
                apart = min(_APART, _SPREAD / len(names)) if connected else 0.0
                _draw(axes, series, at, connected=connected, apart=apart, shift=apart * (at - (len(names) - 1) / 2))
            if panel.chance is not None:
                label_level(axes, panel.chance, "chance")
            axes.set_title(textwrap.shorten(drawable(panel.title), _LETTERS_IN_TITLE), parse_math=False)
        for axes in list(grid.flat)[len(panels) :]:
            axes.set_visible(False)
        _scale(grid[0, 0], "x", [x for x, _ in runs], log=True, at_values=connected)
        levels = [panel.chance for panel in panels if panel.chance is not None]
        _scale(grid[0, 0], "y", [y for _, y in runs] + levels, log=not share, whole=1.0 if share else math.inf)
        for at, axes in enumerate(list(grid.flat)[: len(panels)]):
            if at % columns == 0:
                axes.set_ylabel(drawable(of_y), parse_math=False)
            if at + columns >= len(panels):
                axes.set_xlabel(drawable(of_x), parse_math=False)
                axes.tick_params(labelbottom=True)
        if any(names):
            legend(fig, [_handle(name, at, panels, connected=connected) for at, name in enumerate(names)])
        if notes:
            fig.supxlabel("\n".join(notes), x=0.01, ha="left", fontsize=7, color=COLORS["grey"], parse_math=False)
    return fig


def _draw(axes: Axes, series: Series, at: int, *, connected: bool, apart: float, shift: float) -> None:
    """The means, their intervals, and the runs next to them.

    Args:
        apart: points between two groups at one value of x; the runs stand half as far to the right of their bar.
        shift: of this group from that value, in points.
    """
    look = look_of(at)
    color = look["color"]
    inches = axes.figure.dpi_scale_trans
    place = axes.transData + ScaledTranslation(shift / 72, 0, inches)
    next_to_it = place + ScaledTranslation(apart / 2 / 72, 0, inches)
    for mark in series.marks:
        ends = [(mark.x, end) for end in mark.y_bar or ()] + [(end, mark.y) for end in mark.x_bar or ()]
        axes.update_datalim([*mark.runs, (mark.x, mark.y), *ends])  # matplotlib ignores what has an offset
        if len(mark.runs) > 1:
            small: dict[str, Any] = {"color": tint(color, 0.5), "markersize": 2, "markeredgewidth": 0}
            axes.plot(*zip(*mark.runs, strict=True), "o", **small, transform=next_to_it)
        if mark.y_bar is not None:
            axes.plot((mark.x, mark.x), mark.y_bar, color=color, linewidth=1.2, zorder=3, transform=place)
        if mark.x_bar is not None:
            axes.plot(mark.x_bar, (mark.y, mark.y), color=color, linewidth=1.2, zorder=3, transform=place)
    axes.plot(
        [mark.x for mark in series.marks], [mark.y for mark in series.marks], color=color, marker=look["marker"],
        linestyle=look["linestyle"] if connected else "none", markersize=4.8, markeredgecolor="white",
        markeredgewidth=0.5, zorder=4, transform=place,
    )  # fmt: skip
    axes.autoscale_view()


def _handle(name: str, at: int, panels: Sequence[Panel], *, connected: bool) -> Line2D:
    """Its name, and how many runs stand behind a point."""
    counts = [len(m.runs) for panel in panels for series in panel.series if series.name == name for m in series.marks]
    shown = " ".join(drawable(name).split())
    shown = shown if len(shown) <= _LETTERS else f"{shown[: _LETTERS - 1]}…"
    n = f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)}–{max(counts)}"
    label = f"{shown} (n={n})".replace("$", r"\$").lstrip("_ ")
    look = look_of(at) | ({} if connected else {"linestyle": "none"})
    return Line2D([], [], **look, markersize=4.8, markeredgecolor="white", markeredgewidth=0.5, label=label)


def _scale(
    axes: Axes, name: str, values: Sequence[float], *, log: bool, at_values: bool = False, whole: float = math.inf
) -> None:
    """Scale, ticks and limits, by the runs: the interval of a few that disagree would squeeze all else to a line.

    Args: whole: what no value surpasses; intervals that do so are cut off a little above.
    """
    axis, low, high = getattr(axes, f"{name}axis"), min(values), max(values)
    get_limits, set_limits = getattr(axes, f"get_{name}lim"), getattr(axes, f"set_{name}lim")
    is_log = log and low > 0 and _DECADE < high / low < _MOST_DECADES
    if is_log:
        getattr(axes, f"set_{name}scale")("log")
        axis.set_major_locator(LogLocator(10, subs=(1.0,) if high / low > _DECADE**2 else (1.0, 2.0, 5.0)))
        axis.set_major_formatter(FuncFormatter(lambda value, at: f"{value:,.10g}"))
        axis.set_minor_formatter(NullFormatter())
        room = (high / low) ** 0.08
        set_limits(low / room, high * room)
    else:
        axis.set_major_locator(round_ticks(5))
        room = _ROOM * (high - low)
        if room > 0 and math.isfinite(room):
            set_limits(
                max(min(get_limits()[0], low - room / 7), low - room),
                min(get_limits()[1], high + room, max(high, whole) + room / 7),
            )
    if at_values and len(set(values)) <= _MOST_TICKS and _are_apart(values, is_log=is_log):
        axis.set_major_locator(FixedLocator(sorted(set(values))))
        axis.set_major_formatter(FuncFormatter(lambda value, at: f"{value:,.6g}"))
        axis.set_minor_locator(NullLocator())


def _are_apart(values: Sequence[float], *, is_log: bool) -> bool:
    """Whether there is room for a number below each value."""
    places = sorted({math.log(value) if is_log else value for value in values})
    return all(right - left > _NUMBER * (places[-1] - places[0]) for left, right in pairwise(places))
