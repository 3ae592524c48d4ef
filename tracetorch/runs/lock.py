# Not `filelock`: its locks accept a pipe as a file, and testing a lock takes an exclusive one, which writes.
"""Locks on folders, released when their process ends in any way; and hidden folders for unfinished work."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from tracetorch.files import open_regular, open_to_append

try:
    import fcntl
except ImportError:  # Windows, where no folder is ever seen as locked
    fcntl = None  # type: ignore[assignment]

NAME = ".lock"

_PATIENCE_SECONDS = 0.5
"""How long `Lock` tries, because `is_locked` tests a lock by holding a shared one for some microseconds.

Only the locks of `fcntl.F_OFD_SETLK` can be tested without being taken; they exist only on Linux, and do not exclude
`flock`, which earlier versions of traceTorch hold.
"""


class BusyError(RuntimeError):
    """Another process is at work in this folder."""


class Lock:
    """An exclusive lock on a folder.

    Args: folder: a file `.lock` is made in it.
    Raises: BusyError if it is already locked, also by this process; OSError if it cannot be written to, or if `.lock`
        is a link, a pipe or a device.
    """

    _file: BinaryIO | None = None

    def __init__(self, folder: Path):
        until = time.monotonic() + _PATIENCE_SECONDS
        while not self._take(folder / NAME):
            if time.monotonic() > until:
                raise BusyError(f"another process is at work in {folder}")
            time.sleep(0.002)

    def _take(self, path: Path) -> bool:
        self._file = open_to_append(path)
        if fcntl is None:
            return True
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            return False
        except OSError:  # a file system without locks
            return True
        if _is_at(self._file, path):
            return True
        self.release()  # the process that held the lock has removed the file, or the folder
        return False

    def release(self) -> None:
        """Unlock."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __del__(self) -> None:
        self.release()


def is_locked(folder: Path) -> bool:
    """Whether a process holds the lock of a folder. A link, a pipe or a device named `.lock` is not a lock."""
    if fcntl is None:
        return False
    try:
        with open_regular(folder / NAME, follow=False) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (OSError, ValueError):  # there is no lock; or the file system has none
        return False
    return False


def _is_at(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat(follow_symlinks=False))
    except OSError:
        return False


WRITING, REMOVING = ".writing-", ".removing-"  # prefixes of the names of hidden folders


@contextmanager
def aside(parent: Path, prefix: str) -> Iterator[Path]:
    """Make a hidden folder, and remove it with its content at the end of the block.

    Args: prefix: WRITING or REMOVING.
    Raises: OSError if it cannot be made or removed.
    """
    lock = None
    while lock is None:  # before it is locked, another process may remove the folder as abandoned
        path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        try:
            lock = _try_lock(path)
        except OSError:
            path.rmdir()
            raise
    try:
        yield path
    except BaseException:
        _remove(path, lock, ignore_errors=True)
        raise
    _remove(path, lock)


def remove_abandoned(path: Path) -> bool:
    """Remove a folder of `aside` if its process has ended. Returns: whether it was removed. Raises: OSError."""
    lock = _try_lock(path)
    if lock is None:
        return False
    _remove(path, lock)
    return True


def remove_all_abandoned(parent: Path, prefix: str) -> bool:
    """Remove the folders of `aside` that killed processes left, if possible. Returns: whether any was removed."""
    found = False
    for path in parent.glob(f"{prefix}*"):
        if not path.is_symlink() and path.is_dir():
            with suppress(OSError):
                found |= remove_abandoned(path)
    return found


def _try_lock(path: Path) -> Lock | None:
    try:
        return Lock(path)
    except (BusyError, FileNotFoundError):
        return None


def _remove(path: Path, lock: Lock, *, ignore_errors: bool = False) -> None:
    """Remove a folder, its lock file last, so that other processes see until then that it is in use."""
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
