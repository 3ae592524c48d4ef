"""Hidden folders for what is half done: locked while their process lives; the next removes what a killed one left."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tracetorch.runs.lock import NAME, BusyError, Lock

WRITING, REMOVING = ".writing-", ".removing-"
"""How the names of such folders begin."""


@contextmanager
def aside(parent: Path, prefix: str) -> Iterator[Path]:
    """A hidden folder, removed at the end with all that is in it then.

    Args: prefix: WRITING or REMOVING.
    Raises: OSError if it cannot be made, or not be removed.
    """
    path, lock = _reserve(parent, prefix)
    try:
        yield path
    except BaseException:
        _remove(path, lock, ignore_errors=True)
        raise
    _remove(path, lock)


def remove_abandoned(path: Path) -> bool:
    """Remove such a folder, unless its process is at work. Returns: whether it did. Raises: OSError if it cannot."""
    lock = _taken(path)
    if lock is None:
        return False
    _remove(path, lock)
    return True


def remove_all_abandoned(parent: Path, prefix: str) -> bool:
    """Remove all such folders of killed processes, as far as they can be removed. Returns: whether there were any."""
    found = False
    for path in parent.glob(f"{prefix}*"):
        if not path.is_symlink() and path.is_dir():
            with suppress(OSError):
                found |= remove_abandoned(path)
    return found


def _reserve(parent: Path, prefix: str) -> tuple[Path, Lock]:
    while True:
        path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        try:
            lock = _taken(path)
        except OSError:
            path.rmdir()
            raise
        if lock is not None:  # else another process took it for abandoned before it was locked
            return path, lock


def _taken(path: Path) -> Lock | None:
    try:
        return Lock(path)
    except (BusyError, FileNotFoundError):
        return None


def _remove(path: Path, lock: Lock, *, ignore_errors: bool = False) -> None:
    """The lock's file goes last: until then other processes see that this one is at work."""
    try:
        for inside in list(path.iterdir()):
            if inside.is_dir() and not inside.is_symlink():
                shutil.rmtree(inside, ignore_errors=ignore_errors)
            elif inside.name != NAME:
                inside.unlink(missing_ok=True)
        (path / NAME).unlink(missing_ok=True)
        path.rmdir()
    except OSError:
        if not ignore_errors:
            raise
    finally:
        lock.release()
