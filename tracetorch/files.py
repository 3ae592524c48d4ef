"""Files that are whole or not there: written beside and renamed."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader sees the old one or the new one, never half of it."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())  # else a power cut may leave the new name without its content
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def remove_remains(folder: Path) -> None:
    """Remove what processes that were killed had begun to write; to be called by the only one at work in a folder."""
    for path in folder.glob(".*.*"):
        if path.suffix[1:].isdigit() and path.is_file():
            path.unlink()
