"""A metric against another quantity, as points and lines in a panel for each experiment; also as a table and as CSV.

A line is a group of runs. If the quantity is a config key, a point is the mean of the runs of a line with the same
value. If the quantity was measured, for example memory, a point is the mean of runs that differ only in the seed.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tracetorch import plot
from tracetorch.compare.collect import LeftOut
from tracetorch.compare.comparison import Comparison
from tracetorch.compare.groups import UnknownNameError, differing, is_setting, labels, value_of
from tracetorch.compare.output import write_together
from tracetorch.compare.statistics import Summary, summarize
from tracetorch.compare.tables import Table, in_numbers, in_text, without_nan
from tracetorch.compare.text import MISSING, interval_note, label_of, number, plain, plain_words, unit_of
from tracetorch.compare.values import MeasuredRun, as_number, known_metrics, last_of
from tracetorch.files import write_whole
from tracetorch.runs.folder import lower_is_better
from tracetorch.runs.records import to_csv

if TYPE_CHECKING:  # `plot` loads matplotlib and torch when it draws, which takes a second
    from matplotlib.figure import Figure

MOST_DRAWN = 32
"""Largest number of lines in a figure. If there are more, the best are drawn."""


class NoNumberError(ValueError):
    """The runs have values of this name, but not numbers. Args: values: some of them."""

    def __init__(self, name: str, values: Sequence[str]):
        super().__init__(f"{name!r} is not a number")
        self.name, self.values = name, list(values)


class RunPoint(NamedTuple):
    """A run, and its value of the other quantity."""

    run: MeasuredRun
    x: float


class Point(NamedTuple):
    """The mean of some runs."""

    experiment: str
    line: str  # the label of its line; "" for the only line
    x: Summary
    y: Summary
    runs: list[RunPoint]


@dataclass(frozen=True)
class Scatter:
    """A metric against a quantity."""

    metric: str
    key: str  # the name of the quantity
    is_set: bool  # whether the quantity is a config key; else it was measured
    points: list[Point]  # by experiment, line and x
    chances: dict[str, float | None]  # chance level of the metric in each experiment, if its runs have one and agree
    left_out: list[LeftOut]

    @property
    def stem(self) -> str:
        """A name for files, valid in every file system."""
        letters = f"{self.metric}_against_{self.key}"[:120]
        return "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in letters)


def make_scatter(comparison: Comparison, key: str) -> Scatter:
    """Relate the metric of a comparison to another quantity.

    Args:
        comparison: its groups are the lines if keys define them; else runs whose configs differ only in seeds and in
            this key form a line.
        key: the name of a number in the summary or timings of run.json or in the last records, or a config key. If a
            config key varies only in some experiments, the others are left out.
    Raises: UnknownNameError for a key that no run has; NoNumberError for a key whose values are not numbers.
    """
    experiments: dict[str, list[RunPoint]] = {}
    left_out, kinds = [], set()
    for run in comparison.runs:
        x, is_set = _quantity(run, key)
        if x is None:
            left_out.append(run.run.left_out(f"it has no {plain_words(key)}"))
        else:
            name = "" if "experiment" in comparison.by else run.run.fact("experiment")
            experiments.setdefault(name, []).append(RunPoint(run, x))
            kinds.add(is_set)
    if not experiments:
        values = list(dict.fromkeys(value for run in comparison.runs if (value := value_of(run.run, key))))
        if values:
            raise NoNumberError(key, values)
        raise UnknownNameError(key, _known(comparison.runs))
    is_set = kinds == {True}
    points: list[Point] = []
    chances: dict[str, float | None] = {}
    for name, entries in experiments.items():
        for line, members in _lines(entries, comparison, key):
            points += _points(name, line, members, is_set)
        chances[name] = _chance_level(entries, comparison.metric)
    varied = [name for name, entries in experiments.items() if not is_set or len({entry.x for entry in entries}) > 1]
    varied = varied or list(experiments)
    for point in points:
        if point.experiment not in varied:
            why = f"{key} is the same in all runs of {point.experiment}"
            left_out += [entry.run.run.left_out(why) for entry in point.runs]
    points = [point for point in points if point.experiment in varied]
    chances = {name: chances[name] for name in varied}
    return Scatter(comparison.metric, key, is_set, points, chances, [*comparison.left_out, *left_out])


def _lines(entries: Sequence[RunPoint], comparison: Comparison, key: str) -> list[tuple[str, list[RunPoint]]]:
    """The label and the runs of each line of an experiment."""
    if comparison.by:
        by_label: dict[str, list[RunPoint]] = {}
        for group in comparison.groups:  # their labels may name the experiment, which has a panel
            values = [value_of(group.runs[0].run, name) or MISSING for name in comparison.by]
            words = [f"{name}={value}" for name, value in zip(comparison.by, values, strict=True)]
            label = ", ".join(words) if len(words) > 1 else values[0]
            by_label.setdefault(label, []).extend(entry for entry in entries if entry.run in group.runs)
        return [(label, members) for label, members in by_label.items() if members]
    by_config: dict[Hashable, list[RunPoint]] = {}
    for entry in entries:
        config = entry.run.run.config
        others = [] if config is None else [item for item in config.items() if item[0] != key and is_setting(item[0])]
        by_config.setdefault(entry.run.run.group if config is None else frozenset(others), []).append(entry)
    configs = [[entry.run.run.config or {} for entry in members] for members in by_config.values()]
    differences = {name: values for name, values in differing(configs).items() if name != key}
    names = labels(differences, len(by_config))
    return [(name or f"{at + 1}" * (len(by_config) > 1), members)
            for at, (name, members) in enumerate(zip(names, by_config.values(), strict=True))]  # fmt: skip


def _points(experiment: str, line: str, entries: Sequence[RunPoint], is_set: bool) -> list[Point]:
    """The points of a line, in the order of x."""
    by_value: dict[Hashable, list[RunPoint]] = {}
    for entry in entries:
        run = entry.run.run
        by_value.setdefault(entry.x if is_set else run.group or run.name, []).append(entry)
    points = []
    for members in by_value.values():
        x, y = summarize([entry.x for entry in members]), summarize([entry.run.value for entry in members])
        points.append(Point(experiment, line, x, y, members))
    return sorted(points, key=lambda point: point.x.mean)


def _chance_level(entries: Sequence[RunPoint], metric: str) -> float | None:
    """The mean chance level of a metric; None if no run has one, or if they differ by more than 0.05."""
    given = {as_number(entry.run.run.summary.get(f"chance_{metric}")) for entry in entries}
    levels = [level for level in given if level is not None]
    agree = levels and max(levels) - min(levels) <= 0.05  # they vary with the random choice of trials
    return sum(levels) / len(levels) if agree else None


def _quantity(run: MeasuredRun, key: str) -> tuple[float | None, bool]:
    """A run's value of a quantity, and whether the value is from the config."""
    timings = run.run.facts.get("timings")
    for source in (run.run.summary, timings if isinstance(timings, dict) else {}):
        if (measured := as_number(source.get(key))) is not None:
            return measured, False
    text = (run.run.config or {}).get(key)
    if text is None:
        return last_of(run.run, key), False
    try:
        return as_number(float(text.removeprefix("[").removesuffix("]"))), True
    except ValueError:
        return None, True


def _known(runs: Sequence[MeasuredRun]) -> list[str]:
    timings = [run.run.facts["timings"] for run in runs if isinstance(run.run.facts.get("timings"), dict)]
    names = [*known_metrics(run.run for run in runs), *(name for times in timings for name in times)]
    keys = [key for run in runs for key in run.run.config or {} if _quantity(run, key)[0] is not None]
    return list(dict.fromkeys([*names, *keys]))


# ── table and figure ────────────────────────────────────────────────────────────────────────────────────────────────


def write_scatter(scatter: Scatter, folder: str | Path) -> list[Path]:
    """Write figure and CSV, or nothing (`output.write_together`). Returns: their paths."""

    def make(hidden: Path) -> list[Path]:
        files = [*plot.save(draw_scatter(scatter), hidden / scatter.stem), hidden / f"{scatter.stem}.csv"]
        write_whole(files[-1], to_csv(rows(scatter)))
        return files

    return write_together(folder, make)


def draw_scatter(scatter: Scatter) -> Figure:
    """The points of a scatter with intervals, a panel for each experiment."""
    x_unit, y_unit = unit_of(scatter.key), unit_of(scatter.metric)

    def mark(point: Point) -> plot.Mark:
        runs = [(entry.x / x_unit, entry.run.value / y_unit) for entry in point.runs]
        x, y = point.x.mean / x_unit, point.y.mean / y_unit
        return plot.Mark(x, y, _bar(point.x, x_unit), _bar(point.y, y_unit), runs)

    means: dict[str, list[float]] = {}
    for point in scatter.points:
        means.setdefault(point.line, []).append(point.y.mean)
    reverse = not lower_is_better(scatter.metric)
    best = sorted(means, key=lambda label: sum(means[label]) / len(means[label]), reverse=reverse)[:MOST_DRAWN]
    panels = []
    for name, chance in scatter.chances.items():
        marks: dict[str, list[plot.Mark]] = {}
        for point in scatter.points:
            if point.experiment == name and point.line in best:
                marks.setdefault(point.line, []).append(mark(point))
        title = name if len(scatter.chances) > 1 or scatter.left_out else ""
        if marks:
            series = [plot.Series(line, of_line) for line, of_line in marks.items()]
            panels.append(plot.Panel(title, series, None if chance is None else chance / y_unit))
    sizes = {point.y.n for point in scatter.points}
    notes = ["Large points: means over runs; small points: runs"] if max(sizes) > 1 else []
    notes += interval_note("Bars", sizes)
    if len(best) < len(means):
        notes.append(f"Only the best {len(best)} groups are drawn")
    return plot.scatter(
        panels,
        of_x=label_of(scatter.key),
        of_y=label_of(scatter.metric),
        connected=scatter.is_set,
        share=max(point.y.most for point in scatter.points) <= 1 and not lower_is_better(scatter.metric),
        note="".join(f"{note}. " for note in notes),
    )


def table(scatter: Scatter) -> Table:
    """The points of a scatter as a table of text. A measured x is rounded, and in its unit."""
    of_x, of_y = plain(label_of(scatter.key)), plain(label_of(scatter.metric))
    has_experiments = len(scatter.chances) > 1
    table_rows = []
    for point in scatter.points:
        x = f"{point.x.mean:g}" if scatter.is_set else number(point.x.mean / unit_of(scatter.key))
        names = [point.experiment, point.line] if has_experiments else [point.line]
        table_rows.append([*names, x, *in_text(point.y, unit_of(scatter.metric))])
    note = "n: runs. ±: 95 % interval of the mean, by Student's t; a single run has none."
    note += "" if scatter.is_set else f" Each row: runs that differ only in the seed; {of_x}: their mean."
    head = [*(["experiment"] if has_experiments else []), "group", of_x, "n", f"{of_y}, mean", "min to max"]
    return Table(f"{of_y} against {of_x}", head, table_rows, 1 + has_experiments, note)


def rows(scatter: Scatter) -> list[dict[str, Any]]:
    """The rows of the CSV file, one for each point, with all its numbers."""
    table_rows = []
    for point in scatter.points:
        row: dict[str, Any] = {"experiment": point.experiment, "group": point.line, "key": scatter.key}
        row |= {"x": point.x.mean, "x_ci_low": point.x.low, "x_ci_high": point.x.high}
        row |= in_numbers(scatter.metric, point.y, [entry.run for entry in point.runs])
        table_rows.append(without_nan(row | {"chance": scatter.chances[point.experiment]}))
    return table_rows


def _bar(values: Summary, unit: float) -> tuple[float, float] | None:
    if values.bar is None or values.least == values.most:
        return None
    return values.bar[0] / unit, values.bar[1] / unit
