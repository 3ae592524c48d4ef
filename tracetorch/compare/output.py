"""The files that a comparison leaves: tables, the figure, the page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from tracetorch.compare import tables
from tracetorch.compare.atomic_output import write_together
from tracetorch.compare.comparison import Comparison, lower_is_better
from tracetorch.compare.curves import course
from tracetorch.compare.groups import Group
from tracetorch.compare.page import page
from tracetorch.compare.values import plain_words
from tracetorch.files import write_whole
from tracetorch.plot import save
from tracetorch.plot.comparison_figure import Curve, Entry, comparison
from tracetorch.runs.records import to_csv

FILES = ("comparison.csv", "runs.csv", "comparison.png", "comparison.svg", "comparison.html")

MOST_DRAWN = 32
"""Groups that a figure can hold; the best, if there are more."""

_OF_SPLIT = {"validation": "validation", "train": "training", "gradient": "probe"}


def write_comparison(found: Comparison, folder: str | Path, command: str) -> list[Path]:
    """Write all files of a comparison, or none.

    Args:
        folder: made if it does not exist. Files of an earlier comparison are replaced.
        command: what was typed, for the foot of the page.
    Returns: what was written.
    Raises: OSError if something cannot be.
    """

    def make(hidden: Path) -> list[Path]:
        svg = save(draw_comparison(found), hidden / "comparison")[1].read_text(encoding="utf-8")
        write_whole(hidden / "comparison.csv", to_csv(tables.group_rows(found)))
        write_whole(hidden / "runs.csv", to_csv(tables.run_rows(found)))
        write_whole(hidden / "comparison.html", page(found, svg, command))
        return [hidden / file for file in FILES]

    return write_together(folder, make)


def draw_comparison(found: Comparison) -> Figure:
    """The figure of a comparison."""
    metric, split = found.course_of
    entries = [_entry(group, found.course_of) for group in drawn(found)]
    return comparison(
        entries,
        of_curves=f"{plain_words(metric)} ({_OF_SPLIT[split]})",
        of_values=f"{plain_words(found.metric)} (final)",
        note=_note(found, entries),
    )


def drawn(found: Comparison) -> list[Group]:
    """The groups in the figure: all, or the best."""
    if len(found.groups) <= MOST_DRAWN:
        return found.groups
    ranked = sorted(found.groups, key=lambda group: group.summary.mean, reverse=not lower_is_better(found.metric))
    return [group for group in found.groups if group in ranked[:MOST_DRAWN]]


def _note(found: Comparison, entries: Sequence[Entry]) -> str:
    """What lines, bands, points and bars are, as far as there are any."""
    sizes = {len(entry.values) for entry in entries}
    notes = ["Lines: means over runs" if max(sizes) > 1 else "Lines: runs"]
    if any(entry.curve is not None and not entry.curve.whole.all() for entry in entries):
        notes[0] += ", dotted where some runs have ended"
    if max(sizes) > 2:
        notes.append("Bands and bars: 95 % interval of the mean (Student's t)")
        notes[-1] += "; for n=2, the range of the two runs" if 2 in sizes else ""
    elif 2 in sizes:
        notes.append("Bands and bars: range of the two runs (n=2)")
    if max(sizes) > 1:
        notes.append("Small points: runs")
    if 1 in sizes:
        notes.append("A single run has no interval")
    if len(entries) < len(found.groups):
        notes.append(f"Only the best {len(entries)} of {len(found.groups)} groups are drawn")
    return "".join(f"{note}. " for note in notes)


def _entry(group: Group, course_of: tuple[str, str]) -> Entry:
    n, mean, low, high, _, least, most = group.summary
    bar = None if n == 1 else (least, most) if n == 2 else (low, high)
    found = course([run.curves.get(course_of, []) for run in group.runs])
    return Entry(
        f"{group.key} {group.label}", [run.value for run in group.runs], mean, bar, Curve(*found) if found else None
    )
