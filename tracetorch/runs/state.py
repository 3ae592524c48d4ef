"""How a run stands, read from its folder alone, whoever is at work there or was."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from tracetorch.runs.folder import RunFolder
from tracetorch.runs.lock import is_locked

_TAIL_BYTES = 8192
_NO_METRICS = ("update", "split", "loss")
_KINDS: dict[str, Any] = {
    **dict.fromkeys(("summary", "timings", "versions", "settings"), dict),
    **{"planned_updates": int, "resumed": list, "error": str},
}
"""What else would stand there was written by somebody else, and is not believed."""


class State(NamedTuple):
    """How a run stands."""

    status: str  # what run.json says; "killed" if it says running and nobody is; "broken"; "absent"
    facts: dict[str, Any]  # what run.json says
    error: str  # why it failed, or why its folder cannot be read

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen by itself."""
        return self.status not in ("running", "absent")


def state_of(folder: Path) -> State:
    """How the run in a folder stands. Never raises for what may lie there."""
    try:
        facts = RunFolder(folder).facts()
    except (OSError, ValueError) as error:
        return State("broken", {}, str(error))
    if not facts:
        return State("running" if is_locked(folder) else "killed" if folder.is_dir() else "absent", {}, "")
    status = facts.get("status")
    facts = {name: value for name, value in facts.items() if isinstance(value, _KINDS.get(name, object))}
    if status not in ("running", "completed", "failed", "interrupted"):
        return State("broken", {}, f"{folder / 'run.json'} says nothing of a status that there is")
    if status == "running" and not is_locked(folder):
        return State("killed", facts, "its process ended without a word; it may have been killed")
    return State(status, facts, facts.get("error") or "")


def last_record(folder: Path) -> dict[str, Any]:
    """The last whole line of metrics.jsonl; empty if there is none."""
    path = folder / "metrics.jsonl"
    try:
        if not path.is_file():
            return {}
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            lines = file.read().splitlines()
    except OSError:
        return {}
    for line in reversed(lines):
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and isinstance(record.get("update", 0), int | float):
            return record
    return {}


def metric_of(record: dict[str, Any]) -> tuple[str, float] | None:
    """The first metric of a record, such as ("accuracy", .98); the loss if it has no other. A diagnostic's has none."""
    if record.get("split") in ("gradient", "switch"):
        return None
    for name, value in record.items():
        if (
            name not in _NO_METRICS
            and not name.endswith(("_seconds", "_per_second"))
            and isinstance(value, float | int)
        ):
            return name, float(value)
    loss = record.get("loss")
    return ("loss", float(loss)) if isinstance(loss, float | int) else None
