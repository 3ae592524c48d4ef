"""One folder for one run: reserved for it alone, and never half-written."""

from __future__ import annotations

import json
import os
import re
import shutil
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from tracetorch.files import write_whole
from tracetorch.runs.records import read_csv, read_jsonl, to_csv, to_json

_FIGURE = re.compile(r"\w[\w .,=+()-]{0,99}")


class RunFolder:
    """The files of a run; what each holds is said in docs/run-folder.md.

    Args: path: an existing folder; see `reserve` for a new one.
    """

    def __init__(self, path: Path):
        self.path = path
        self._made: list[Path] = []

    @classmethod
    def reserve(cls, root: Path, experiment: str, identity: str, exactly: Path | None = None) -> RunFolder:
        """Make a new folder that belongs to nobody else, even if two runs start in the same second.

        Args:
            root: all runs lie in root/experiment/stamp-identity.
            exactly: the folder itself, instead.
        Raises: FileExistsError if `exactly` is there already; OSError if it cannot be made. Nothing is left behind.
        """
        if exactly is not None:
            return cls._new(exactly)
        if not (root / experiment).resolve().is_relative_to(root.resolve()):
            raise ValueError(f"a run of {experiment!r} would lie outside of {root}")
        stem = f"{datetime.now():%Y%m%d-%H%M%S}-{identity[:6]}"
        for attempt in range(1, 1000):
            try:
                return cls._new(root / experiment / (stem if attempt == 1 else f"{stem}-{attempt}"))
            except FileExistsError:
                continue
        raise FileExistsError(f"{root / experiment / stem} and 999 others exist")

    @classmethod
    def _new(cls, path: Path) -> RunFolder:
        folder = cls(path)
        folder._made = _make(path)
        return folder

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
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(to_json(record) + "\n")

    def keep_records(self, count: int) -> None:
        """Forget all lines of metrics.jsonl after so many. Raises: ValueError if there are fewer."""
        path = self.path / "metrics.jsonl"
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        kept = lines[:count]
        if len(kept) < count or not all(line.endswith(b"\n") for line in kept):
            raise ValueError(
                f"{path} has lost lines: the checkpoint was written after {count}, there are {len(lines)}; "
                f"tracetorch run --from {self.path} begins anew"
            )
        if path.exists():
            write_whole(path, b"".join(kept))

    def records(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl so far."""
        path = self.path / "metrics.jsonl"
        return read_jsonl(path) if path.exists() else []

    def table(self, name: str) -> dict[str, list[float]]:
        """The columns of a CSV file of numbers."""
        return read_csv(self.path / name)

    def facts(self) -> dict[str, Any]:
        """What run.json says; nothing if there is none. Raises: ValueError if it is broken."""
        path = self.path / "run.json"
        if path.exists() and not path.is_file():  # such as a pipe, from which one would wait for ever
            raise ValueError(f"{path} is broken: it is no plain file")
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path} is broken: {error}") from None
        if not isinstance(facts, dict):
            raise ValueError(f"{path} is broken: it holds no object")
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
        shutil.rmtree(self.path)
        for parent in reversed(self._made[:-1]):
            with suppress(OSError):  # another run may live there by now
                parent.rmdir()


def _make(path: Path) -> list[Path]:
    """`mkdir -p` that insists on making the last folder, or takes back the others. Returns: all that it made."""
    missing = [parent for parent in path.parents if not parent.exists()]
    made: list[Path] = []
    try:
        for folder in [*reversed(missing), path]:
            try:
                folder.mkdir()
                made.append(folder)
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
