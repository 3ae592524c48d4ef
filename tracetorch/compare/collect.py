"""Find and read runs; broken folders are reported and raise no error.

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
from tracetorch.runs.listing import NOT_RUNS
from tracetorch.runs.lock import REMOVING

_NUMBER = re.compile(r"[-+]?(?:\d+(?P<fraction>\.\d*)?|(?P<point>\.\d+))(?P<power>e[-+]?\d+)?", re.IGNORECASE)
_MAX_NUMBER_LENGTH = 40  # characters
_SPECIAL_WORDS = ("null", "true", "false", "~", "")  # written in quotes in a config only if they are strings
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, if PyYAML was built with it


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
    remark: str  # the defect of a run that can be compared in spite of it; "" if none
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
    """Find the folders of runs in and below `folders`, each once, in order. Links to folders are not followed.

    Returns: the folders of runs; the folders and files that cannot be read or are not regular.
    """
    found: dict[Path, Path] = {}
    unreadable: list[LeftOut] = []

    def report(error: OSError) -> None:
        unreadable.append(LeftOut(plain(error.filename), "unreadable", "", plain(error.strerror)))

    for root in folders:
        for path, subfolders, files in os.walk(root, onerror=report):
            subfolders[:] = sorted(name for name in subfolders if not name.startswith(REMOVING))
            if "run.json" not in files:
                continue
            subfolders[:] = [name for name in subfolders if name not in NOT_RUNS]
            folder = Path(path)
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
    """Read the run in a folder. Raises nothing, whatever the folder contains."""
    name = plain(folder)
    try:
        state = state_of(folder)
    except (AttributeError, TypeError, RecursionError):  # JSON that no run writes
        state = RunState("broken", {}, "run.json does not have the structure that a run writes")
    if state.status != "completed":
        return LeftOut(name, state.status, plain(state.facts.get("seed", "")), _why(state, folder))
    try:
        config, data = current(read_config(folder / "config.yaml")), _data(state.facts)
        flat = flatten(config)
        content = (experiment_of(config, data, seeds=seeds) for seeds in (False, True))
        group, identity = (json.dumps(one, sort_keys=True) for one in content)
        return CompletedRun(folder, name, state.facts, flat, "", group, f"{identity}{flat.get('seed')}")
    except Exception as error:  # the parser raises errors of many kinds for foreign YAML
        message = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        message = plain(message.partition("config.yaml ")[2] or message, 120)
        reason = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({message})"
        run = CompletedRun(folder, name, state.facts, None, f"config.yaml {reason}", "", "")
        return run._replace(group=run.fact("group"), id=run.fact("id"))


def _data(facts: Mapping[str, Any]) -> dict[str, str]:
    """The hashes of the data that a run read, by the config key that names the data."""
    data = facts.get("data")
    return {str(key): plain(digest) for key, digest in data.items()} if isinstance(data, dict) else {}


def unify_identities(runs: Sequence[CompletedRun]) -> list[CompletedRun]:
    """Return the runs with final groups and IDs; rename their data in `config`, in place.

    A run without a config gets the group and the ID of runs with a config and with the same hashes in run.json. Data
    are named by the first path from which a run read them, with a part of their hash if that path held other data too.
    """
    groups, ids = ({run.fact(name): getattr(run, name) for run in runs if run.config is not None}
                   for name in ("group", "id"))  # fmt: skip
    names: dict[str, str] = {}
    content: defaultdict[str, set[str]] = defaultdict(set)
    for run, key, digest in _sources(runs):
        path = (run.config or {})[key]
        content[path].add(digest)
        if digest:
            names.setdefault(digest, path)
    for run, key, digest in _sources(runs):
        if digest and run.config is not None:
            path = names[digest]
            run.config[key] = f"{path} ({digest[:6]})" if len(content[path]) > 1 else path
    return [
        run._replace(group=groups.get(run.group, run.group), id=ids.get(run.id, run.id)) if run.config is None else run
        for run in runs
    ]


def _sources(runs: Sequence[CompletedRun]) -> list[tuple[CompletedRun, str, str]]:
    """One entry for each run and each config key that names data in some run: run, key, hash ("" if unknown)."""
    known = [(run, _data(run.facts)) for run in runs if run.config is not None]
    keys = dict.fromkeys(key for _, data in known for key in data)
    return [(run, key, data.get(key, "")) for run, data in known for key in keys if key in (run.config or {})]


def read_config(path: Path) -> dict[str, Any]:
    """Read a YAML file as nested dicts and lists of strings.

    Raises: OSError, ValueError or YAMLError if the file is not a config.
    """
    events = iter(yaml.parse(read_text(path, MOST_CONFIG_BYTES), _LOADER))
    first = next(event for event in events if not isinstance(event, yaml.StreamStartEvent | yaml.DocumentStartEvent))
    config = _build(first, events) if isinstance(first, yaml.MappingStartEvent) else None
    if not config:
        raise ValueError("it holds no keys")
    return config


def _build(event: Any, events: Iterator[Any], depth: int = 0) -> Any:
    """Build the node that starts with an event. `yaml.load` takes twice as long; the C loader crashes on deep lists."""
    if depth > DEEPEST:
        raise ValueError(f"it is nested more than {DEEPEST} deep")
    if isinstance(event, yaml.AliasEvent) or event.tag:  # a few aliases can expand to gigabytes; tags call functions
        raise ValueError("it has aliases or tags, which no run writes")
    if isinstance(event, yaml.ScalarEvent):
        return _normalized(event.value, quoted=event.style in ("'", '"'))
    if isinstance(event, yaml.SequenceStartEvent):
        items = takewhile(lambda item: not isinstance(item, yaml.SequenceEndEvent), events)
        return [_build(item, events, depth + 1) for item in items]
    mapping = {}
    for key in events:
        if isinstance(key, yaml.MappingEndEvent):
            break
        if not isinstance(key, yaml.ScalarEvent):
            raise ValueError("it has a key that is not a string")
        mapping[key.value] = _build(next(events), events, depth + 1)
    return mapping


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Dotted keys and their values, as a user types them, in the order of the config."""
    flat: dict[str, str] = {}
    for key, value in config.items():
        name = plain(f"{prefix}{key}")
        if isinstance(value, dict) and value:
            flat |= flatten(value, f"{name}.")
        else:
            flat[name] = setting(_rounded(value))
    return flat


def _normalized(text: str, *, quoted: bool) -> str:
    """Normalise the spelling of a value: 1, 1.0 and 1e0 become one string."""
    match = _NUMBER.fullmatch(text) if len(text) <= _MAX_NUMBER_LENGTH else None
    if quoted:
        return f"'{text}'" if match or text in _SPECIAL_WORDS else text
    if text in ("", "~"):
        return "null"
    if not match:
        return text
    value = float(text)
    if not any(match.groups()):
        return str(int(text))
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)


def _rounded(value: Any) -> Any:
    """Round a long number to ten digits: 0.30000000000000004, which is 3 * 0.1, becomes 0.3."""
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    if isinstance(value, str) and 12 < len(value) <= _MAX_NUMBER_LENGTH and "." in value and _NUMBER.fullmatch(value):
        return f"{float(value):.10g}"
    return value


def _why(state: RunState, folder: Path) -> str:
    error = plain(str(state.error).replace(f"{folder}{os.sep}", ""), 160)
    summary = state.facts.get("summary")
    updates = summary.get("updates") if isinstance(summary, dict) else None
    return {
        "running": "it is still running",
        "interrupted": f"it was interrupted after {plain(updates or 0)} updates",
        "failed": f"it failed: {error or 'run.json has no error message'}",
    }.get(state.status, error or "it is not a run")
