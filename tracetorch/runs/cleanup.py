"""Choice and removal of runs: never outside of the given folder, and never a run in use."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tracetorch.files import leads_out, open_regular, real
from tracetorch.runs.folder import RunState, is_beginning, last_record, lower_is_better, metric_of, state_of
from tracetorch.runs.lock import REMOVING, BusyError, Lock, aside, is_locked, remove_abandoned, remove_all_abandoned
from tracetorch.runs.tags import read_tags

_HALF_REMOVED = "half removed"
_FAILED, _UNFINISHED = ("failed", "broken"), ("interrupted", "killed")


class RemovableRun(NamedTuple):
    """A run that may be removed."""

    path: Path
    status: str
    age_seconds: float
    mebibytes: float

    @property
    def age(self) -> str:
        """The age in words."""
        days, hours = self.age_seconds / 86400, self.age_seconds / 3600
        return f"{days:.0f} days old" if days >= 2 else f"{hours:.0f} hours old" if hours >= 2 else "new"


class KeptRun(NamedTuple):
    """A run that is kept because its folder cannot be read, or because it has a tag."""

    path: Path
    why: str


def choose(
    root: Path, *, failed: bool, unfinished: bool, older_than_seconds: float | None, keep_best: int
) -> tuple[list[RemovableRun], list[KeptRun]]:
    """Choose the runs below a folder that may be removed, and the remains of killed removals.

    Args:
        failed: runs that failed, and runs without a checkpoint whose run.json is broken.
        unfinished: runs that were interrupted or killed. With neither option, all runs that have ended.
        older_than_seconds: only runs whose last write is longer ago.
        keep_best: number of completed runs of each experiment to keep, the best by their test.
    Returns: the runs; the runs that are kept because they cannot be read now, have a broken run.json next to a
        checkpoint, or would be chosen but for a tag; both sorted by path. A run is never chosen if it has a tag, is in
        use, belongs to a sweep in progress, lies behind a symbolic link, or holds other runs. A folder without a config
        may be something else and is not chosen.
    """
    paths, remains, kept = _runs(root)
    found: dict[Path, RunState] = {}
    for path in paths:
        state, why = state_of(path), _unread_records(path) if keep_best else ""
        if state.status == "unreadable" or (state.status == "broken" and _has_checkpoint(path)):
            why = state.error
        if why:
            kept.append(KeptRun(path, why))
        else:
            found[path] = state
    spared = _best(found, keep_best)
    chosen = []
    for path, state in found.items():
        try:
            age = time.time() - _last_written(path)
        except OSError as error:  # it was just removed, or cannot be read
            kept.append(KeptRun(path, _reason(error)))
            continue
        wanted = _FAILED * failed + _UNFINISHED * unfinished
        is_wanted = state.status in wanted if wanted else state.is_over
        is_old = older_than_seconds is None or age > older_than_seconds
        is_candidate = is_wanted and is_old and path not in spared
        if is_candidate and not any(map(is_locked, (path, *_evaluations(path), path.parent))):
            if tags := read_tags(path):
                kept.append(KeptRun(path, f"it has the tag {tags[0]}: tracetorch tag DIR {tags[0]} --remove"))
            else:
                chosen.append(RemovableRun(path, state.status, age, _size(path) / 2**20))
    for path in remains:
        if not is_locked(path):
            chosen.append(RemovableRun(path, _HALF_REMOVED, time.time() - _last_written(path), _size(path) / 2**20))
    return sorted(chosen), sorted(kept)


def _has_checkpoint(path: Path) -> bool:
    """Whether a run has a checkpoint; True if its folder cannot be read."""
    try:
        return any(found.suffix == ".pt" for found in (path / "checkpoints").iterdir())
    except FileNotFoundError:
        return False
    except OSError:
        return True


def remove(path: Path, root: Path) -> bool:
    """Remove a run's folder, and then its empty parents below `root`.

    The folder first moves into a hidden folder next to it. If this process is killed, no command mistakes the remains
    for a run, and the next `choose` lists them.

    Returns: False if another process now uses the folder.
    Raises: OSError if a file cannot be removed; ValueError if the folder does not lie below `root`.
    """
    if leads_out(path, root) or real(path) == real(root):
        raise ValueError(f"{path} does not lie below {root}")
    removed = remove_abandoned(path) if path.name.startswith(REMOVING) else _remove_run(path)
    for parent in path.parents if removed else ():
        if real(parent) == real(root):
            break
        with suppress(OSError):  # it is not empty: it holds other runs
            parent.rmdir()
    return removed


def remove_unfinished_evaluations(run: Path) -> None:
    """Remove incomplete evaluations of a run: they cannot be resumed, only started again."""
    remove_all_abandoned(run / "eval", REMOVING)
    for path in _evaluations(run):
        with suppress(OSError):
            names = {found.name for found in path.iterdir()}
            if is_beginning(names) or ("run.json" in names and state_of(path).status in ("failed", *_UNFINISHED)):
                _remove_run(path)


def _remove_run(path: Path) -> bool:
    locks: list[Lock] = []
    try:
        for folder in (path, *_evaluations(path)):
            locks.append(Lock(folder))
        with aside(path.parent, REMOVING) as hidden:
            path.rename(hidden / path.name)
    except BusyError:
        return False
    finally:
        for lock in locks:
            lock.release()
    return True


def _evaluations(path: Path) -> list[Path]:
    """List the folders of a run's evaluations; [] if they cannot be listed."""
    with suppress(OSError):
        return [Path(entry) for entry in os.scandir(path / "eval") if entry.is_dir(follow_symlinks=False)]
    return []


def _runs(root: Path) -> tuple[list[Path], list[Path], list[KeptRun]]:
    """Find runs that contain no run except evaluations, remains of killed removals, and unreadable folders."""
    found, remains = [], []
    unread: list[KeptRun] = []

    def report(error: OSError) -> None:
        unread.append(KeptRun(Path(error.filename), _reason(error)))

    for folder, names, files in os.walk(root, onerror=report, followlinks=False):
        path = Path(folder)
        remains += [path / name for name in names if name.startswith(REMOVING) and not (path / name).is_symlink()]
        names[:] = [name for name in names if not name.startswith(REMOVING)]
        if path == root or not ({"run.json", "config.yaml"} <= set(files) or (is_beginning(files) and not names)):
            continue
        others = (other.relative_to(path).parts[0] for other in path.rglob("run.json"))
        if not set(others) - {"run.json", "eval"}:
            found.append(path)
            names.clear()
    return found, remains, unread


def _unread_records(path: Path) -> str:
    """The reason why the records of a run cannot be read now; "" if they can be read or do not exist."""
    try:
        with open_regular(path / "metrics.jsonl") as file:
            file.read(1)
    except (FileNotFoundError, ValueError):
        return ""
    except OSError as error:
        return f"{path / 'metrics.jsonl'} cannot be read: {_reason(error)}"
    return ""


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__


def _best(found: dict[Path, RunState], count: int) -> set[Path]:
    """The best completed runs of each experiment and metric; see `lower_is_better`."""
    scores: dict[tuple[str, str], list[tuple[float, Path]]] = defaultdict(list)
    for path, state in found.items():
        metric = metric_of(last_record(path)) if state.status == "completed" and count else None
        if metric:
            name, value = metric
            scores[str(state.facts.get("experiment")), name].append((-value if lower_is_better(name) else value, path))
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
