"""What a scatter leaves: a table, the same as CSV, and a figure."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from tracetorch.compare.atomic_output import write_together
from tracetorch.compare.comparison import lower_is_better
from tracetorch.compare.scatter_data import Line, Point, Scatter
from tracetorch.compare.statistics import Summary
from tracetorch.compare.tables import Table
from tracetorch.compare.text import number, plain, span, with_error
from tracetorch.compare.values import plain_words
from tracetorch.files import write_whole
from tracetorch.plot import save
from tracetorch.plot.scatter_figure import Mark, Panel, Series, scatter
from tracetorch.runs.records import to_csv

MOST_DRAWN = 32
"""Lines that a figure can hold; the best, if there are more."""


def write_scatter(found: Scatter, folder: str | Path) -> list[Path]:
    """Write figure and table, or neither.

    Args: folder: made if it does not exist. Files of an earlier one of the same name are replaced.
    Returns: what was written.
    Raises: OSError if something cannot be.
    """

    def make(hidden: Path) -> list[Path]:
        made = [*save(draw_scatter(found), hidden / found.stem), hidden / f"{found.stem}.csv"]
        write_whole(made[-1], to_csv(rows(found)))
        return made

    return write_together(folder, make)


def draw_scatter(found: Scatter) -> Figure:
    """The figure of a scatter."""
    chosen = _drawn(found)
    panels = [
        Panel(
            panel.name if len(found.panels) > 1 or found.left_out else "",
            [Series(line.label, [_mark(point, found) for point in line.points]) for line in panel.lines
             if line.label in chosen],
            None if panel.chance is None else panel.chance / _unit(found.metric),
        )
        for panel in found.panels
    ]  # fmt: skip
    panels = [panel for panel in panels if panel.series]
    values = [point.y.most for line in _every(found) for point in line.points]
    return scatter(
        panels,
        of_x=_words(found.key),
        of_y=_words(found.metric),
        connected=found.is_set,
        share=max(values) <= 1 and not lower_is_better(found.metric),
        note=_note(found, len(chosen)),
    )


def table(found: Scatter) -> Table:
    """Each point, and its numbers."""
    of_x, of_y = plain(_words(found.key)), plain(_words(found.metric))
    several, unit = len(found.panels) > 1, _unit(found.metric)
    made = []
    for panel in found.panels:
        for line in panel.lines:
            for point in line.points:
                x = f"{point.x.mean:g}" if found.is_set else number(point.x.mean / _unit(found.key))
                mean, half = point.y.mean / unit, (point.y.high - point.y.mean) / unit
                least, most = point.y.least / unit, point.y.most / unit
                extent = span(least, most) if point.y.n > 1 else number(least)
                names = [panel.name, line.label] if several else [line.label]
                made.append([*names, x, str(point.y.n), with_error(mean, half), extent])
    note = "n: runs. ±: 95 % interval of the mean, by Student's t; a single run has none."
    note += "" if found.is_set else f" Each point: runs that differ only by chance; {of_x}: their mean."
    head = [*(["experiment"] if several else []), "group", of_x, "n", f"{of_y}, mean", "min to max"]
    return Table(f"{of_y} against {of_x}", head, made, 1 + several, note)


def rows(found: Scatter) -> list[dict[str, Any]]:
    """A row for each point, with all its numbers."""
    made = []
    for panel in found.panels:
        for line in panel.lines:
            for point in line.points:
                row: dict[str, Any] = {"experiment": panel.name, "group": line.label, "against": found.key}
                row |= {"x": point.x.mean, "x_ci_low": point.x.low, "x_ci_high": point.x.high}
                row |= {"metric": found.metric, "runs": point.y.n, "seeds": len({one.run.seed for one in point.runs})}
                row |= {"mean": point.y.mean, "ci_low": point.y.low, "ci_high": point.y.high, "sd": point.y.sd}
                row |= {"min": point.y.least, "max": point.y.most, "chance": panel.chance}
                made.append({k: None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()})
    return made


def _drawn(found: Scatter) -> list[str]:
    """The lines in the figure, by their labels: all, or those whose mean is best."""
    means: dict[str, list[float]] = {}
    for line in _every(found):
        means.setdefault(line.label, []).extend(point.y.mean for point in line.points)
    labels = sorted(
        means, key=lambda label: sum(means[label]) / len(means[label]), reverse=not lower_is_better(found.metric)
    )
    return labels[:MOST_DRAWN]


def _every(found: Scatter) -> list[Line]:
    return [line for panel in found.panels for line in panel.lines]


def _mark(point: Point, found: Scatter) -> Mark:
    of_x, of_y = _unit(found.key), _unit(found.metric)
    runs = [(one.x / of_x, one.run.value / of_y) for one in point.runs]
    return Mark(point.x.mean / of_x, point.y.mean / of_y, _bar(point.x, of_x), _bar(point.y, of_y), runs)


def _bar(of: Summary, unit: float) -> tuple[float, float] | None:
    """The interval; of two runs, where that says little, from one to the other."""
    if of.n == 1 or of.least == of.most:
        return None
    low, high = (of.least, of.most) if of.n == 2 else (of.low, of.high)
    return low / unit, high / unit


_SECONDS = ("task.delay", "task.duration", "task.cue", "task.dt", "task.interval", "task.recall")
"""Keys of tasks that are times, whose names do not say so."""


def _unit(name: str) -> float:
    """What to divide by."""
    return 2.0**20 if name.endswith("_bytes") else 1.0


def _words(name: str) -> str:
    """A name, and its unit where that is another than it says."""
    if name.endswith("_bytes"):
        return f"{plain_words(name.removesuffix('_bytes'))} (MiB)"
    if learned := re.fullmatch(r"(decay|time_constant)_(\d+)", name):
        what, layer = learned.groups()
        return f"{plain_words(what)}, layer {layer}" + (" (s)" if what == "time_constant" else "")
    return plain_words(name) + (" (s)" if name in _SECONDS else "")


def _note(found: Scatter, drawn: int) -> str:
    sizes = {point.y.n for line in _every(found) for point in line.points}
    notes = []
    if max(sizes) > 1:
        notes.append("Large points: means over runs; small points: runs")
    if max(sizes) > 2:
        notes.append("Bars: 95 % interval of the mean (Student's t)")
        notes[-1] += "; for n=2, the range of the two runs" if 2 in sizes else ""
    elif 2 in sizes:
        notes.append("Bars: range of the two runs (n=2)")
    if drawn < len({line.label for line in _every(found)}):
        notes.append(f"Only the best {drawn} groups are drawn")
    return "".join(f"{note}. " for note in notes)
