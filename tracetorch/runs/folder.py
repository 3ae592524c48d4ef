"""The folder of a run, which is reserved for that run and has no half-written files; and the run's status."""

from __future__ import annotations

import errno
import math
import os
import re
import shutil
from collections.abc import Collection
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from tracetorch.files import append, leads_out, open_regular, parse_json, read_json, sync_file, sync_folder, write_whole
from tracetorch.runs.lock import NAME, Lock, is_locked
from tracetorch.runs.records import LOST, MOST_LINE_BYTES, columns_to_csv, keep, read_csv, read_jsonl, to_json

_FIGURE = re.compile(r"\w[\w .,=+()-]{0,99}")
_BEGINNING = re.compile(
    r"\.lock|overrides\.yaml|config\.yaml|\.(overrides\.yaml|config\.yaml|(run|sweep|study)\.json)\.\d+"
)


class RunFolder:
    """The files of a run, described in docs/run-folder.md.

    Args: path: an existing folder; see `reserve` for a new one.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._created: list[Path] = []

    @classmethod
    def reserve(cls, root: Path, experiment: str, identity: str, path: Path | None = None) -> RunFolder:
        """Make a new folder for one run, also if several runs start in the same second.

        Args:
            root: all runs lie in root/experiment/stamp-identity.
            path: the folder to use instead; it may exist if it is empty, or if its run was killed as it began.
        Raises: FileExistsError if `path` holds anything else; ValueError if the folder would lie outside of
            `root`; OSError if it cannot be made. No new folder remains then.
        """
        if path is not None:
            return cls(path) if _is_free(path) else cls._new(path)
        if leads_out(root / experiment, root):
            raise ValueError(f"a run of {experiment!r} would lie outside of {root}")
        stem = f"{datetime.now():%Y%m%d-%H%M%S}-{identity[:6]}"
        path, others = root / experiment / stem, 0
        while True:
            with suppress(FileExistsError):
                return cls._new(path)
            others += 1
            path = root / experiment / f"{stem}-{others + 1}"

    @classmethod
    def _new(cls, path: Path) -> RunFolder:
        """Make a folder and its missing parents; if it exists or cannot be made, remove those parents."""
        new, missing = cls(path), [parent for parent in path.parents if not parent.exists()]
        try:
            for folder in [*reversed(missing), path]:
                try:
                    folder.mkdir()
                    new._created.append(folder)
                    sync_folder(folder.parent)  # else a power cut may remove a folder whose content was synced
                except FileExistsError:
                    if folder == path:
                        raise
            if not os.access(path, os.W_OK | os.X_OK):
                raise PermissionError(13, "Permission denied", str(path))
        except OSError:
            new._remove_created()
            raise
        return new

    def take(self) -> Lock:
        """Lock a folder that was just reserved, and empty it: two processes may have reserved the same one.

        Raises: BusyError, or FileExistsError, if another process was faster; that process keeps the folder. OSError if
            the folder cannot be locked; the folder is then removed.
        """
        try:
            lock = Lock(self.path)
        except OSError:
            self._remove_created()
            raise
        try:
            if not _is_free(self.path):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(self.path))
            self._clear({NAME})
        except BaseException:
            lock.release()
            raise
        return lock

    def write_text(self, name: str, content: str) -> None:
        """Write a text file atomically."""
        write_whole(self.path / name, content)

    def write_json(self, name: str, content: Any) -> None:
        """Write a JSON file atomically."""
        self.write_text(name, to_json(content, indent=2) + "\n")

    def write_table(self, name: str, columns: dict[str, list[Any]]) -> None:
        """Write columns of equal length as a CSV file."""
        self.write_text(name, columns_to_csv(columns))

    def append_record(self, record: dict[str, Any]) -> None:
        """Add a line to metrics.jsonl."""
        append(self.path / "metrics.jsonl", to_json(record) + "\n")

    def sync_records(self) -> None:
        """Wait until metrics.jsonl is on the disk, so that a checkpoint may count its records."""
        sync_file(self.path / "metrics.jsonl")
        sync_folder(self.path)

    def keep_records(self, count: int, update: int = 0) -> dict[str, Any] | None:
        """Remove the records after a checkpoint, and insert a mark where earlier records are missing.

        Args: count, update: the number of records, and the update, of the checkpoint.
        Returns: the mark, a record of the split "lost"; None if nothing is missing.
        Raises: OSError; ValueError if metrics.jsonl is not a regular file.
        """
        path = self.path / "metrics.jsonl"
        try:
            with open_regular(path) as file:
                kept, mark = keep(iter(partial(file.readline, MOST_LINE_BYTES), b""), count, update)
        except FileNotFoundError:
            kept, mark = keep((), count, update)
        if kept or path.exists():
            write_whole(path, b"".join(kept))
        return mark

    def records(self) -> list[dict[str, Any]]:
        """The records in metrics.jsonl so far. Raises: OSError, ValueError as `read_jsonl`."""
        try:
            return read_jsonl(self.path / "metrics.jsonl")
        except FileNotFoundError:
            return []

    def table(self, name: str, *, has_text: bool = False) -> dict[str, list[float]]:
        """The columns of a CSV file of numbers. Args: has_text: whether other columns are left out."""
        return read_csv(self.path / name, has_text=has_text)

    def facts(self) -> dict[str, Any]:
        """The content of run.json; empty if there is none. Raises: OSError; ValueError if it is broken."""
        path = self.path / "run.json"
        try:
            facts = read_json(path)
        except FileNotFoundError:
            return {}
        if not isinstance(facts, dict):
            raise ValueError(f"{path} is broken: it is not a JSON object")
        return facts

    def checkpoint(self, name: str) -> Path:
        """The path of a checkpoint. Args: name: "latest" or "best"."""
        return self.path / "checkpoints" / f"{name}.pt"

    def plot(self, name: str) -> Path:
        """The path of a figure, without its suffix. Raises: ValueError for a name with a slash or the like."""
        if not _FIGURE.fullmatch(name):
            raise ValueError(f"a figure has a plain name such as 'confusion', got {name!r}")
        return self.path / "plots" / name

    def remove(self) -> None:
        """Remove a folder that was just reserved, and the parents that were made for it."""
        self._clear(set())
        self._remove_created()

    def _clear(self, spared: set[str]) -> None:
        for path in list(self.path.iterdir()):
            if path.name not in spared:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    def _remove_created(self) -> None:
        """Remove the folders that `reserve` made, if they are empty."""
        for folder in reversed(self._created):
            with suppress(OSError):  # another run may use it by now
                folder.rmdir()


def is_beginning(names: Collection[str]) -> bool:
    """Whether these are the files of a run that was killed before it wrote run.json."""
    return NAME in names and all(_BEGINNING.fullmatch(name) for name in names)


def _is_free(path: Path) -> bool:
    """Whether a folder, not a link, is empty or from a run that was killed before it wrote a config."""
    try:
        names = {found.name for found in path.iterdir()}
    except OSError:
        return False
    return not path.is_symlink() and (not names or (is_beginning(names) and "config.yaml" not in names))


_TAIL_BYTES = 32768
_NO_METRICS = ("update", "split", "loss")
_KINDS: dict[str, Any] = {
    **dict.fromkeys(("summary", "timings", "versions", "settings", "init"), dict),
    **{"planned_updates": int, "resumed": list, "earlier_lengths": list, "error": str, "run_id": str},
}
"""Types of values in run.json. `state_of` ignores a value of another type."""


class RunState(NamedTuple):
    """The status of a run."""

    status: str
    """The status in run.json, with exceptions: "killed" if it is "running" but no process holds the lock; "broken" if
    the content is not that of a run; "unreadable" if the system cannot read the file now; "absent" if there is no
    folder. Without run.json: "running" if a process holds the lock, else "killed"."""

    facts: dict[str, Any]  # the content of run.json
    error: str  # why the run failed, or why its folder cannot be read

    @property
    def is_over(self) -> bool:
        """Whether the run has ended, as far as can be known."""
        return self.status not in ("running", "absent", "unreadable")


def state_of(folder: Path) -> RunState:
    """Return the status of the run in a folder. Raises nothing, whatever the folder contains."""
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
    """The last whole record in metrics.jsonl; empty if there is none. Raises nothing, whatever the file contains."""
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
    """The first metric of a record, such as ("accuracy", .98), or its loss; None for a diagnostic."""
    if record.get("split") in ("gradient", "switch", LOST):
        return None
    for name, value in record.items():
        number = _number(value)
        if number is not None and name not in _NO_METRICS and not name.endswith(("_seconds", "_per_second")):
            return name, number
    loss = _number(record.get("loss"))
    return None if loss is None else ("loss", loss)


def lower_is_better(metric: str) -> bool:
    """Whether lower values of a metric are better, by the last word of its name, such as test_error or mse."""
    return metric.rpartition("_")[2] in (
        "loss",
        "error",
        "mse",
        "mae",
        "rmse",
        "seconds",
        "bytes",
        "operations",
        "acs",
        "macs",
    )


def _number(value: Any) -> float | None:
    """A finite number as a float; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None
