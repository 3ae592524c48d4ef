"""The files of a comparison: tables, a figure with learning curves, a page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from tracetorch import plot
from tracetorch.compare import tables
from tracetorch.compare.comparison import Comparison, lower_is_better
from tracetorch.compare.groups import Group
from tracetorch.compare.statistics import half_width
from tracetorch.compare.text import interval_note, plain, plain_words
from tracetorch.compare.values import Points
from tracetorch.files import write_whole
from tracetorch.runs.lock import WRITING, aside, remove_all_abandoned
from tracetorch.runs.records import to_csv

if TYPE_CHECKING:  # `plot` loads matplotlib and torch when it draws, which takes a second
    from matplotlib.figure import Figure

FILES = ("comparison.csv", "runs.csv", "comparison.png", "comparison.svg", "comparison.html")

MOST_DRAWN = 32
"""Most groups in a figure. If there are more, the best are drawn."""

_MOST_POINTS = 400  # of a curve: more than a printed line can show
_OF_SPLIT = {"validation": "validation", "train": "training", "gradient": "probe"}


def write_together(folder: str | Path, make: Callable[[Path], list[Path]]) -> list[Path]:
    """Write all files or none: they are made in a hidden folder and renamed at the end.

    Hidden folders of killed processes are removed.

    Args:
        folder: made if it does not exist. Files of the same names are replaced.
        make: makes the files in the folder that it is given.
    Returns: the files.
    Raises: OSError if one cannot be written.
    """
    folder = Path(folder)
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        remove_all_abandoned(folder, WRITING)
        with aside(folder, WRITING) as hidden:
            return [path.replace(folder / path.name) for path in make(hidden)]
    except BaseException:
        if is_new:
            with suppress(OSError):
                folder.rmdir()
        raise


def write_comparison(found: Comparison, folder: str | Path, command: str) -> list[Path]:
    """Write all files of a comparison, or none (`write_together`). Args: command: as typed, for the page."""

    def make(hidden: Path) -> list[Path]:
        svg = plot.save(draw_comparison(found), hidden / "comparison")[1].read_text(encoding="utf-8")
        write_whole(hidden / "comparison.csv", to_csv(tables.group_rows(found)))
        write_whole(hidden / "runs.csv", to_csv(tables.run_rows(found)))
        write_whole(hidden / "comparison.html", page(found, svg, command))
        return [hidden / file for file in FILES]

    return write_together(folder, make)


def page(found: Comparison, svg: str, command: str) -> str:
    """Render a comparison as HTML that needs no other file and no network; text from run folders is escaped.

    Args:
        svg: the figure, as matplotlib writes it: with its text escaped, or drawn as outlines.
        command: the command as it was typed.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files("tracetorch.compare").joinpath("page.html.j2").read_text(encoding="utf-8"))
    of_several = [tables.of_differences(found), tables.of_pairs(found)] if len(found.groups) > 1 else []
    labelled = svg[svg.index("<svg") :].replace("<svg", '<svg role="img" aria-labelledby="figure-note"', 1)
    return template.render(
        experiments=[plain(name) for name in found.experiments],
        metric=plain(plain_words(found.metric)),
        runs=len(found.runs),
        groups=len(found.groups),
        by=[plain(key) for key in found.by],
        figure=Markup(labelled),
        tables=[tables.of_groups(found), *of_several],
        list=tables.of_runs(found),
        remarks=tables.remarks(found),
        left_out=tables.left_out(found.left_out),
        command=plain(command, 2000),
        date=f"{datetime.now().astimezone():%Y-%m-%d %H:%M %Z}",
    )


def draw_comparison(found: Comparison) -> Figure:
    """Learning curves with intervals, and the final values of each group."""
    metric, split = found.course_of
    entries = [_entry(group, found.course_of) for group in drawn(found)]
    of_curves = f"{plain_words(metric)} ({_OF_SPLIT[split]})"
    of_values = f"{plain_words(found.metric)} (final)"
    return plot.comparison(entries, of_curves=of_curves, of_values=of_values, note=_note(found, entries))


def drawn(found: Comparison) -> list[Group]:
    """The groups in the figure: all, or the best."""
    ranked = sorted(found.groups, key=lambda group: group.summary.mean, reverse=not lower_is_better(found.metric))
    return [group for group in found.groups if group in ranked[:MOST_DRAWN]]


def _entry(group: Group, course_of: tuple[str, str]) -> plot.Entry:
    curve = course([run.curves.get(course_of, []) for run in group.runs])
    values = [run.value for run in group.runs]
    return plot.Entry(f"{group.key} {group.label}", values, group.summary.mean, group.summary.bar, curve)


def _note(found: Comparison, entries: Sequence[plot.Entry]) -> str:
    """Explain the lines, bands, points and bars that occur."""
    sizes = {len(entry.values) for entry in entries}
    notes = ["Lines: means over runs" if max(sizes) > 1 else "Lines: runs"]
    if any(entry.curve is not None and not entry.curve.whole.all() for entry in entries):
        notes[0] += ", dotted where some runs have ended"
    notes += interval_note("Bands and bars", sizes)
    if max(sizes) > 1:
        notes.append("Small points: runs")
    if 1 in sizes:
        notes.append("A single run has no interval")
    if len(entries) < len(found.groups):
        notes.append(f"Only the best {len(entries)} of {len(found.groups)} groups are drawn")
    return "".join(f"{note}. " for note in notes)


def course(curves: Sequence[Points]) -> plot.Curve | None:
    """The mean of curves over the runs that have a value, and its band: a 95 % interval or, for two runs, the range.

    A run is interpolated between its records and does not count outside them. The band ends where a run does.
    """
    given = [dict(curve) for curve in curves if curve]  # an update that was recorded twice counts once
    if not given:
        return None
    x = np.unique([update for curve in given for update in curve])
    if len(x) > _MOST_POINTS:
        x = np.linspace(x[0], x[-1], _MOST_POINTS)
    rows = []
    for curve in given:
        at = sorted(curve)
        rows.append(np.interp(x, at, [curve[update] for update in at], left=np.nan, right=np.nan))
    values = np.array(rows)
    count = np.isfinite(values).sum(axis=0)
    x, values, count = x[count > 0], values[:, count > 0], count[count > 0]
    whole = count == len(given)
    mean = np.nansum(values, axis=0) / count
    low, high = np.full_like(mean, np.nan), np.full_like(mean, np.nan)
    if len(given) == 2:
        low[whole], high[whole] = values[:, whole].min(axis=0), values[:, whole].max(axis=0)
    elif len(given) > 2:
        half = half_width(1.0, len(given), len(given) - 1) * values[:, whole].std(axis=0, ddof=1)
        low[whole], high[whole] = mean[whole] - half, mean[whole] + half
    return plot.Curve(x, mean, low, high, whole)
