"""Who is at work in a folder: a lock that the system takes back when its process ends, however that ends."""

from __future__ import annotations

from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # not on Windows; there, nobody ever seems to be at work
    fcntl = None  # type: ignore[assignment]

NAME = ".lock"


class BusyError(RuntimeError):
    """Another process is at work in this folder."""


class Lock:
    """A folder, for one process at a time.

    Args: folder: it gets a file `.lock`.
    Raises: BusyError if another process, or another `Lock` of this one, has it; OSError where nothing can be written.
    """

    _file: IO[str] | None = None

    def __init__(self, folder: Path):
        self._file = (folder / NAME).open("a", encoding="ascii")
        if fcntl is None:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.release()
            raise BusyError(f"another process is at work in {folder}") from error
        except OSError:  # a file system without locks: then nobody can be told
            return

    def release(self) -> None:
        """Let others have it."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __del__(self) -> None:
        self.release()


def is_locked(folder: Path) -> bool:
    """Whether a process is at work there."""
    if fcntl is None:
        return False
    try:
        with (folder / NAME).open(encoding="ascii") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks cannot tell
        return False
    return False
