"""Which runs may go, and removing them; nothing outside of the folder that was named, and nothing that is in use."""

from __future__ import annotations

import math
import os
import shutil
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tracetorch.runs.lock import BusyError, Lock, is_locked
from tracetorch.runs.state import State, last_record, metric_of, state_of

_FAILED, _UNFINISHED = ("failed", "broken"), ("interrupted", "killed")


class Rubbish(NamedTuple):
    """A run that may go."""

    path: Path
    status: str
    age_seconds: float
    mebibytes: float

    @property
    def age(self) -> str:
        """In words."""
        days, hours = self.age_seconds / 86400, self.age_seconds / 3600
        return f"{days:.0f} days old" if days >= 2 else f"{hours:.0f} hours old" if hours >= 2 else "new"


def choose(
    root: Path, *, failed: bool, unfinished: bool, older_than_seconds: float | None, keep_best: int
) -> list[Rubbish]:
    """Runs below a folder that are asked for.

    Args:
        failed: those that failed, or whose run.json is broken.
        unfinished: those that were interrupted or killed. With neither, all that have ended.
        older_than_seconds: of these, only those to which nothing was written for so long.
        keep_best: how many completed runs of each experiment to spare, the best by their test.
    Returns: in the order of their paths. None that is at work or belongs to a sweep that is, and none that a symbolic
        link leads to, that holds other runs, or that has no config and so may be something else.
    """
    found = {path: state_of(path) for path in _runs(root)}
    spared = _best(found, keep_best)
    chosen = []
    for path, state in sorted(found.items()):
        age = time.time() - _last_written(path)
        wanted = _FAILED * failed + _UNFINISHED * unfinished
        asked = state.status in wanted if wanted else state.is_over
        old = older_than_seconds is None or age > older_than_seconds
        if asked and old and path not in spared and not is_locked(path.parent):
            chosen.append(Rubbish(path, state.status, age, _size(path) / 2**20))
    return chosen


def remove(path: Path, root: Path) -> bool:
    """Remove a run's folder, and those that are empty without it, up to `root`.

    Returns: False if it has come into use.
    Raises: OSError for what cannot be removed; ValueError if it does not lie below `root`.
    """
    if not path.resolve().is_relative_to(root.resolve()) or path.resolve() == root.resolve():
        raise ValueError(f"{path} does not lie below {root}")
    try:
        lock = Lock(path)
    except BusyError:
        return False
    try:
        shutil.rmtree(path)
    finally:
        lock.release()
    for parent in path.parents:
        if parent.resolve() == root.resolve():
            break
        with suppress(OSError):  # it is not empty: other runs live there
            parent.rmdir()
    return True


def _runs(root: Path) -> list[Path]:
    """Folders with a run.json and a config.yaml, in which no other run lies but evaluations."""
    found = []
    for folder, names, files in os.walk(root, followlinks=False):
        path = Path(folder)
        if path == root or not {"run.json", "config.yaml"} <= set(files):
            continue
        others = (other.relative_to(path).parts[0] for other in path.rglob("run.json"))
        if not set(others) - {"run.json", "eval"}:
            found.append(path)
            names.clear()
    return found


def _best(found: dict[Path, State], count: int) -> set[Path]:
    """The best completed runs of each experiment and metric; the loss is better low, all else high."""
    scores: dict[tuple[str, str], list[tuple[float, Path]]] = defaultdict(list)
    for path, state in found.items():
        metric = metric_of(last_record(path)) if state.status == "completed" and count else None
        if metric and math.isfinite(metric[1]):
            name, value = metric
            scores[str(state.facts.get("experiment")), name].append((-value if name == "loss" else value, path))
    return {path for rows in scores.values() for _, path in sorted(rows, reverse=True)[:count]}


def _last_written(path: Path) -> float:
    times = [path.stat().st_mtime]
    for name in ("run.json", "metrics.jsonl"):
        with suppress(OSError):
            times.append((path / name).stat().st_mtime)
    return max(times)


def _size(path: Path) -> int:
    total = 0
    for folder, _, files in os.walk(path, followlinks=False):
        for name in files:
            with suppress(OSError):
                total += (Path(folder) / name).lstat().st_size
    return total
