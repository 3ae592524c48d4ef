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
from tracetorch.compare.comparison import Comparison
from tracetorch.compare.groups import Group
from tracetorch.compare.statistics import half_width
from tracetorch.compare.text import interval_note, label_of, plain, plain_words, unit_of
from tracetorch.compare.values import Points
from tracetorch.files import write_whole
from tracetorch.runs.folder import lower_is_better
from tracetorch.runs.lock import WRITING, aside, remove_all_abandoned
from tracetorch.runs.records import to_csv

if TYPE_CHECKING:  # `plot` loads matplotlib and torch when it draws, which takes a second
    from matplotlib.figure import Figure

FILES = ("comparison.csv", "runs.csv", "comparison.png", "comparison.svg", "comparison.html")

MOST_DRAWN = 32
"""Largest number of groups in a figure. If there are more, the best are drawn."""

_MAX_POINTS = 400  # of a curve: more than a printed line can show
_SPLIT_NAMES = {"validation": "validation", "train": "training", "gradient": "probe"}


def write_together(folder: str | Path, make: Callable[[Path], list[Path]]) -> list[Path]:
    """Write all files or none: they are written in a hidden folder, and moved at the end.

    Hidden folders of killed processes are removed.

    Args:
        folder: created if it does not exist. Files of the same names are replaced.
        make: writes the files into the folder that it receives, and returns their paths.
    Returns: the files.
    Raises: OSError if a file cannot be written.
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


def write_comparison(comparison: Comparison, folder: str | Path, command: str) -> list[Path]:
    """Write all files of a comparison, or none (`write_together`). Args: command: as typed; shown on the page."""

    def make(hidden: Path) -> list[Path]:
        svg = plot.save(draw_comparison(comparison), hidden / "comparison")[1].read_text(encoding="utf-8")
        write_whole(hidden / "comparison.csv", to_csv(tables.group_rows(comparison)))
        write_whole(hidden / "runs.csv", to_csv(tables.run_rows(comparison)))
        write_whole(hidden / "comparison.html", page(comparison, svg, command))
        return [hidden / file for file in FILES]

    return write_together(folder, make)


def page(comparison: Comparison, svg: str, command: str) -> str:
    """Render a comparison as HTML that needs no other file and no network; text from run folders is escaped.

    Args:
        svg: the figure, as matplotlib writes it: with its text escaped, or drawn as outlines.
        command: the command as it was typed.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files("tracetorch.compare").joinpath("page.html.j2").read_text(encoding="utf-8"))
    further = [tables.of_differences(comparison), tables.of_pairs(comparison)] if len(comparison.groups) > 1 else []
    labelled = svg[svg.index("<svg") :].replace("<svg", '<svg role="img" aria-labelledby="figure-note"', 1)
    return template.render(
        experiments=[plain(name) for name in comparison.experiments],
        metric=plain(plain_words(comparison.metric)),
        runs=len(comparison.runs),
        groups=len(comparison.groups),
        by=[plain(key) for key in comparison.by],
        figure=Markup(labelled),
        tables=[tables.of_groups(comparison), *filter(None, [tables.of_costs(comparison)]), *further],
        list=tables.of_runs(comparison),
        remarks=tables.remarks(comparison),
        left_out=tables.left_out(comparison.left_out),
        command=plain(command, 2000),
        date=f"{datetime.now().astimezone():%Y-%m-%d %H:%M %Z}",
    )


def draw_comparison(comparison: Comparison) -> Figure:
    """Learning curves with intervals, and the final values of each group."""
    metric, split = comparison.curve_key
    entries = [_entry(group, comparison) for group in drawn(comparison)]
    of_curves, of_values = _label(metric, _SPLIT_NAMES[split]), _label(comparison.metric, "final")
    return plot.comparison(entries, of_curves=of_curves, of_values=of_values, note=_note(comparison, entries))


def drawn(comparison: Comparison) -> list[Group]:
    """The groups in the figure: all, or the best."""
    reverse = not lower_is_better(comparison.metric)
    ranked = sorted(comparison.groups, key=lambda group: group.statistics.mean, reverse=reverse)
    return [group for group in comparison.groups if group in ranked[:MOST_DRAWN]]


def _label(name: str, part: str) -> str:
    """The label of an axis: "accuracy (final)", or with a unit, "training memory (MiB, final)"."""
    label = label_of(name)
    return f"{label[:-1]}, {part})" if label.endswith(")") else f"{label} ({part})"


def _entry(group: Group, comparison: Comparison) -> plot.Entry:
    key, found, unit = comparison.curve_key, group.statistics, unit_of(comparison.metric)
    curve = course([run.curves.get(key, []) for run in group.runs], unit_of(key[0]))
    values = [run.value / unit for run in group.runs]
    bar = None if found.bar is None else (found.bar[0] / unit, found.bar[1] / unit)
    return plot.Entry(group.label, values, found.mean / unit, bar, curve, group.letter)


def _note(comparison: Comparison, entries: Sequence[plot.Entry]) -> str:
    """Explain the lines, bands, points and bars of the figure."""
    sizes = {len(entry.values) for entry in entries}
    notes = ["Lines: means over runs" if max(sizes) > 1 else "Lines: runs"]
    if any(entry.curve is not None and not entry.curve.whole.all() for entry in entries):
        notes[0] += ", dotted where some runs have no value"
    notes += interval_note("Bands and bars", sizes)
    if max(sizes) > 1:
        notes.append("Small points: runs")
    if 1 in sizes:
        notes.append("A single run has no interval")
    if len(entries) < len(comparison.groups):
        notes.append(f"Only the best {len(entries)} of {len(comparison.groups)} groups are drawn")
    return "".join(f"{note}. " for note in notes)


def course(curves: Sequence[Points], unit: float = 1.0) -> plot.Curve | None:
    """The mean of curves over the runs that have a value, and its band: a 95 % interval or, for two runs, the range.

    A run is interpolated between its records and does not count outside them. The band is drawn where all runs count.
    Values are divided by the unit.
    """
    by_update = [dict(curve) for curve in curves if curve]  # an update that was recorded twice counts once
    if not by_update:
        return None
    x = np.unique([update for curve in by_update for update in curve])
    if len(x) > _MAX_POINTS:
        x = np.linspace(x[0], x[-1], _MAX_POINTS)
    rows = []
    for curve in by_update:
        at = sorted(curve)
        rows.append(np.interp(x, at, [curve[update] for update in at], left=np.nan, right=np.nan))
    values = np.array(rows) / unit
    count = np.isfinite(values).sum(axis=0)
    x, values, count = x[count > 0], values[:, count > 0], count[count > 0]
    whole = count == len(by_update)
    mean = np.nansum(values, axis=0) / count
    low, high = np.full_like(mean, np.nan), np.full_like(mean, np.nan)
    if len(by_update) == 2:
        low[whole], high[whole] = values[:, whole].min(axis=0), values[:, whole].max(axis=0)
    elif len(by_update) > 2:
        half = half_width(1.0, len(by_update), len(by_update) - 1) * values[:, whole].std(axis=0, ddof=1)
        low[whole], high[whole] = mean[whole] - half, mean[whole] + half
    return plot.Curve(x, mean, low, high, whole)
