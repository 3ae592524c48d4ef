"""Groups of runs that differ only in the seed, or that have the same values of given keys; how the groups differ."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from tracetorch.compare.collect import CompletedRun, LeftOut
from tracetorch.compare.statistics import Summary, summarize
from tracetorch.compare.text import MISSING, in_order
from tracetorch.compare.values import MeasuredRun, as_number
from tracetorch.runs.identity import NOT_THE_EXPERIMENT, name_of

_FACTS = ("rule", "experiment")  # entries of run.json by which runs can be grouped, as by config keys
TARGET = "._target_"
_MAX_VALUES = 4  # values to show of a key that varies within a group
_MAX_KEYS = 4  # keys in a label

Config = Mapping[str, str]  # dotted keys and their values
Values = tuple[str, ...]  # the distinct values of a key in a group, in order


class UnknownNameError(ValueError):
    """No run has this config key or metric. Args: known: those that exist."""

    def __init__(self, name: str, known: Sequence[str]):
        super().__init__(f"no run has {name!r}")
        self.name, self.known = name, list(known)


@dataclass(frozen=True)
class Group:
    """Runs that are averaged."""

    letter: str  # its name in tables and the figure
    label: str  # how it differs from the others
    runs: list[MeasuredRun]

    @cached_property
    def statistics(self) -> Summary:
        """The statistics of the runs' values."""
        return summarize([run.value for run in self.runs])

    def pairs(self) -> list[tuple[str, float]]:
        """The seed and the value of each run."""
        return [(run.seed, run.value) for run in self.runs]

    def mean_of(self, name: str) -> float | None:
        """The mean over the runs of a number in their `summary`, such as "wall_seconds"; None if no run has it."""
        numbers = [as_number(run.run.summary.get(name)) for run in self.runs]
        known = [value for value in numbers if value is not None]
        return sum(known) / len(known) if known else None


def group_by(
    runs: Sequence[CompletedRun], keys: Sequence[str]
) -> tuple[dict[tuple[str, ...], list[CompletedRun]], list[LeftOut]]:
    """Group runs by their values of the keys.

    Args: keys: dotted config keys, "rule" or "experiment"; if empty, runs that differ only in the seed form a group.
    Returns: the runs of each group, by their values of the keys; the runs whose group is unknown.
    Raises: UnknownNameError for a key that no run has.
    """
    for key in keys:
        if not any(value_of(run, key) for run in runs):
            raise UnknownNameError(key, _known(runs))
    groups: dict[tuple[str, ...], list[CompletedRun]] = {}
    left_out = []
    for run in runs:
        if keys and run.config is None and any(key not in _FACTS for key in keys):
            left_out.append(run.left_out(run.remark))
        elif not keys and not run.group:
            left_out.append(run.left_out("run.json names no group"))
        else:
            values = tuple(value_of(run, key) or MISSING for key in keys) if keys else (run.group,)
            groups.setdefault(values, []).append(run)
    if keys:
        groups = {values: groups[values] for values in sorted(groups, key=lambda values: [*map(in_order, values)])}
    return groups, left_out


def without_repetitions(runs: Sequence[CompletedRun]) -> tuple[list[CompletedRun], list[LeftOut]]:
    """Keep only the newest run of those with the same config and seed: a repetition is not a second measurement."""
    newest = {run.id or run.name: run for run in sorted(runs, key=_started)}
    kept, repeated = [], []
    for run in runs:
        other = newest[run.id or run.name]
        if other is run:
            kept.append(run)
        else:
            repeated.append(run.left_out(f"{other.name} is a newer run with the same config and seed"))
    return kept, repeated


def _started(run: CompletedRun) -> float:
    """The start of a run as a POSIX timestamp; −∞ if unknown."""
    try:
        return datetime.fromisoformat(run.fact("started")).timestamp()
    except (ValueError, OverflowError, OSError):
        return -math.inf


def name_groups(
    members: Sequence[tuple[tuple[str, ...], list[MeasuredRun]]], keys: Sequence[str]
) -> tuple[list[Group], dict[str, list[Values]]]:
    """Order the groups, and give each its letter and label.

    Args:
        members: the values of each group, as `group_by` returns them, and its runs.
        keys: as for `group_by`.
    Returns: the groups; the settings that differ (`differing`), with their values in the order of the groups.
    """
    differences = differing([[run.run.config for run in runs if run.run.config is not None] for _, runs in members])
    if keys:
        names = [", ".join(f"{key}={value}" for key, value in zip(keys, values, strict=True)) for values, _ in members]
        order = list(range(len(members)))
    else:
        names = labels(differences, len(members))
        columns = list(differences.values())
        order = sorted(range(len(members)), key=lambda at: [[*map(in_order, values[at])] for values in columns])
    groups = []
    for rank, at in enumerate(order):
        first = members[at][1][0].run
        fallback = first.fact("experiment") or "runs"  # for the only group, or if its config cannot be read
        fallback += f" ({first.fact('group')[:6]})" if len(members) > 1 else ""
        groups.append(Group(letters(rank), names[at] or fallback, members[at][1]))
    return groups, {key: [values[at] for at in order] for key, values in differences.items()}


def letters(number: int) -> str:
    """A, B, …, Z, AA, AB, …"""
    rest, last = divmod(number, 26)
    return (letters(rest - 1) if rest else "") + chr(ord("A") + last)


def value_of(run: CompletedRun, key: str) -> str | None:
    """A run's value of a key, or the name of the part, such as "adam", if the key holds a part; None if missing."""
    config = run.config or {}
    target = config.get(f"{key}{TARGET}")
    return name_of(target) if target else (key in _FACTS and run.fact(key)) or config.get(key)


def _known(runs: Sequence[CompletedRun]) -> list[str]:
    keys = dict.fromkeys(key for run in runs for key in run.config or {} if not key.endswith("_partial_"))
    facts = [fact for fact in _FACTS if any(run.fact(fact) for run in runs)]
    return list(dict.fromkeys([*facts, *(key.removesuffix(TARGET) for key in keys)]))


# ── how groups differ ───────────────────────────────────────────────────────────────────────────────────────────────


def is_setting(key: str) -> bool:
    """Whether a key is part of the experiment; seeds, devices, threads and outputs are not."""
    first, last = key.partition(".")[0], key.rpartition(".")[2]
    return first not in NOT_THE_EXPERIMENT and last not in ("seed", "_partial_")


def differing(groups: Sequence[Sequence[Config]]) -> dict[str, list[Values]]:
    """The settings that differ between groups, and their values in each; "optimizer._target_" becomes "optimizer".

    Args: groups: the configs of each group.
    """
    keys = dict.fromkeys(key for group in groups for config in group for key in config)
    differences: dict[str, list[Values]] = {}
    for key in filter(is_setting, keys):
        distinct = [{config[key] for config in group if key in config} for group in groups]
        values = [tuple(sorted(some, key=in_order) if len(some) > 1 else some) for some in distinct]
        if len({values[at] for at, group in enumerate(groups) if group}) > 1:
            differences[key] = values
    named = {}
    for key, values in differences.items():
        part = key.removesuffix(TARGET)
        short = [tuple(name_of(value) for value in some) for some in values]
        is_unique = len({name for some in short for name in some}) == len({value for some in values for value in some})
        if part != key and part not in differences and is_unique:
            named[part] = short
        else:
            named[key] = values
    return named


def labels(differences: Mapping[str, Sequence[Values]], count: int) -> list[str]:
    """A short label for each group, such as "lr=0.01, hidden=[64]"; "" for groups that cannot be distinguished.

    The label lists every key that all groups have or, if there are many, a few that distinguish the groups. A key that
    some groups lack, such as the momentum of one optimizer, is listed only if the labels are not unique without it:
    usually another key, such as the optimizer, implies it.
    """
    everywhere = {key: values for key, values in differences.items() if all(values)}
    shortlist = everywhere if len(everywhere) <= _MAX_KEYS else _distinguishing(everywhere, count)
    for chosen in (shortlist, _distinguishing(everywhere, count), _distinguishing(differences, count)):
        for show_missing in (False, True):
            shown = _labels(chosen, count, show_missing=show_missing)
            if len(set(shown)) == count and all(shown):
                return shown
    return [label if shown.count(label) == 1 else "" for label in shown]


def show(values: Values) -> str:
    """The values of a key in a group as text; the first few if there are many."""
    if not values:
        return MISSING
    more = f", … ({len(values)})" if len(values) > _MAX_VALUES else ""
    return ", ".join(values[:_MAX_VALUES]) + more


def _distinguishing(differences: Mapping[str, Sequence[Values]], count: int) -> dict[str, Sequence[Values]]:
    """A few keys that separate the groups as far as all keys do, chosen greedily."""
    chosen: set[str] = set()
    part_of, part_count = [0] * count, 1  # of each group: the groups that the chosen keys do not separate are one part
    while True:
        candidates = {key: [*zip(part_of, differences[key], strict=True)] for key in differences if key not in chosen}
        best = max(candidates, key=lambda key: len(set(candidates[key])), default=None)
        if best is None or len(set(candidates[best])) == part_count:
            break
        chosen.add(best)
        part_numbers = {part: number for number, part in enumerate(dict.fromkeys(candidates[best]))}
        part_of, part_count = [part_numbers[part] for part in candidates[best]], len(part_numbers)
    return {key: values for key, values in differences.items() if key in chosen}


def _labels(differences: Mapping[str, Sequence[Values]], count: int, *, show_missing: bool) -> list[str]:
    """The keys and values of each group. Args: show_missing: whether to list a key that the group lacks, with "–"."""
    last = [key.rpartition(".")[2] for key in differences]
    names = [short if last.count(short) == 1 else key for key, short in zip(differences, last, strict=True)]
    columns = list(zip(names, differences.values(), strict=True))
    return [
        ", ".join(f"{name}={show(values[at])}" for name, values in columns if values[at] or show_missing)
        for at in range(count)
    ]
