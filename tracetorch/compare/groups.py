"""Groups of runs that differ only in the seed, or that share the values of keys; and how the groups differ."""

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
_TARGET = "._target_"
_MOST_VALUES = 4  # values to show of a key that varies within a group
_MOST_NAMED = 4  # keys in a label

Config = Mapping[str, str]  # dotted keys and their values
Values = tuple[str, ...]  # of a key in a group: none, one, or several in order


class UnknownNameError(ValueError):
    """No run has a value of this name. Args: known: the names that exist."""

    def __init__(self, name: str, known: Sequence[str]):
        super().__init__(f"no run has {name!r}")
        self.name, self.known = name, list(known)


@dataclass(frozen=True)
class Group:
    """Runs that are averaged."""

    key: str  # a letter, its name in tables and the figure
    label: str  # how it differs from the others
    runs: list[MeasuredRun]

    @cached_property
    def summary(self) -> Summary:
        return summarize([run.value for run in self.runs])

    def pairs(self) -> list[tuple[str, float]]:
        """Seed and value of each run."""
        return [(run.seed, run.value) for run in self.runs]

    def mean_of(self, name: str) -> float | None:
        """The mean of a number in the summaries, such as "wall_seconds"; None if no run has it."""
        numbers = [as_number(run.run.summary.get(name)) for run in self.runs]
        known = [value for value in numbers if value is not None]
        return sum(known) / len(known) if known else None


def group_by(
    runs: Sequence[CompletedRun], keys: Sequence[str]
) -> tuple[dict[tuple[str, ...], list[CompletedRun]], list[LeftOut]]:
    """Group runs by their values of the keys.

    Args: keys: dotted config keys, "rule" or "experiment"; if none, runs with the same config except seeds are a group.
    Returns: the groups, in order; the runs whose group is unknown.
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
        groups = {values: groups[values] for values in sorted(groups, key=lambda all_: [*map(in_order, all_)])}
    return groups, left_out


def without_repetitions(runs: Sequence[CompletedRun]) -> tuple[list[CompletedRun], list[LeftOut]]:
    """Keep the newest of runs with the same config and seed: a repetition is not a second measurement."""
    newest = {run.id or run.name: run for run in sorted(runs, key=_instant)}
    kept, repeated = [], []
    for run in runs:
        other = newest[run.id or run.name]
        if other is run:
            kept.append(run)
        else:
            repeated.append(run.left_out(f"{other.name} is a newer run with the same config and seed"))
    return kept, repeated


def _instant(run: CompletedRun) -> float:
    """When a run began, in any time zone; −∞ if unknown."""
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
    Returns: the groups; the settings in which they differ (`differing`), in the same order.
    """
    apart = differing([[run.run.config for run in runs if run.run.config is not None] for _, runs in members])
    if keys:
        names = [", ".join(f"{key}={value}" for key, value in zip(keys, had, strict=True)) for had, _ in members]
        order = list(range(len(members)))
    else:
        names = labels(apart, len(members))
        order = sorted(range(len(members)), key=lambda at: [[*map(in_order, values[at])] for values in apart.values()])
    groups = []
    for place, at in enumerate(order):
        first = members[at][1][0].run
        unlabelled = first.fact("experiment") or "runs"  # its config cannot be read
        unlabelled += f" ({first.fact('group')[:6]})" if len(members) > 1 else ""
        groups.append(Group(letters(place), names[at] or unlabelled, members[at][1]))
    return groups, {key: [values[at] for at in order] for key, values in apart.items()}


def letters(number: int) -> str:
    """A, B, …, Z, AA, AB, …"""
    rest, last = divmod(number, 26)
    return (letters(rest - 1) if rest else "") + chr(ord("A") + last)


def value_of(run: CompletedRun, key: str) -> str | None:
    """A run's value of a key; the name of the part, such as "adam", if the key holds a part."""
    config = run.config or {}
    target = config.get(f"{key}{_TARGET}")
    return name_of(target) if target else (key in _FACTS and run.fact(key)) or config.get(key)


def _known(runs: Sequence[CompletedRun]) -> list[str]:
    keys = dict.fromkeys(key for run in runs for key in run.config or {} if not key.endswith("_partial_"))
    facts = [fact for fact in _FACTS if any(run.fact(fact) for run in runs)]
    return list(dict.fromkeys([*facts, *(key.removesuffix(_TARGET) for key in keys)]))


# ── how groups differ ───────────────────────────────────────────────────────────────────────────────────────────────


def is_setting(key: str) -> bool:
    """Whether a key defines the experiment: seeds, devices, threads and outputs do not."""
    first, last = key.partition(".")[0], key.rpartition(".")[2]
    return first not in NOT_THE_EXPERIMENT and last not in ("seed", "_partial_")


def differing(groups: Sequence[Sequence[Config]]) -> dict[str, list[Values]]:
    """The settings that differ between groups, and their values in each; "optimizer._target_" becomes "optimizer".

    Args: groups: the configs of each group.
    """
    keys = dict.fromkeys(key for group in groups for config in group for key in config)
    found: dict[str, list[Values]] = {}
    for key in filter(is_setting, keys):
        sets = [{config[key] for config in group if key in config} for group in groups]
        values = [tuple(sorted(had, key=in_order) if len(had) > 1 else had) for had in sets]
        if len({values[at] for at, group in enumerate(groups) if group}) > 1:
            found[key] = values
    named = {}
    for key, values in found.items():
        part = key.removesuffix(_TARGET)
        short = [tuple(name_of(value) for value in some) for some in values]
        is_unique = len({name for some in short for name in some}) == len({value for some in values for value in some})
        if part != key and part not in found and is_unique:
            named[part] = short
        else:
            named[key] = values
    return named


def labels(differences: Mapping[str, Sequence[Values]], count: int) -> list[str]:
    """A short name for each group, such as "lr=0.01, hidden=[64]"; "" if nothing distinguishes it from another.

    The name lists every key that all groups have or, if there are many, a few that distinguish the groups. A key that
    some groups lack, such as the momentum of one optimizer, is listed only if needed: another key determines it.
    """
    everywhere = {key: values for key, values in differences.items() if all(values)}
    few = everywhere if len(everywhere) <= _MOST_NAMED else _distinguishing(everywhere, count)
    for chosen in (few, _distinguishing(everywhere, count), _distinguishing(differences, count)):
        for absent in (False, True):
            shown = _labels(chosen, count, absent=absent)
            if len(set(shown)) == count and all(shown):
                return shown
    return [label if shown.count(label) == 1 else "" for label in shown]


def show(values: Values) -> str:
    """The values of a key in a group as text, cut after the first few."""
    if not values:
        return MISSING
    more = f", … ({len(values)})" if len(values) > _MOST_VALUES else ""
    return ", ".join(values[:_MOST_VALUES]) + more


def _distinguishing(differences: Mapping[str, Sequence[Values]], count: int) -> dict[str, Sequence[Values]]:
    """A few keys that separate the groups as far as all keys do, chosen greedily."""
    chosen: set[str] = set()
    parted, parts = [0] * count, 1
    while parts < count:
        trials = {key: [*zip(parted, differences[key], strict=True)] for key in differences if key not in chosen}
        best = max(trials, key=lambda key: len(set(trials[key])), default=None)
        if best is None or len(set(trials[best])) == parts:
            break
        chosen.add(best)
        numbers = {part: at for at, part in enumerate(dict.fromkeys(trials[best]))}
        parted, parts = [numbers[part] for part in trials[best]], len(numbers)
    return {key: values for key, values in differences.items() if key in chosen}


def _labels(differences: Mapping[str, Sequence[Values]], count: int, *, absent: bool) -> list[str]:
    """The keys and values of each group. Args: absent: whether a key that the group lacks is named."""
    last = [key.rpartition(".")[2] for key in differences]
    names = [short if last.count(short) == 1 else key for key, short in zip(differences, last, strict=True)]
    columns = list(zip(names, differences.values(), strict=True))
    return [", ".join(f"{name}={show(had[at])}" for name, had in columns if had[at] or absent) for at in range(count)]
