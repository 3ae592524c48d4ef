"""Groups of runs: those that differ by chance alone, or those that share what one asks for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from tracetorch.compare import differences
from tracetorch.compare.collect import LeftOut, Run
from tracetorch.compare.statistics import Summary, summarize
from tracetorch.compare.text import MISSING, in_order
from tracetorch.compare.values import Measured, as_number
from tracetorch.runs.identity import name_of

_FACTS = ("rule", "experiment")  # of run.json, by which runs can be grouped like by a key of the config


class UnknownNameError(ValueError):
    """No run has what was asked for.

    Args:
        name: what was asked for.
        known: what there is.
    """

    def __init__(self, name: str, known: Sequence[str]):
        super().__init__(f"no run has {name!r}")
        self.name, self.known = name, list(known)


@dataclass(frozen=True)
class Group:
    """Runs that are taken together."""

    key: str  # a letter, by which tables and the figure name it
    label: str  # what sets it apart from the others
    runs: list[Measured]

    @cached_property
    def summary(self) -> Summary:
        """Of the values."""
        return summarize([run.value for run in self.runs])

    def pairs(self) -> list[tuple[str, float]]:
        """Seed and value of each run."""
        return [(run.seed, run.value) for run in self.runs]

    def mean_of(self, name: str) -> float | None:
        """The mean of one number of the summaries, such as "wall_seconds"; None if none has it."""
        numbers = [as_number(run.run.summary.get(name)) for run in self.runs]
        known = [value for value in numbers if value is not None]
        return sum(known) / len(known) if known else None


def group_by(runs: Sequence[Run], keys: Sequence[str]) -> tuple[dict[tuple[str, ...], list[Run]], list[LeftOut]]:
    """Runs by what they have in common.

    Args: keys: of the config, dotted, or "rule", or "experiment"; if none, runs that share a config but for its seeds.
    Returns: the groups, in order; the runs that say nothing of it.
    Raises: UnknownNameError for a key that no run has.
    """
    for key in keys:
        if not any(value_of(run, key) for run in runs):
            raise UnknownNameError(key, _known(runs))
    groups: dict[tuple[str, ...], list[Run]] = {}
    left_out = []
    for run in runs:
        if keys and run.config is None and any(key not in _FACTS for key in keys):
            left_out.append(LeftOut(run.name, "completed", run.fact("seed"), run.remark))
        elif not keys and not run.group:
            left_out.append(LeftOut(run.name, "completed", run.fact("seed"), "run.json names no group"))
        else:
            values = tuple(value_of(run, key) or MISSING for key in keys) if keys else (run.group,)
            groups.setdefault(values, []).append(run)
    if keys:
        groups = {values: groups[values] for values in sorted(groups, key=lambda all_: [*map(in_order, all_)])}
    return groups, left_out


def without_repetitions(runs: Sequence[Run]) -> tuple[list[Run], list[LeftOut]]:
    """The newest of runs with the same config and seed: the same numbers twice would pass for two measurements."""
    newest: dict[str, Run] = {}
    for run in runs:
        identity = run.id or run.name
        if identity not in newest or _instant(run) >= _instant(newest[identity]):
            newest[identity] = run
    kept, repeated = [], []
    for run in runs:
        other = newest[run.id or run.name]
        if other is run:
            kept.append(run)
        else:
            why = f"{other.name} is a newer run with the same config and seed"
            repeated.append(LeftOut(run.name, "completed", run.fact("seed"), why))
    return kept, repeated


def _instant(run: Run) -> float:
    """When a run began, in whichever time zone; before all others, if it does not say."""
    try:
        return datetime.fromisoformat(run.fact("started")).timestamp()
    except (ValueError, OverflowError, OSError):
        return -math.inf


def name_groups(
    members: Sequence[tuple[tuple[str, ...], list[Measured]]], keys: Sequence[str]
) -> tuple[list[Group], dict[str, list[differences.Values]]]:
    """Give each group its letter and its label, and put them in order.

    Args:
        members: what each has in common, as `group_by` has it, and its runs.
        keys: as they were given to `group_by`.
    Returns: the groups; what sets their configs apart, in their order.
    """
    configs = [[run.run.config for run in runs if run.run.config is not None] for _, runs in members]
    apart = differences.differing(configs)
    if keys:
        labels = [", ".join(f"{key}={value}" for key, value in zip(keys, had, strict=True)) for had, _ in members]
        order = list(range(len(members)))
    else:
        labels = differences.labels(apart, len(members))
        order = sorted(range(len(members)), key=lambda at: [[*map(in_order, values[at])] for values in apart.values()])
    groups = []
    for place, at in enumerate(order):
        runs = members[at][1]
        groups.append(Group(letters(place), labels[at] or _fallback(runs, alone=len(members) == 1), runs))
    return groups, {key: [values[at] for at in order] for key, values in apart.items()}


def letters(number: int) -> str:
    """A, B, …, Z, AA, AB, …"""
    rest, last = divmod(number, 26)
    return (letters(rest - 1) if rest else "") + chr(ord("A") + last)


def value_of(run: Run, key: str) -> str | None:
    """What a run has for a key; of a part of the config, which one was chosen."""
    config = run.config or {}
    target = config.get(f"{key}._target_")
    return name_of(target) if target else (key in _FACTS and run.fact(key)) or config.get(key)


def _known(runs: Sequence[Run]) -> list[str]:
    keys = dict.fromkeys(key for run in runs for key in run.config or {} if not key.endswith("_partial_"))
    facts = [fact for fact in _FACTS if any(run.fact(fact) for run in runs)]
    return list(dict.fromkeys([*facts, *(key.removesuffix("._target_") for key in keys)]))


def _fallback(runs: Sequence[Measured], *, alone: bool) -> str:
    """For a group that nothing tells from the others, because its configs cannot be read."""
    experiment = runs[0].run.fact("experiment") or "runs"
    return experiment if alone else f"{experiment} ({runs[0].run.fact('group')[:6]})"
