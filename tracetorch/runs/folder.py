"""One folder for one run: reserved for it alone, and never half-written."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Collection
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from tracetorch.files import append, leads_out, open_regular, read_json, sync_file, sync_folder, write_whole
from tracetorch.runs.lock import NAME, Lock
from tracetorch.runs.records import MOST_LINE_BYTES, keep, read_csv, read_jsonl, to_csv, to_json

_FIGURE = re.compile(r"\w[\w .,=+()-]{0,99}")
_BEGINNING = re.compile(
    r"\.lock|overrides\.yaml|config\.yaml|\.(overrides\.yaml|config\.yaml|(run|sweep|study)\.json)\.\d+"
)


class RunFolder:
    """The files of a run; what each holds is said in docs/run-folder.md.

    Args: path: an existing folder; see `reserve` for a new one.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._made: list[Path] = []

    @classmethod
    def reserve(cls, root: Path, experiment: str, identity: str, path: Path | None = None) -> RunFolder:
        """Make a new folder that belongs to this run alone, however many start in the same second.

        Args:
            root: all runs lie in root/experiment/stamp-identity.
            path: the folder itself, instead; an empty one, or one of a run that was killed as it began, is taken.
        Raises: FileExistsError if `path` holds anything else; OSError if it cannot be made. Nothing is left behind.
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
        folder = cls(path)
        folder._made = _make(path)
        return folder

    def take(self) -> Lock:
        """Lock a folder that was reserved a moment ago: two processes may have found the same empty one.

        Returns: the lock; nothing else is in the folder.
        Raises: BusyError, or FileExistsError, if another process was quicker; the folder is left to it. OSError if it
            cannot be locked; the folder is removed then.
        """
        try:
            lock = Lock(self.path)
        except OSError:
            self._unmake()
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
        """Write a file whole."""
        write_whole(self.path / name, content)

    def write_json(self, name: str, content: Any) -> None:
        """Write a JSON file whole."""
        self.write_text(name, to_json(content, indent=2) + "\n")

    def write_table(self, name: str, columns: dict[str, list[Any]]) -> None:
        """Write columns of equal length as a CSV file."""
        names = list(columns)
        rows = zip(*columns.values(), strict=True)
        self.write_text(name, to_csv([dict(zip(names, row, strict=True)) for row in rows]))

    def append_record(self, record: dict[str, Any]) -> None:
        """Add a line to metrics.jsonl."""
        append(self.path / "metrics.jsonl", to_json(record) + "\n")

    def sync_records(self) -> None:
        """Wait until metrics.jsonl is on the disk, so that a checkpoint may count its records."""
        sync_file(self.path / "metrics.jsonl")
        sync_folder(self.path)

    def keep_records(self, count: int, update: int = 0) -> dict[str, Any] | None:
        """Remove the records after those that a checkpoint counts, and put a mark where some of those are missing.

        Args: count, update: how many records there were when the checkpoint was written, and after which update.
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
        """The lines of metrics.jsonl so far. Raises: OSError, ValueError as `read_jsonl`."""
        try:
            return read_jsonl(self.path / "metrics.jsonl")
        except FileNotFoundError:
            return []

    def table(self, name: str) -> dict[str, list[float]]:
        """The columns of a CSV file of numbers."""
        return read_csv(self.path / name)

    def facts(self) -> dict[str, Any]:
        """What run.json says; nothing if there is none. Raises: OSError; ValueError if it is broken."""
        path = self.path / "run.json"
        try:
            facts = read_json(path)
        except FileNotFoundError:
            return {}
        if not isinstance(facts, dict):
            raise ValueError(f"{path} is broken: it is not a JSON object")
        return facts

    def checkpoint(self, name: str) -> Path:
        """Where the checkpoint with this name, "latest" or "best", lies."""
        return self.path / "checkpoints" / f"{name}.pt"

    def plot(self, name: str) -> Path:
        """Where the figure with this name lies, without its suffix. Raises: ValueError if it would lie elsewhere."""
        if not _FIGURE.fullmatch(name):
            raise ValueError(f"a figure has a plain name such as 'confusion', got {name!r}")
        return self.path / "plots" / name

    def remove(self) -> None:
        """Take back a folder that was reserved a moment ago, and those that were made for it."""
        self._clear(set())
        self._unmake()

    def _clear(self, spared: set[str]) -> None:
        for path in list(self.path.iterdir()):
            if path.name not in spared:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    def _unmake(self) -> None:
        """Remove the folders that were made, and are empty."""
        for folder in reversed(self._made):
            with suppress(OSError):  # another run may live there by now
                folder.rmdir()


def is_beginning(names: Collection[str]) -> bool:
    """Whether these files are all that a run leaves that is killed before its run.json is written."""
    return NAME in names and all(_BEGINNING.fullmatch(name) for name in names)


def _is_free(path: Path) -> bool:
    """Whether a folder, not a link to one, holds nothing, or a beginning without a config to resume from."""
    try:
        names = {found.name for found in path.iterdir()}
    except OSError:
        return False
    return not path.is_symlink() and (not names or (is_beginning(names) and "config.yaml" not in names))


def _make(path: Path) -> list[Path]:
    """`mkdir -p` that insists on making the last folder, or takes back the others. Returns: all that it made."""
    missing = [parent for parent in path.parents if not parent.exists()]
    made: list[Path] = []
    try:
        for folder in [*reversed(missing), path]:
            try:
                folder.mkdir()
                made.append(folder)
                sync_folder(folder.parent)  # a power cut may take a folder away of which only the content was synced
            except FileExistsError:
                if folder == path:
                    raise
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(13, "Permission denied", str(path))
    except OSError:
        for folder in reversed(made):
            with suppress(OSError):
                folder.rmdir()
        raise
    return made
