"""How a run stands, read from its folder alone."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, NamedTuple

from tracetorch.files import open_regular, parse_json
from tracetorch.runs.folder import RunFolder
from tracetorch.runs.lock import is_locked
from tracetorch.runs.records import LOST

_TAIL_BYTES = 32768
_NO_METRICS = ("update", "split", "loss")
_KINDS: dict[str, Any] = {
    **dict.fromkeys(("summary", "timings", "versions", "settings"), dict),
    **{"planned_updates": int, "resumed": list, "error": str, "run_id": str},
}
"""A value of another type was not written by a run, and is left out."""


class RunState(NamedTuple):
    """How a run stands."""

    status: str
    """What run.json says; "killed" if it says running and no process holds the lock; "broken" if no run writes what
    it holds; "unreadable" if the system cannot read it at the moment, so that the run may stand in any way;
    "absent"."""

    facts: dict[str, Any]  # what run.json says
    error: str  # why it failed, or why its folder cannot be read

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen by itself, as far as can be known."""
        return self.status not in ("running", "absent", "unreadable")


def state_of(folder: Path) -> RunState:
    """How the run in a folder stands. Never raises for what may lie there."""
    try:
        facts = RunFolder(folder).facts()
    except OSError as error:
        return RunState("unreadable", {}, f"{folder / 'run.json'} cannot be read: {error.strerror or error}")
    except ValueError as error:
        return RunState("broken", {}, str(error))
    if not facts:
        return RunState("running" if is_locked(folder) else "killed" if folder.is_dir() else "absent", {}, "")
    status = facts.get("status")
    facts = {name: value for name, value in facts.items() if isinstance(value, _KINDS.get(name, object))}
    if status not in ("running", "completed", "failed", "interrupted"):
        return RunState("broken", {}, f"{folder / 'run.json'} has no valid status")
    if status == "running" and not is_locked(folder):
        return RunState("killed", facts, "its process ended without recording why; it may have been killed")
    return RunState(status, facts, facts.get("error") or "")


def last_record(folder: Path) -> dict[str, Any]:
    """The last whole line of metrics.jsonl; empty if there is none. Never raises for what may lie there."""
    try:
        with open_regular(folder / "metrics.jsonl") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            lines = file.read(_TAIL_BYTES).splitlines()
    except (OSError, ValueError):
        return {}
    for line in reversed(lines):
        try:
            record = parse_json(line)
        except ValueError:
            continue
        if isinstance(record, dict) and _number(record.get("update", 0)) is not None:
            return record
    return {}


def metric_of(record: dict[str, Any]) -> tuple[str, float] | None:
    """The first metric of a record, such as ("accuracy", .98); the loss if it has no other. A diagnostic's has none."""
    if record.get("split") in ("gradient", "switch", LOST):
        return None
    for name, value in record.items():
        number = _number(value)
        if number is not None and name not in _NO_METRICS and not name.endswith(("_seconds", "_per_second")):
            return name, number
    loss = _number(record.get("loss"))
    return None if loss is None else ("loss", loss)


def _number(value: Any) -> float | None:
    """A finite number; None of anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None
