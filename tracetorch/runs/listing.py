"""All runs below some folders, from run.json, the last record and tags.txt of each: thousands take a second."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from tracetorch.runs.folder import last_record, metric_of, state_of
from tracetorch.runs.lock import REMOVING
from tracetorch.runs.records import RESERVED
from tracetorch.runs.tags import FILE, read_tags

NOT_RUNS = {"eval", "checkpoints", "plots"}  # inside the folder of a run
_NOT_RESULTS = RESERVED - {"loss"} | {
    "updates",
    "update_seconds",
    "tested",
    "tested_update",
    "checkpoint",
    "ideal_accuracy",
}


class ListedRun(NamedTuple):
    """A run, as `tracetorch runs` shows it."""

    folder: Path
    when: datetime | None  # its start
    experiment: str
    status: str
    metric: tuple[str, float] | None  # name and value of the first metric of its test, or of its last record
    summary: dict[str, Any]
    tags: list[str]
    facts: dict[str, Any]  # the content of run.json


def list_runs(roots: Iterable[Path]) -> list[ListedRun]:
    """The runs in and below some folders, each once. Links to folders are not followed; evaluations are left out.

    Raises: OSError if one of `roots` cannot be read; folders below that cannot be read are left out.
    """
    was_enabled = gc.isenabled()
    gc.disable()  # it would scan the growing list repeatedly, which doubles the time
    try:
        found = {path: names for root in roots for path, names in _folders(str(root))}
        return [_listed(Path(path), has_tags=FILE in names) for path, names in found.items()]
    finally:
        if was_enabled:
            gc.enable()


def _folders(root: str) -> Iterator[tuple[str, set[str]]]:
    """The folders of runs, and the names of the files and folders in each. Raises: OSError for the root."""
    todo = [root]
    while todo:
        path = todo.pop()
        try:
            with os.scandir(path) as entries:
                inside = {entry.name: entry for entry in entries}
        except OSError:
            if path == root:
                raise
            continue
        is_run = "run.json" in inside
        if is_run:
            yield path, set(inside)
        for name, entry in inside.items():
            if name.startswith((REMOVING, ".")) or (is_run and name in NOT_RUNS):
                continue
            if entry.is_dir(follow_symlinks=False):
                todo.append(entry.path)


def _listed(folder: Path, *, has_tags: bool) -> ListedRun:
    state = state_of(folder)
    facts = state.facts
    summary = facts.get("summary") or {}
    metric = None
    if state.status == "completed" and "switches" not in summary:  # a lifetime's summary begins with its changes
        metric = metric_of({name: value for name, value in summary.items() if _is_result(name)})
    metric = metric or metric_of(last_record(folder))
    try:
        when = datetime.fromisoformat(str(facts.get("started"))).astimezone()
    except (ValueError, OverflowError, OSError):
        when = None
    tags = read_tags(folder) if has_tags else []
    return ListedRun(folder, when, str(facts.get("experiment") or ""), state.status, metric, summary, tags, facts)


def _is_result(name: str) -> bool:
    return name not in _NOT_RESULTS and not name.endswith("_bytes")
