"""What sets groups apart: the keys whose values differ between their configs, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tracetorch.compare.text import MISSING, in_order
from tracetorch.runs.identity import NOT_THE_EXPERIMENT, name_of

_TARGET = "._target_"
_MOST_VALUES = 4  # to show of a key that varies within a group
_MOST_NAMED = 4  # keys in a label

Config = Mapping[str, str]
"""Dotted keys and their values."""

Values = tuple[str, ...]
"""What a key has in a group: nothing, one value, or several in order."""


def differing(groups: Sequence[Sequence[Config]]) -> dict[str, list[Values]]:
    """The keys that have other values in one group than in another, and what they have in each.

    Seeds, devices, threads and outputs are no part of the experiment and never count.

    Args: groups: the configs of each.
    """
    keys = dict.fromkeys(key for group in groups for config in group for key in config)
    found = {}
    for key in keys:
        if not counts(key):
            continue
        values = [_values(key, group) for group in groups]
        if len({values[at] for at, group in enumerate(groups) if group}) > 1:
            found[key] = values
    return _named(found)


def labels(differences: Mapping[str, Sequence[Values]], count: int) -> list[str]:
    """A short name for each group, such as "lr=0.01, hidden=[64]"; "" where nothing tells it from another.

    It has every key that differs, unless these are many: then as few as tell the groups apart. So too for a key that
    some groups do not have, such as the momentum of an optimizer beside one without: it follows from what else differs.
    """
    everywhere = {key: values for key, values in differences.items() if all(values)}
    few = everywhere if len(everywhere) <= _MOST_NAMED else _telling(everywhere, count)
    for chosen in (few, _telling(everywhere, count), _telling(differences, count)):
        for absent in (False, True):
            shown = _labels(chosen, count, absent=absent)
            if len(set(shown)) == count and all(shown):
                return shown
    return [label if shown.count(label) == 1 else "" for label in shown]


def show(values: Values) -> str:
    """The values of a key in a group, short."""
    if not values:
        return MISSING
    more = f", … ({len(values)})" if len(values) > _MOST_VALUES else ""
    return ", ".join(values[:_MOST_VALUES]) + more


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """The last part of each key, or all of it where two would be alike."""
    last = [key.rpartition(".")[2] for key in keys]
    return {key: short if last.count(short) == 1 else key for key, short in zip(keys, last, strict=True)}


def counts(key: str) -> bool:
    """Whether a key is a part of the experiment: seeds, devices, threads and outputs are not."""
    first, last = key.partition(".")[0], key.rpartition(".")[2]
    return first not in NOT_THE_EXPERIMENT and last not in ("seed", "_partial_")


def _values(key: str, group: Sequence[Config]) -> Values:
    found = {config[key] for config in group if key in config}
    return tuple(sorted(found, key=in_order) if len(found) > 1 else found)


def _named(found: dict[str, list[Values]]) -> dict[str, list[Values]]:
    """The same, but what was chosen for a part goes by its name: "optimizer" has "adam", not its `_target_` a class."""
    named = {}
    for key, values in found.items():
        part = key.removesuffix(_TARGET)
        short = [tuple(name_of(value) for value in some) for some in values]
        tells = len({name for some in short for name in some}) == len({value for some in values for value in some})
        if part != key and part not in found and tells:
            named[part] = short
        else:
            named[key] = values
    return named


def _telling(differences: Mapping[str, Sequence[Values]], count: int) -> dict[str, Sequence[Values]]:
    """A few keys that part the groups as far as all do: first the one that parts most of them, and so on."""
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
    """The keys and values of each group. Args: absent: say so where a group does not have one."""
    names = short_names(list(differences))
    return [
        ", ".join(f"{names[key]}={show(had[at])}" for key, had in differences.items() if had[at] or absent)
        for at in range(count)
    ]
