"""Finding runs and reading them, whatever lies in their folders."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tracetorch.compare.text import plain, setting
from tracetorch.runs.state import State, state_of

_NOT_RUNS = {"eval", "checkpoints", "plots"}  # inside the folder of a run
_LARGEST_CONFIG = 1_000_000
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where PyYAML was built with it


class Run(NamedTuple):
    """A run that came to its end."""

    folder: Path
    name: str  # the folder, as a line that can be shown
    facts: dict[str, Any]  # what run.json says
    config: dict[str, str] | None  # dotted keys; None if it cannot be read
    remark: str  # what is wrong with it, though it can be compared

    @property
    def summary(self) -> dict[str, Any]:
        """What came of it."""
        summary = self.facts.get("summary")
        return summary if isinstance(summary, dict) else {}

    def fact(self, name: str) -> str:
        """One of the facts, as a line that can be shown; "" if there is none."""
        value = self.facts.get(name)
        return "" if value is None else setting(value)


class LeftOut(NamedTuple):
    """A run that cannot be compared."""

    name: str
    status: str
    seed: str
    why: str


def find(folders: Iterable[Path]) -> tuple[list[Path], list[LeftOut]]:
    """All folders of runs in and below these, each once, in order; links to other folders are not followed.

    Returns: the folders; what looks like one and cannot be read.
    """
    found: dict[Path, Path] = {}
    unreadable: list[LeftOut] = []

    def complain(error: OSError) -> None:
        unreadable.append(LeftOut(plain(error.filename), "unreadable", "", plain(error.strerror)))

    for given in folders:
        for here, below, files in os.walk(given, onerror=complain):
            below.sort()
            if "run.json" not in files:
                continue
            below[:] = [name for name in below if name not in _NOT_RUNS]
            folder = Path(here)
            if (folder / "run.json").is_file():
                found.setdefault(folder.resolve(), folder)
            else:
                unreadable.append(LeftOut(plain(folder), "broken", "", "run.json is no plain file"))
    return list(found.values()), unreadable


def read(folder: Path) -> Run | LeftOut:
    """A run as it lies there. Never raises for what may lie there."""
    name = plain(folder)
    try:
        state = state_of(folder)
    except (AttributeError, TypeError, RecursionError):  # JSON, but nothing that a run has written
        state = State("broken", {}, "run.json holds no facts")
    if state.status != "completed":
        return LeftOut(name, state.status, plain(state.facts.get("seed", "")), _why(state, folder))
    try:
        return Run(folder, name, state.facts, flatten(read_config(folder / "config.yaml")), "")
    except Exception as error:  # a stranger's YAML makes the parser raise many things
        reason = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({plain(error, 120)})"
        return Run(folder, name, state.facts, None, f"config.yaml {reason}")


def read_config(path: Path) -> dict[str, Any]:
    """The keys of a YAML file as nested dicts and lists of words; what kind of value a word is, nobody asks.

    Raises: OSError, ValueError or YAMLError if it is no config.
    """
    if path.exists() and not path.is_file():
        raise ValueError("it is no plain file")
    if path.stat().st_size > _LARGEST_CONFIG:
        raise ValueError("it is too large to be a config")
    events = iter(yaml.parse(path.read_text(encoding="utf-8"), _LOADER))
    first = next(event for event in events if not isinstance(event, yaml.StreamStartEvent | yaml.DocumentStartEvent))
    config = _build(first, events) if isinstance(first, yaml.MappingStartEvent) else None
    if not config:
        raise ValueError("it holds no keys")
    return config


def _build(event: Any, events: Iterator[Any]) -> Any:
    """What begins with this event. To build it here takes a third of the time that PyYAML's own values take."""
    if isinstance(event, yaml.AliasEvent) or event.tag:  # a few aliases unfold to gigabytes, and tags call functions
        raise ValueError("it has aliases or tags, which no run writes")
    if isinstance(event, yaml.ScalarEvent):
        return _word(event.value)
    if isinstance(event, yaml.SequenceStartEvent):
        inside = takewhile(lambda inner: not isinstance(inner, yaml.SequenceEndEvent), events)
        return [_build(inner, events) for inner in inside]
    found = {}
    for key in events:
        if isinstance(key, yaml.MappingEndEvent):
            break
        if not isinstance(key, yaml.ScalarEvent):
            raise ValueError("it has a key that is no word")
        found[key.value] = _build(next(events), events)
    return found


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Dotted keys and their values, as they would be typed, in the order of the config."""
    flat: dict[str, str] = {}
    for key, value in config.items():
        name = plain(f"{prefix}{key}")
        if isinstance(value, dict) and value:
            flat |= flatten(value, f"{name}.")
        else:
            flat[name] = setting(value)
    return flat


def _word(text: str) -> str:
    """A value as it would be typed: 0.30000000000000004 is what 3 * 0.1 is."""
    if text in ("", "~"):
        return "null"
    if len(text) > 12 and text[0] in "-0123456789.":
        with suppress(ValueError):
            return f"{float(text):.10g}"
    return text


def _why(state: State, folder: Path) -> str:
    error = plain(str(state.error).replace(f"{folder}{os.sep}", ""), 160)
    summary = state.facts.get("summary")
    updates = summary.get("updates") if isinstance(summary, dict) else None
    return {
        "running": "it is still running",
        "interrupted": f"it was interrupted after {plain(updates or 0)} updates",
        "failed": f"it failed: {error or 'it does not say why'}",
    }.get(state.status, error or "it is no run")
