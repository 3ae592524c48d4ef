"""A comparison of runs: read, grouped, measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from tracetorch.compare.collect import CompletedRun, LeftOut, find_runs, read_run, unify_identities
from tracetorch.compare.groups import Group, UnknownNameError, Values, group_by, name_groups, without_repetitions
from tracetorch.compare.statistics import Difference, difference
from tracetorch.compare.values import CURVE_SPLITS, MeasuredRun, default_metric, known_metrics, measure
from tracetorch.runs.folder import lower_is_better
from tracetorch.runs.tags import read_tags

MOST_PAIRED = 8
"""Up to this number of groups, all pairs are compared; with more groups, each is compared only with the best."""


class NothingToCompareError(ValueError):
    """No run can be compared; the message says why."""


@dataclass(frozen=True)
class Comparison:
    """Groups of runs, measured by one metric."""

    metric: str
    by: tuple[str, ...]
    groups: list[Group]
    differences: dict[str, list[Values]]  # settings that differ, and their values in the order of the groups
    left_out: list[LeftOut]
    curve_key: tuple[str, str]  # the metric and the split of the learning curves

    @property
    def runs(self) -> list[MeasuredRun]:
        return [run for group in self.groups for run in group.runs]

    @property
    def experiments(self) -> list[str]:
        return list(dict.fromkeys(run.run.fact("experiment") or "unnamed" for run in self.runs))

    @property
    def best(self) -> Group:
        """The group with the best mean."""
        return (min if lower_is_better(self.metric) else max)(self.groups, key=lambda group: group.statistics.mean)

    @property
    def is_paired(self) -> bool:
        return len(self.groups) <= MOST_PAIRED

    def pairs(self, *, with_best: bool = False) -> list[tuple[Group, Group, Difference]]:
        """Pairs of groups, and the mean of the second group minus the mean of the first.

        Args: with_best: only pairs with the best group, as for many groups.
        """
        best = self.best
        against_best = [(best, group) for group in self.groups if group is not best]
        chosen = combinations(self.groups, 2) if self.is_paired and not with_best else against_best
        return [(first, second, difference(first.pairs(), second.pairs())) for first, second in chosen]


def compare(
    folders: Sequence[str | Path] | str | Path,
    *,
    by: Sequence[str] = (),
    metric: str | None = None,
    tag: str | None = None,
) -> Comparison:
    """Compare the runs in and below some folders.

    Args:
        by: config keys, "rule" or "experiment": runs of an experiment with the same values form a group. If empty, runs
            that differ only in the seed form a group.
        metric: the number to compare; if None, the task's first metric.
        tag: only runs with this tag.
    Raises: UnknownNameError for a key or a metric that no run has; NothingToCompareError if no run can be compared.
    """
    run_folders, left_out = find_runs([folders] if isinstance(folders, str | Path) else folders)
    if tag is not None:
        run_folders, left_out = [folder for folder in run_folders if tag in read_tags(folder)], []
        if not run_folders:
            raise NothingToCompareError(f"no run has the tag {tag}")
    results = [read_run(folder) for folder in run_folders]
    left_out += [run for run in results if isinstance(run, LeftOut)]
    runs = unify_identities([run for run in results if isinstance(run, CompletedRun)])
    if not runs:
        raise NothingToCompareError(_why_nothing(left_out))
    task_metric = default_metric(runs)
    chosen = metric or task_metric
    runs_by_values, without_group = group_by(runs, by)
    keys = tuple(by)
    if keys and any(map(_is_mixed, runs_by_values.values())):
        keys = (*by, "experiment")  # a mean over different tasks has no meaning
        runs_by_values, without_group = group_by(runs, keys)
    left_out += without_group
    groups_of_runs = []
    for values, members in runs_by_values.items():
        kept, repeated = without_repetitions(members)
        left_out += repeated
        measurements = [measure(run, chosen, task_metric) for run in kept]
        left_out += [run for run in measurements if isinstance(run, LeftOut)]
        measured = [run for run in measurements if isinstance(run, MeasuredRun)]
        if measured:
            groups_of_runs.append((values, measured))
    if not groups_of_runs:
        known = known_metrics(runs)
        if metric is not None and metric not in known:
            raise UnknownNameError(metric, known)
        raise NothingToCompareError(_why_nothing(left_out))
    groups, differences = name_groups(groups_of_runs, keys)
    curve_key = _curve_key([run for _, measured in groups_of_runs for run in measured], chosen, task_metric)
    return Comparison(chosen, tuple(by), groups, differences, left_out, curve_key)


def _is_mixed(runs: Sequence[CompletedRun]) -> bool:
    """Whether runs are of several experiments."""
    return len({run.fact("experiment") for run in runs}) > 1


def _curve_key(runs: Sequence[MeasuredRun], metric: str, task_metric: str) -> tuple[str, str]:
    """Choose the metric of the curves (`task_metric` if `metric` was not recorded), and the split of most runs."""
    counts = Counter(key for run in runs for key in run.curves)
    for name in (metric, task_metric):
        if any(counts[name, split] for split in CURVE_SPLITS):
            return name, max(CURVE_SPLITS, key=lambda split: counts[name, split])
    return metric, "validation"


def _why_nothing(left_out: Sequence[LeftOut]) -> str:
    if not left_out:
        return "no run.json was found"
    first, *others = left_out
    more = f" (and {len(others)} more)" if others else ""
    return f"no run can be compared: {first.name}, because {first.why}{more}"
