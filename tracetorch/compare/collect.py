"""Find and read runs; broken folders are reported, and raise nothing.

Configs are compared by their values, not by the hash in run.json, so folders of all versions of traceTorch agree, and
1 and 1.0 are one value. The hash in run.json is used only for runs with an unreadable config.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tracetorch.compare.text import plain, setting
from tracetorch.files import DEEPEST, MOST_CONFIG_BYTES, read_text, real
from tracetorch.renamed import current
from tracetorch.runs.folder import RunState, state_of
from tracetorch.runs.identity import experiment_of
from tracetorch.runs.lock import REMOVING

_NOT_RUNS = {"eval", "checkpoints", "plots"}  # inside the folder of a run
_NUMBER = re.compile(r"[-+]?(?:\d+(?P<fraction>\.\d*)?|(?P<point>\.\d+))(?P<power>e[-+]?\d+)?", re.IGNORECASE)
_LONGEST_NUMBER = 40  # characters
_WORDS = ("null", "true", "false", "~", "")  # in quotes in a config only if they are text
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where PyYAML was built with it


class LeftOut(NamedTuple):
    """A run that cannot be compared."""

    name: str
    status: str
    seed: str
    why: str


class CompletedRun(NamedTuple):
    """A completed run."""

    folder: Path
    name: str  # the folder, as a printable line
    facts: dict[str, Any]  # run.json
    config: dict[str, str] | None  # dotted keys; None if it cannot be read
    remark: str  # a defect of a run that can be compared
    group: str  # equal for runs that differ only in the seed; "" if unknown
    id: str  # equal for repetitions of a run; "" if unknown

    @property
    def summary(self) -> dict[str, Any]:
        """The results in run.json."""
        summary = self.facts.get("summary")
        return summary if isinstance(summary, dict) else {}

    def fact(self, name: str) -> str:
        """A value in run.json, as a printable line; "" if it is missing."""
        value = self.facts.get(name)
        return "" if value is None else setting(value)

    def left_out(self, why: str) -> LeftOut:
        return LeftOut(self.name, "completed", self.fact("seed"), why)


def find_runs(folders: Iterable[str | Path]) -> tuple[list[Path], list[LeftOut]]:
    """Find all folders of runs in and below these, each once, in order; links to folders are not followed.

    Returns: the folders of runs; the folders that cannot be read.
    """
    found: dict[Path, Path] = {}
    unreadable: list[LeftOut] = []

    def complain(error: OSError) -> None:
        unreadable.append(LeftOut(plain(error.filename), "unreadable", "", plain(error.strerror)))

    for given in folders:
        for here, below, files in os.walk(given, onerror=complain):
            below[:] = sorted(name for name in below if not name.startswith(REMOVING))
            if "run.json" not in files:
                continue
            below[:] = [name for name in below if name not in _NOT_RUNS]
            folder = Path(here)
            try:
                if stat.S_ISREG((folder / "run.json").stat().st_mode):
                    found.setdefault(real(folder), folder)
                    continue
                status, why = "broken", "run.json is not a regular file"
            except OSError as error:
                status, why = "unreadable", f"run.json cannot be read: {plain(error.strerror)}"
            unreadable.append(LeftOut(plain(folder), status, "", why))
    return list(found.values()), unreadable


def read_run(folder: Path) -> CompletedRun | LeftOut:
    """Read the run in a folder. Never raises for the content of the folder."""
    name = plain(folder)
    try:
        state = state_of(folder)
    except (AttributeError, TypeError, RecursionError):  # JSON that no run writes
        state = RunState("broken", {}, "run.json is not what a run writes")
    if state.status != "completed":
        return LeftOut(name, state.status, plain(state.facts.get("seed", "")), _why(state, folder))
    try:
        config, data = current(read_config(folder / "config.yaml")), _data(state.facts)
        flat = flatten(config)
        group, own = (json.dumps(experiment_of(config, data, seeds=seeds), sort_keys=True) for seeds in (False, True))
        return CompletedRun(folder, name, state.facts, flat, "", group, f"{own}{flat.get('seed')}")
    except Exception as error:  # foreign YAML makes the parser raise errors of many kinds
        words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        words = plain(words.partition("config.yaml ")[2] or words, 120)
        reason = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({words})"
        run = CompletedRun(folder, name, state.facts, None, f"config.yaml {reason}", "", "")
        return run._replace(group=run.fact("group"), id=run.fact("id"))


def _data(facts: Mapping[str, Any]) -> dict[str, str]:
    """Hashes of the data that a run read, by the config keys that name the data."""
    data = facts.get("data")
    return {str(key): plain(made) for key, made in data.items()} if isinstance(data, dict) else {}


def settle(runs: Sequence[CompletedRun]) -> list[CompletedRun]:
    """Return the runs with final groups, ids and names of data.

    Runs without a config join the group and the id of the runs whose run.json names the same ones. Data are named by
    the first path from which a run read them, with a part of their hash if that path held other data too.
    """
    groups, ids = ({run.fact(name): getattr(run, name) for run in runs if run.config is not None}
                   for name in ("group", "id"))  # fmt: skip
    names: dict[str, str] = {}
    content: defaultdict[str, set[str]] = defaultdict(set)
    for run, key, made in _sources(runs):
        path = (run.config or {})[key]
        content[path].add(made)
        if made:
            names.setdefault(made, path)
    for run, key, made in _sources(runs):
        if made and run.config is not None:
            path = names[made]
            run.config[key] = f"{path} ({made[:6]})" if len(content[path]) > 1 else path
    return [
        run._replace(group=groups.get(run.group, run.group), id=ids.get(run.id, run.id)) if run.config is None else run
        for run in runs
    ]


def _sources(runs: Sequence[CompletedRun]) -> list[tuple[CompletedRun, str, str]]:
    """Runs, their config keys that name data in any run, and the hashes of these data; "" if unknown."""
    known = [(run, _data(run.facts)) for run in runs if run.config is not None]
    keys = dict.fromkeys(key for _, data in known for key in data)
    return [(run, key, data.get(key, "")) for run, data in known for key in keys if key in (run.config or {})]


def read_config(path: Path) -> dict[str, Any]:
    """Read a YAML file as nested dicts and lists of strings.

    Raises: OSError, ValueError or YAMLError if it is not a config.
    """
    events = iter(yaml.parse(read_text(path, MOST_CONFIG_BYTES), _LOADER))
    first = next(event for event in events if not isinstance(event, yaml.StreamStartEvent | yaml.DocumentStartEvent))
    config = _build(first, events) if isinstance(first, yaml.MappingStartEvent) else None
    if not config:
        raise ValueError("it holds no keys")
    return config


def _build(event: Any, events: Iterator[Any], depth: int = 0) -> Any:
    """Build the node that an event begins. `yaml.load` takes twice as long, and the C loader crashes on deep lists."""
    if depth > DEEPEST:
        raise ValueError(f"it is nested more than {DEEPEST} deep")
    if isinstance(event, yaml.AliasEvent) or event.tag:  # a few aliases unfold to gigabytes; tags call functions
        raise ValueError("it has aliases or tags, which no run writes")
    if isinstance(event, yaml.ScalarEvent):
        return _word(event.value, quoted=event.style in ("'", '"'))
    if isinstance(event, yaml.SequenceStartEvent):
        inside = takewhile(lambda inner: not isinstance(inner, yaml.SequenceEndEvent), events)
        return [_build(inner, events, depth + 1) for inner in inside]
    found = {}
    for key in events:
        if isinstance(key, yaml.MappingEndEvent):
            break
        if not isinstance(key, yaml.ScalarEvent):
            raise ValueError("it has a key that is not a string")
        found[key.value] = _build(next(events), events, depth + 1)
    return found


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Dotted keys and values, as a user types them, in the order of the config."""
    flat: dict[str, str] = {}
    for key, value in config.items():
        name = plain(f"{prefix}{key}")
        if isinstance(value, dict) and value:
            flat |= flatten(value, f"{name}.")
        else:
            flat[name] = setting(_rounded(value))
    return flat


def _word(text: str, *, quoted: bool) -> str:
    """Normalise the spelling of a value: 1, 1.0 and 1e0 become one string."""
    found = _NUMBER.fullmatch(text) if len(text) <= _LONGEST_NUMBER else None
    if quoted:
        return f"'{text}'" if found or text in _WORDS else text
    if text in ("", "~"):
        return "null"
    if not found:
        return text
    value = float(text)
    if not any(found.groups()):
        return str(int(text))
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)


def _rounded(value: Any) -> Any:
    """Round a value for display: 0.30000000000000004, which is 3 * 0.1, becomes 0.3."""
    if isinstance(value, list):
        return [_rounded(inner) for inner in value]
    if isinstance(value, str) and 12 < len(value) <= _LONGEST_NUMBER and "." in value and _NUMBER.fullmatch(value):
        return f"{float(value):.10g}"
    return value


def _why(state: RunState, folder: Path) -> str:
    error = plain(str(state.error).replace(f"{folder}{os.sep}", ""), 160)
    summary = state.facts.get("summary")
    updates = summary.get("updates") if isinstance(summary, dict) else None
    return {
        "running": "it is still running",
        "interrupted": f"it was interrupted after {plain(updates or 0)} updates",
        "failed": f"it failed: {error or 'it does not say why'}",
    }.get(state.status, error or "it is not a run")
