"""A metric against another quantity, as points and lines in a panel for each experiment; also as a table and as CSV.

A line is a group of runs. If the quantity is a config key, a point is the mean of a line's runs with the same value; if
it was measured, for example memory, a point is the mean of runs that differ only in the seed.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tracetorch import plot
from tracetorch.compare.collect import LeftOut
from tracetorch.compare.comparison import Comparison, lower_is_better
from tracetorch.compare.groups import UnknownNameError, differing, is_setting, labels, value_of
from tracetorch.compare.output import write_together
from tracetorch.compare.statistics import Summary, summarize
from tracetorch.compare.tables import Table, in_numbers, in_text, without_nan
from tracetorch.compare.text import interval_note, number, plain, plain_words
from tracetorch.compare.values import MeasuredRun, as_number, known_metrics, last_of
from tracetorch.files import write_whole
from tracetorch.runs.records import to_csv

if TYPE_CHECKING:  # `plot` loads matplotlib and torch when it draws, which takes a second
    from matplotlib.figure import Figure

MOST_DRAWN = 32
"""Most lines in a figure. If there are more, the best are drawn."""

_SECONDS = ("task.delay", "task.duration", "task.cue", "task.dt", "task.interval", "task.recall")
"""Config keys in seconds whose names do not contain the unit."""


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
    """Runs that are averaged."""

    experiment: str
    line: str  # the name of its line; "" for the only line
    x: Summary
    y: Summary
    runs: list[RunPoint]


@dataclass(frozen=True)
class Scatter:
    """A metric against a quantity."""

    metric: str
    key: str
    is_set: bool  # whether the quantity is a config key; else it was measured
    points: list[Point]  # by experiment, line and x
    chances: dict[str, float | None]  # of each experiment: chance level of the metric, if the runs have one and agree
    left_out: list[LeftOut]

    @property
    def stem(self) -> str:
        """A name for files, valid in every file system."""
        letters = f"{self.metric}_against_{self.key}"[:120]
        return "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in letters)


def make_scatter(found: Comparison, key: str) -> Scatter:
    """Relate the metric of a comparison to another quantity.

    Args:
        found: its groups are the lines if they were made by keys; else runs whose configs differ only in seeds and in
            this key form a line.
        key: the name of a number in the summary or timings of run.json or in the last records, or a config key. If a
            config key varies only in some experiments, the others are left out.
    Raises: UnknownNameError for a key that no run has; NoNumberError.
    """
    experiments: dict[str, list[RunPoint]] = {}
    left_out, sources = [], set()
    for run in found.runs:
        x, is_set = _quantity(run, key)
        if x is None:
            left_out.append(run.run.left_out(f"it has no {plain_words(key)}"))
        else:
            name = "" if "experiment" in found.by else run.run.fact("experiment")
            experiments.setdefault(name, []).append(RunPoint(run, x))
            sources.add(is_set)
    if not experiments:
        words = list(dict.fromkeys(word for run in found.runs if (word := value_of(run.run, key))))
        if words:
            raise NoNumberError(key, words)
        raise UnknownNameError(key, _known(found.runs))
    is_set = sources == {True}
    points: list[Point] = []
    levels: dict[str, float | None] = {}
    for name, placed in experiments.items():
        for line, members in _lines(placed, found, key):
            points += _points(name, line, members, is_set)
        numbers = {as_number(one.run.run.summary.get(f"chance_{found.metric}")) for one in placed}
        chances = [value for value in numbers if value is not None]
        agree = chances and max(chances) - min(chances) <= 0.05  # chance levels vary with the random choice of trials
        levels[name] = sum(chances) / len(chances) if agree else None
    varied = [name for name, placed in experiments.items() if not is_set or len({one.x for one in placed}) > 1]
    varied = varied or list(experiments)
    for point in points:
        if point.experiment not in varied:
            why = f"{key} is the same in all runs of {point.experiment}"
            left_out += [one.run.run.left_out(why) for one in point.runs]
    points = [point for point in points if point.experiment in varied]
    levels = {name: levels[name] for name in varied}
    return Scatter(found.metric, key, is_set, points, levels, [*found.left_out, *left_out])


def _lines(placed: Sequence[RunPoint], found: Comparison, key: str) -> list[tuple[str, list[RunPoint]]]:
    if found.by:
        members = {group.label: [one for one in placed if one.run in group.runs] for group in found.groups}
        only = f"{found.by[0]}=" if len(found.by) == 1 else ""
        return [(label.removeprefix(only), those) for label, those in members.items() if those]
    parted: dict[Hashable, list[RunPoint]] = {}
    for one in placed:
        config = one.run.run.config
        others = [] if config is None else [item for item in config.items() if item[0] != key and is_setting(item[0])]
        parted.setdefault(one.run.run.group if config is None else frozenset(others), []).append(one)
    configs = [[one.run.run.config or {} for one in those] for those in parted.values()]
    apart = {name: values for name, values in differing(configs).items() if name != key}
    names = labels(apart, len(parted))
    return [(name or f"{at + 1}" * (len(parted) > 1), those)
            for at, (name, those) in enumerate(zip(names, parted.values(), strict=True))]  # fmt: skip


def _points(experiment: str, line: str, placed: Sequence[RunPoint], is_set: bool) -> list[Point]:
    together: dict[Hashable, list[RunPoint]] = {}
    for one in placed:
        run = one.run.run
        together.setdefault(one.x if is_set else run.group or run.name, []).append(one)
    points = []
    for those in together.values():
        x, y = summarize([one.x for one in those]), summarize([one.run.value for one in those])
        points.append(Point(experiment, line, x, y, those))
    return sorted(points, key=lambda point: point.x.mean)


def _quantity(run: MeasuredRun, key: str) -> tuple[float | None, bool]:
    """A run's value of a quantity, and whether it is in the config."""
    timings = run.run.facts.get("timings")
    for source in (run.run.summary, timings if isinstance(timings, dict) else {}):
        if (measured := as_number(source.get(key))) is not None:
            return measured, False
    written = (run.run.config or {}).get(key)
    if written is None:
        return last_of(run.run, key), False
    try:
        return as_number(float(written.removeprefix("[").removesuffix("]"))), True
    except ValueError:
        return None, True


def _known(runs: Sequence[MeasuredRun]) -> list[str]:
    timings = [run.run.facts["timings"] for run in runs if isinstance(run.run.facts.get("timings"), dict)]
    names = [*known_metrics(run.run for run in runs), *(name for timed in timings for name in timed)]
    keys = [key for run in runs for key in run.run.config or {} if _quantity(run, key)[0] is not None]
    return list(dict.fromkeys([*names, *keys]))


# ── table and figure ────────────────────────────────────────────────────────────────────────────────────────────────


def write_scatter(found: Scatter, folder: str | Path) -> list[Path]:
    """Write figure and CSV, or nothing (`output.write_together`). Returns: the files."""

    def make(hidden: Path) -> list[Path]:
        made = [*plot.save(draw_scatter(found), hidden / found.stem), hidden / f"{found.stem}.csv"]
        write_whole(made[-1], to_csv(rows(found)))
        return made

    return write_together(folder, make)


def draw_scatter(found: Scatter) -> Figure:
    """The points of a scatter with intervals, a panel for each experiment."""
    of_x, of_y = _unit(found.key), _unit(found.metric)

    def mark(point: Point) -> plot.Mark:
        runs = [(one.x / of_x, one.run.value / of_y) for one in point.runs]
        return plot.Mark(point.x.mean / of_x, point.y.mean / of_y, _bar(point.x, of_x), _bar(point.y, of_y), runs)

    means: dict[str, list[float]] = {}
    for point in found.points:
        means.setdefault(point.line, []).append(point.y.mean)
    reverse = not lower_is_better(found.metric)
    best = sorted(means, key=lambda label: sum(means[label]) / len(means[label]), reverse=reverse)[:MOST_DRAWN]
    panels = []
    for name, chance in found.chances.items():
        marks: dict[str, list[plot.Mark]] = {}
        for point in found.points:
            if point.experiment == name and point.line in best:
                marks.setdefault(point.line, []).append(mark(point))
        title = name if len(found.chances) > 1 or found.left_out else ""
        if marks:
            series = [plot.Series(line, those) for line, those in marks.items()]
            panels.append(plot.Panel(title, series, None if chance is None else chance / of_y))
    sizes = {point.y.n for point in found.points}
    notes = ["Large points: means over runs; small points: runs"] if max(sizes) > 1 else []
    notes += interval_note("Bars", sizes)
    if len(best) < len(means):
        notes.append(f"Only the best {len(best)} groups are drawn")
    return plot.scatter(
        panels,
        of_x=_words(found.key),
        of_y=_words(found.metric),
        connected=found.is_set,
        share=max(point.y.most for point in found.points) <= 1 and not lower_is_better(found.metric),
        note="".join(f"{note}. " for note in notes),
    )


def table(found: Scatter) -> Table:
    """The points of a scatter as a table of text; a measured x is rounded, in its unit."""
    of_x, of_y = plain(_words(found.key)), plain(_words(found.metric))
    several = len(found.chances) > 1
    made = []
    for point in found.points:
        x = f"{point.x.mean:g}" if found.is_set else number(point.x.mean / _unit(found.key))
        names = [point.experiment, point.line] if several else [point.line]
        made.append([*names, x, *in_text(point.y, _unit(found.metric))])
    note = "n: runs. ±: 95 % interval of the mean, by Student's t; a single run has none."
    note += "" if found.is_set else f" Each point: runs that differ only by chance; {of_x}: their mean."
    head = [*(["experiment"] if several else []), "group", of_x, "n", f"{of_y}, mean", "min to max"]
    return Table(f"{of_y} against {of_x}", head, made, 1 + several, note)


def rows(found: Scatter) -> list[dict[str, Any]]:
    """The rows of the CSV file, one for each point, with all its numbers."""
    made = []
    for point in found.points:
        row: dict[str, Any] = {"experiment": point.experiment, "group": point.line, "key": found.key}
        row |= {"x": point.x.mean, "x_ci_low": point.x.low, "x_ci_high": point.x.high}
        row |= in_numbers(found.metric, point.y, [one.run for one in point.runs])
        made.append(without_nan(row | {"chance": found.chances[point.experiment]}))
    return made


def _bar(of: Summary, unit: float) -> tuple[float, float] | None:
    return None if of.bar is None or of.least == of.most else (of.bar[0] / unit, of.bar[1] / unit)


def _unit(name: str) -> float:
    """The divisor from recorded to shown values."""
    return 2.0**20 if name.endswith("_bytes") else 1.0


def _words(name: str) -> str:
    """A name in words, and its unit if the name does not say it."""
    if name.endswith("_bytes"):
        return f"{plain_words(name.removesuffix('_bytes'))} (MiB)"
    if learned := re.fullmatch(r"(decay|time_constant)_(\d+)", name):
        what, layer = learned.groups()
        return f"{plain_words(what)}, layer {layer}" + (" (s)" if what == "time_constant" else "")
    return plain_words(name) + (" (s)" if name in _SECONDS else "")
