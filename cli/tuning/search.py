"""A search: which keys may change within which bounds, and what is to become best. Read from YAML, and from changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracetorch.cli.adapter import conf_dir, parse, read_yaml
from tracetorch.cli.errors import UsageError, did_you_mean, shorten
from tracetorch.cli.tuning.space import FIELDS, Parameter, Space, parameter
from tracetorch.files import expanded

_DEFAULTS = {"metric": "accuracy", "direction": "maximize", "trials": 20, "pruner": "median", "space": {}}


@dataclass(frozen=True)
class Search:
    """What to search for, and where."""

    metric: str  # of the validation records
    direction: str  # "maximize" or "minimize"
    trials: int  # of the whole study
    pruner: str  # "median" or "none"
    space: Space

    def content(self) -> dict[str, Any]:
        """As it is written in YAML."""
        return {**vars(self), "space": {key: one.content() for key, one in self.space.items()}}

    def is_better(self, one: float, other: float) -> bool:
        """Whether one value of the metric is better than another."""
        return one > other if self.direction == "maximize" else one < other


def search_names() -> list[str]:
    """The searches that come with traceTorch."""
    return sorted(path.stem for path in (conf_dir() / "search").glob("*.yaml"))


def split_search(typed: list[str]) -> tuple[list[str], list[str]]:
    """What was typed, into what is about the search and what is about the runs."""
    about = [line for line in typed if line.lstrip("+~").partition("=")[0].partition(".")[0] == "search"]
    return about, [line for line in typed if line not in about]


def read_search(about: list[str]) -> Search:
    """The search that was typed, as search=NAME and changes such as search.trials=50.

    Raises: UsageError, one sentence.
    """
    named = [line.partition("=")[2] for line in about if line.startswith("search=")]
    if not named:
        raise UsageError(
            f"choose a search: tracetorch tune search={search_names()[0]}. There are: {', '.join(search_names())}."
        )
    if len(named) > 1:
        raise UsageError(f"search is given {len(named)} times ({', '.join(map(shorten, named))}): a study has one")
    content = read_yaml(_path(named[0]))
    if not isinstance(content.get("space", {}), dict):
        raise UsageError(f"search={shorten(named[0])}: space must name keys, got {shorten(content['space'])}")
    for line in about:
        if not line.startswith("search="):
            _change(content, line)
    return made(content)


def made(content: Any) -> Search:
    """A search from plain values. Raises: UsageError, one sentence, for the first invalid one."""
    if not isinstance(content, dict):
        raise UsageError(f"a search has {', '.join(_DEFAULTS)}; got {shorten(content)}")
    for name in content:
        if name not in _DEFAULTS:
            raise UsageError(_no_such(name))
    metric, direction, trials, pruner, space = ({**_DEFAULTS, **content}[name] for name in _DEFAULTS)
    if not isinstance(metric, str) or not metric:
        raise UsageError(f"search.metric must be a string, got {shorten(repr(metric))}")
    if direction not in ("maximize", "minimize"):
        raise UsageError(f"search.direction must be maximize or minimize, got {shorten(repr(direction))}")
    if isinstance(trials, bool) or not isinstance(trials, int) or trials < 1:
        raise UsageError(f"search.trials must be a whole number above 0, got {shorten(repr(trials))}")
    pruner = "none" if pruner is None else pruner
    if pruner not in ("median", "none"):
        raise UsageError(f"search.pruner must be median or none, got {shorten(repr(pruner))}")
    if not isinstance(space, dict) or not space:
        raise UsageError("search.space is empty: name a key and its range, such as optimizer.lr: {low: 1e-4, high: 1}")
    found: dict[str, Parameter] = {str(key): parameter(f"search.space.{key}", node) for key, node in space.items()}
    return Search(metric, direction, trials, pruner, found)


def _path(name: str) -> Path:
    if name.endswith((".yaml", ".yml")) or "/" in name:
        path = expanded(name)
        if not path.is_file():
            raise UsageError(f"search={shorten(name)}: there is no such file")
        return path
    if name not in search_names():
        there = f"There are: {', '.join(search_names())}; or give a file, such as search=mine.yaml."
        raise UsageError(
            f"search={shorten(name)}: there is no such search.{did_you_mean(name, search_names())} {there}"
        )
    return conf_dir() / "search" / f"{name}.yaml"


def _change(content: dict[str, Any], line: str) -> None:
    """Carry out one change to a search."""
    override = parse(line, search=True)
    _, _, name = override.key_or_group.partition(".")
    if not name.startswith("space."):
        if name not in _DEFAULTS or override.is_delete():
            raise UsageError(f"'{shorten(line)}': {_no_such(name)}")
        content[name] = override.value()
        return
    space, key = content.setdefault("space", {}), name.removeprefix("space.")
    stem, _, field = key.rpartition(".")
    if override.is_delete():
        _entry(space, key, line)
        del space[key]
    elif field in FIELDS and stem and key not in space:
        entry = _entry(space, stem, line)
        space[stem] = {**(entry if isinstance(entry, dict) else {}), field: override.value()}
    elif isinstance(override.value(), dict):
        space[key] = override.value()
    else:
        advice = f"write {key}.low=…, .high, .log, .step or .choices, or the whole as {{low: …, high: …}}"
        raise UsageError(f"'{shorten(line)}': {advice}")


def _entry(space: Mapping[str, Any], key: str, line: str) -> Any:
    if key not in space:
        there = f"The search has {', '.join(space) or 'none'}; {key}={{low: …, high: …}} adds one."
        raise UsageError(f"'{shorten(line)}': it has no {shorten(key)}.{did_you_mean(key, space)} {there}")
    return space[key]


def _no_such(name: str) -> str:
    hint = did_you_mean(str(name), _DEFAULTS, "search.")
    return f"a search has no '{shorten(name)}'.{hint} There are: {', '.join(_DEFAULTS)}."
