"""A comparison of runs: read, grouped, measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from tracetorch.compare.collect import CompletedRun, LeftOut, find_runs, read_run, settle
from tracetorch.compare.groups import Group, UnknownNameError, Values, group_by, name_groups, without_repetitions
from tracetorch.compare.statistics import Difference, difference
from tracetorch.compare.values import COURSES, MeasuredRun, default_metric, known_metrics, measure

MOST_PAIRED = 8
"""Up to this number of groups, all pairs are compared; of more, each group is compared only with the best."""


class NothingToCompareError(ValueError):
    """No run can be compared; the message says why."""


@dataclass(frozen=True)
class Comparison:
    """Groups of runs, measured by one metric."""

    metric: str
    by: tuple[str, ...]
    groups: list[Group]
    apart: dict[str, list[Values]]  # settings that differ, and their values in the order of the groups
    left_out: list[LeftOut]
    course_of: tuple[str, str]  # the metric and the split of the learning curves

    @property
    def runs(self) -> list[MeasuredRun]:
        return [run for group in self.groups for run in group.runs]

    @property
    def experiments(self) -> list[str]:
        return list(dict.fromkeys(run.run.fact("experiment") or "unnamed" for run in self.runs))

    @property
    def best(self) -> Group:
        """The group with the best mean."""
        return (min if lower_is_better(self.metric) else max)(self.groups, key=lambda group: group.summary.mean)

    @property
    def is_paired(self) -> bool:
        return len(self.groups) <= MOST_PAIRED

    def pairs(self) -> list[tuple[Group, Group, Difference]]:
        """Pairs of groups, and the mean of the second minus that of the first."""
        best = self.best
        against_best = [(best, group) for group in self.groups if group is not best]
        chosen = combinations(self.groups, 2) if self.is_paired else against_best
        return [(first, second, difference(first.pairs(), second.pairs())) for first, second in chosen]


def lower_is_better(metric: str) -> bool:
    """Whether a metric is a cost, by the last word of its name."""
    return metric.rpartition("_")[2] in ("loss", "error", "seconds", "bytes")


def compare(
    folders: Sequence[str | Path] | str | Path, *, by: Sequence[str] = (), metric: str | None = None
) -> Comparison:
    """Compare the runs in and below some folders.

    Args:
        by: config keys, or "rule", that define the groups; if none, runs that differ only in the seed form a group.
        metric: the number to compare; if None, the task's first metric.
    Raises: UnknownNameError for a key or a metric that no run has; NothingToCompareError.
    """
    found, left_out = find_runs([folders] if isinstance(folders, str | Path) else folders)
    read = [read_run(folder) for folder in found]
    left_out += [run for run in read if isinstance(run, LeftOut)]
    runs = settle([run for run in read if isinstance(run, CompletedRun)])
    if not runs:
        raise NothingToCompareError(_nothing(left_out))
    usual = default_metric(runs)
    chosen = metric or usual
    members, without_group = group_by(runs, by)
    left_out += without_group
    measured = []
    for had, these in members.items():
        kept, repeated = without_repetitions(these)
        left_out += repeated
        results = [measure(run, chosen, usual) for run in kept]
        left_out += [result for result in results if isinstance(result, LeftOut)]
        good = [result for result in results if isinstance(result, MeasuredRun)]
        if good:
            measured.append((had, good))
    if not measured:
        known = known_metrics(runs)
        if metric is not None and metric not in known:
            raise UnknownNameError(metric, known)
        raise NothingToCompareError(_nothing(left_out))
    groups, apart = name_groups(measured, by)
    course_of = _course_of([run for _, good in measured for run in good], chosen, usual)
    return Comparison(chosen, tuple(by), groups, apart, left_out, course_of)


def _course_of(runs: Sequence[MeasuredRun], metric: str, usual: str) -> tuple[str, str]:
    """Choose the metric of the curves, `usual` if `metric` was not recorded, and the split that most runs have."""
    counts = Counter(key for run in runs for key in run.curves)
    for name in (metric, usual):
        if any(counts[name, split] for split in COURSES):
            return name, max(COURSES, key=lambda split: counts[name, split])
    return metric, "validation"


def _nothing(left_out: Sequence[LeftOut]) -> str:
    if not left_out:
        return "no run.json lies there or below"
    first, *others = left_out
    more = f" (and {len(others)} more)" if others else ""
    return f"no run there can be compared: {first.name}, because {first.why}{more}"
