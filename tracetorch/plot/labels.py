"""Ticks, legends, labels and finite points of records, for several figures."""

from __future__ import annotations

import math
import re
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.ticker import MaxNLocator

from tracetorch.plot.style import COLORS, small

MOST_LETTERS = 24  # of a name at a tick

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
    for handle in handles:
        handle.set_label(drawable(str(handle.get_label())).lstrip("_ ") or "?")  # matplotlib omits names such as _x
    widths = [3.8 * len(str(handle.get_label())) + 22 for handle in handles]  # approximate, in points
    available = 72 * fig.get_figwidth()
    columns = len(handles) if sum(widths) <= available else max(1, int(available / max(widths)))
    fig.set_figheight(fig.get_figheight() + 0.15 * math.ceil(len(handles) / columns))
    by_rows = [handles[at] for column in range(columns) for at in range(column, len(handles), columns)]
    found = fig.legend(
        handles=by_rows, loc="outside upper left" if where == "upper" else "outside lower left", ncols=columns
    )
    for text in found.get_texts():
        text.set_parse_math(False)


def named_ticks(axis: Axis, positions: Iterable[float], names: Iterable[str], **look: Any) -> None:
    """Place ticks with names, such as those of classes. Args: look: of their text."""
    labels = shortened([drawable(name) for name in names], lambda name: len(name) <= MOST_LETTERS)
    axis.set_ticks(list(positions), labels=labels, parse_math=False, **look)


def value_axis(axis: Axis, most: int) -> None:
    """Place ticks at round numbers, all with the same number of decimals; with commas if a value reaches 1,000."""
    axis.set_major_locator(round_ticks(most))
    if max(map(abs, axis.get_view_interval())) >= 1000:
        axis.set_major_formatter("{x:,g}")


_LONG_LIST = re.compile(r"\[([^,\]]+),[^\]]*,([^,\]]+)\]")  # of three values or more


def shortened(names: Sequence[str], fits: Callable[[str], bool]) -> list[str]:
    """Names that fit, as far as they stay distinct: "rule=trace, …, seed=1".

    A name has parts, such as "rule=trace", with commas between them. Parts that all names have are left out. A name
    that does not fit keeps the ends of its lists, then loses further parts, first those that most names have; a single
    part that is too long loses its middle. A name that would then equal another one stays whole.
    """
    parts = [re.split(r", (?=[\w.]+=)", name) for name in names]
    count = Counter(part for some in parts for part in dict.fromkeys(some))
    distinct = [[part for part in some if count[part] < len(names)] for some in parts]
    parts = distinct if all(distinct) else parts
    whole = [", ".join(some) for some in parts]
    ends = {part: _LONG_LIST.sub(r"[\1,…,\2]", part) for part in count}
    if len({*ends.values()}) == len(count):  # the ends of lists tell them apart
        parts = [some if fits(name) else [ends[part] for part in some] for some, name in zip(parts, whole, strict=True)]
        count.update({end: count[part] for part, end in ends.items() if end != part})
    short = [_fitting(some, count, fits) for some in parts]
    return [one if short.count(one) == whole.count(other) else other for one, other in zip(short, whole, strict=True)]


def _fitting(parts: Sequence[str], count: Mapping[str, int], fits: Callable[[str], bool]) -> str:
    """The parts that fit. "…" replaces the others; the most frequent go first. Args: count: of names with a part."""
    kept = list(parts)
    for at in sorted(range(len(parts)), key=lambda at: (-count[parts[at]], -at))[:-1]:
        if fits(_joined(kept)):
            break
        kept[at] = ""
    name = _joined(kept)
    for half in reversed(range(1, len(name) // 2)):
        if fits(name):
            break
        name = f"{_joined(kept)[:half]}…{_joined(kept)[-half:]}"
    return name


def _joined(parts: Sequence[str]) -> str:
    """The parts with commas between them, and one "…" in place of empty ones in a row."""
    shown = [part or "…" for part in parts]
    return ", ".join(part for at, part in enumerate(shown) if part != "…" or at == 0 or shown[at - 1] != "…")


def drawable(text: str) -> str:
    """Replace each character that the font lacks by a question mark; matplotlib would warn of each."""
    known = get_font(findfont("DejaVu Sans")).get_charmap()
    return "".join(letter if ord(letter) in known or letter == "\n" else "?" for letter in text)


def label_level(axes: Axes, level: float, label: str) -> None:
    """Draw a dashed horizontal line, with its label outside the axes at its right end."""
    axes.axhline(level, color=COLORS["black"], linewidth=0.8, dashes=(4, 2), zorder=2.5)
    name_right(axes, textwrap.fill(label, 12), level, gap=3)


def name_right(axes: Axes, name: str, level: float, *, gap: float, color: str = "black") -> None:
    """Write a name outside the axes at the right end of a line. Args: gap: distance from the axes, in points."""
    axes.annotate(
        drawable(name), (1, level), xycoords=axes.get_yaxis_transform(), xytext=(gap, 0), textcoords="offset points",
        va="center", fontsize=small(), color=color, annotation_clip=False, parse_math=False,
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
