"""Ticks, legends, labels and finite points of records, for several figures."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tracetorch.plot.style import COLORS, small

Records = Iterable[Mapping[str, Any]]


def round_ticks(most: int, **options: Any) -> MaxNLocator:
    """Place at most `most` ticks, at steps of 1, 2, 2.5 or 5 times a power of ten."""
    return MaxNLocator(most, steps=[1, 2, 2.5, 5, 10], **options)


def count_axis(axis: Axis, most: int) -> None:
    """Place ticks at whole numbers, such as updates."""
    axis.set_major_locator(round_ticks(most, integer=True, min_n_ticks=1))
    axis.set_major_formatter("{x:,.0f}")


def legend(fig: Figure, handles: Sequence[Any], *, where: Literal["upper", "lower"] = "upper") -> None:
    """Add a legend above ("upper") or below ("lower") all panels; the figure grows by the height of the legend."""
    widths = [3.8 * len(str(handle.get_label())) + 22 for handle in handles]  # approximate, in points
    available = 72 * fig.get_figwidth()
    columns = len(handles) if sum(widths) <= available else max(1, int(available / max(widths)))
    fig.set_figheight(fig.get_figheight() + 0.15 * math.ceil(len(handles) / columns))
    by_rows = [handles[at] for column in range(columns) for at in range(column, len(handles), columns)]
    fig.legend(handles=by_rows, loc="outside upper left" if where == "upper" else "outside lower left", ncols=columns)


def label_level(axes: Axes, level: float, label: str) -> None:
    """Draw a dashed horizontal line, with its label outside the axes at its right end."""
    axes.axhline(level, color=COLORS["black"], linewidth=0.8, dashes=(4, 2), zorder=2.5)
    name_right(axes, textwrap.fill(label, 12), level, gap=3)


def name_right(axes: Axes, name: str, level: float, *, gap: float, color: str = "black") -> None:
    """Write a name outside the axes at the right end of a line. Args: gap: distance from the axes, in points."""
    axes.annotate(
        name, (1, level), xycoords=axes.get_yaxis_transform(), xytext=(gap, 0), textcoords="offset points", va="center",
        fontsize=small(), color=color, annotation_clip=False,
    )  # fmt: skip


def remark(axes: Axes, text: str) -> None:
    """Write a grey sentence in the middle of an empty panel."""
    axes.text(
        0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", fontsize=small(), color=COLORS["grey"]
    )


def points_of(rows: Iterable[Mapping[str, Any]], key: str) -> tuple[list[float], list[float]]:
    """The updates and values of a key, where the values are finite numbers."""
    pairs = [(float(row["update"]), row.get(key)) for row in rows]
    points = [(update, float(value)) for update, value in pairs if value is not None and math.isfinite(value)]
    return [update for update, _ in points], [value for _, value in points]
