"""How a metric goes with another quantity: what runs have of both, as points of lines, in a panel for each experiment.

A line is a group of runs. Where the quantity was set, as a key of the config, a point holds the runs of a line with the
same value; where it was measured, such as an amount of memory, those that differ by chance alone.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tracetorch.compare import differences
from tracetorch.compare.collect import LeftOut
from tracetorch.compare.comparison import Comparison
from tracetorch.compare.groups import UnknownNameError, value_of
from tracetorch.compare.statistics import Summary, summarize
from tracetorch.compare.values import MeasuredRun, as_number, known_metrics, last_of, plain_words


class NoNumberError(ValueError):
    """The runs have what was asked for, and it is no number.

    Args:
        name: what was asked for.
        values: some of what there is.
    """

    def __init__(self, name: str, values: Sequence[str]):
        super().__init__(f"{name!r} is not a number")
        self.name, self.values = name, list(values)


class RunPoint(NamedTuple):
    """A run, and what it has of the other quantity."""

    run: MeasuredRun
    x: float


class Point(NamedTuple):
    """Runs that are taken together."""

    x: Summary
    y: Summary
    runs: list[RunPoint]


class Line(NamedTuple):
    """Points that belong together, by their x."""

    label: str  # what sets it apart from the others; "" for one alone
    points: list[Point]


class ExperimentLines(NamedTuple):
    """The lines of one experiment."""

    name: str
    lines: list[Line]
    chance: float | None  # what guessing reaches in the metric, where the runs say so and agree


@dataclass(frozen=True)
class Scatter:
    """What there is to tell."""

    metric: str
    key: str
    is_set: bool  # whether it is a key of the config, or was measured
    panels: list[ExperimentLines]
    left_out: list[LeftOut]

    @property
    def stem(self) -> str:
        """A name for files, that every file system takes."""
        letters = f"{self.metric}_against_{self.key}"[:120]
        return "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in letters)


def make_scatter(found: Comparison, key: str) -> Scatter:
    """Place the runs of a comparison by another quantity.

    Args:
        found: its groups are the lines if they were made by keys; else a line holds the runs whose configs differ in
            seeds and in this key alone.
        key: of a number in the summary of run.json, its timings or the last records, or of the config; then, if it
            varies in some experiments, those in which it does not are left out.
    Raises: UnknownNameError for a key that no run has; NoNumberError.
    """
    placed, left_out, sources = [], [], set()
    for run in found.runs:
        x, is_set = _quantity(run, key)
        if x is None:
            left_out.append(LeftOut(run.run.name, "completed", run.seed, f"it has no {plain_words(key)}"))
        else:
            placed.append(RunPoint(run, x))
            sources.add(is_set)
    if not placed:
        words = list(dict.fromkeys(word for run in found.runs if (word := value_of(run.run, key))))
        if words:
            raise NoNumberError(key, words)
        raise UnknownNameError(key, _known(found.runs))
    is_set = sources == {True}
    names = dict.fromkeys(_experiment(one, found.by) for one in placed)
    panels = [_panel(name, [one for one in placed if _experiment(one, found.by) == name], found, key, is_set)
              for name in names]  # fmt: skip
    varied = [panel for panel in panels if not is_set or len({one.x for one in _points_of(panel)}) > 1] or panels
    for panel in panels:
        if panel not in varied:
            why = f"{key} is the same in all runs of {panel.name}"
            left_out += [LeftOut(one.run.run.name, "completed", one.run.seed, why) for one in _points_of(panel)]
    return Scatter(found.metric, key, is_set, varied, [*found.left_out, *left_out])


def _points_of(panel: ExperimentLines) -> list[RunPoint]:
    return [one for line in panel.lines for point in line.points for one in point.runs]


def _panel(name: str, placed: Sequence[RunPoint], found: Comparison, key: str, is_set: bool) -> ExperimentLines:
    lines = [Line(label, _points(members, is_set)) for label, members in _lines(placed, found, key)]
    chances = {as_number(one.run.run.summary.get(f"chance_{found.metric}")) for one in placed}
    return ExperimentLines(name, lines, _middle([value for value in chances if value is not None]))


def _middle(chances: Sequence[float]) -> float | None:
    """One chance level for all, where they differ no more than the luck of drawing trials would have it."""
    if not chances or max(chances) - min(chances) > 0.05:
        return None
    return sum(chances) / len(chances)


def _lines(placed: Sequence[RunPoint], found: Comparison, key: str) -> list[tuple[str, list[RunPoint]]]:
    if found.by:
        members = {group.label: [one for one in placed if one.run in group.runs] for group in found.groups}
        only = f"{found.by[0]}=" if len(found.by) == 1 else ""
        return [(label.removeprefix(only), those) for label, those in members.items() if those]
    parted: dict[Hashable, list[RunPoint]] = {}
    for one in placed:
        parted.setdefault(_without(one.run, key), []).append(one)
    configs = [[one.run.run.config or {} for one in those] for those in parted.values()]
    apart = {name: values for name, values in differences.differing(configs).items() if name != key}
    labels = differences.labels(apart, len(parted))
    return [(label or f"{at + 1}" * (len(parted) > 1), those)
            for at, (label, those) in enumerate(zip(labels, parted.values(), strict=True))]  # fmt: skip


def _without(run: MeasuredRun, key: str) -> Hashable:
    """What sets a run apart, but for chance and this key."""
    config = run.run.config
    if config is None:
        return run.run.group
    return frozenset((name, value) for name, value in config.items() if name != key and differences.counts(name))


def _points(placed: Iterable[RunPoint], is_set: bool) -> list[Point]:
    together: dict[Hashable, list[RunPoint]] = {}
    for one in placed:
        run = one.run.run
        together.setdefault(one.x if is_set else run.group or run.name, []).append(one)
    points = [
        Point(summarize([one.x for one in those]), summarize([one.run.value for one in those]), those)
        for those in together.values()
    ]
    return sorted(points, key=lambda point: point.x.mean)


def _quantity(run: MeasuredRun, key: str) -> tuple[float | None, bool]:
    """What a run has of it, and whether that stands in its config."""
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


def _experiment(one: RunPoint, by: Sequence[str]) -> str:
    return "" if "experiment" in by else one.run.run.fact("experiment")
