"""A disk that fails, or a process that is killed, at a chosen operation on the files below the working directory.

An audit hook sees each opening, renaming, removing and making of a folder before it happens; `open`, `os.write` and
`os.fsync` are replaced by versions that count too. To be used in a process of its own: a hook cannot be taken off.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

KILL = 0
"""In place of an error number: the process is killed."""

_NAMING = {
    **{"os.rename": "rename", "os.mkdir": "mkdir", "os.remove": "remove", "os.rmdir": "rmdir", "os.link": "link"},
    **{"os.symlink": "symlink", "os.truncate": "truncate", "shutil.rmtree": "rmtree"},
}
_TAKES_ROOM = ("write", "create", "mkdir", "symlink", "link")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


@dataclass
class Fault:
    """What goes wrong.

    Args:
        at: the number of the operation, from 1; 0 for none, and all are counted.
        error: an error number, or KILL.
        lasting: whether all later operations that take room fail as well.
        reads: whether the operations are openings for reading, instead of those that change something.
    """

    at: int = 0
    error: int = errno.EIO
    lasting: bool = False
    reads: bool = False
    seen: list[str] = field(default_factory=list)


class Disk:
    """Counts operations below a folder, and lets one of them fail.

    Args: last_words: is called before the process is killed.
    """

    def __init__(self, base: str, fault: Fault, last_words: Callable[[], None] = lambda: None):
        self._last_words = last_words
        self._base, self._fault = os.path.realpath(base) + os.sep, fault
        self._busy = False

    def install(self) -> None:
        """From here on."""
        sys.addaudithook(self._hook)
        disk, before, write, sync = self, io.open, os.write, os.fsync

        class Raw(io.FileIO):
            def write(self, content: Any) -> int:
                disk.happens("write", disk.path_of(self.fileno()), lambda part: io.FileIO.write(self, content[:part]))
                return super().write(content)

        def opened(
            file: Any,
            mode: str = "r",
            buffering: int = -1,
            encoding: str | None = None,
            errors: str | None = None,
            newline: str | None = None,
            closefd: bool = True,
            opener: Any = None,
        ) -> Any:
            if not set(mode) & set("wax+") or buffering == 0 or disk.path_of(file) is None:
                return before(file, mode, buffering, encoding, errors, newline, closefd, opener)
            raw = Raw(file, mode.replace("b", "").replace("t", ""), closefd, opener)
            buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
            if "b" in mode:
                return buffered
            text = io.TextIOWrapper(buffered, encoding, errors, newline, line_buffering=buffering == 1)
            text.mode = mode
            return text

        def os_write(number: int, content: Any) -> int:
            disk.happens("write", disk.path_of(number), lambda part: write(number, content[:part]))
            return write(number, content)

        def os_fsync(number: Any) -> None:
            disk.happens("sync", disk.path_of(number if isinstance(number, int) else number.fileno()))
            sync(number)

        io.open = builtins.open = opened
        os.write, os.fsync = os_write, os_fsync

    def path_of(self, file: Any) -> str | None:
        """Where a file lies, by its name or number; None outside of the folder."""
        try:
            path = f"/proc/self/fd/{file}" if isinstance(file, int) else ""
            path = os.readlink(path) if path else os.path.abspath(os.fsdecode(file))  # noqa: PTH100, PTH115
        except (OSError, TypeError, ValueError):
            return None
        return path[len(self._base) :] if path.startswith(self._base) else None

    def happens(self, kind: str, path: str | None, half: Any = None) -> None:
        """An operation begins. Args: half: does a part of it, so many bytes. Raises: OSError, if it fails."""
        fault = self._fault
        if path is None or (kind == "read") != fault.reads:
            return
        fault.seen.append(f"{kind} {path}")
        now = len(fault.seen)
        later = fault.lasting and fault.at and now > fault.at and kind in _TAKES_ROOM
        if now != fault.at and not later:
            return
        if half is not None and not later:
            half(7)
        if fault.error == KILL:
            self._last_words()
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(fault.error, os.strerror(fault.error), path)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._busy or (event != "open" and event not in _NAMING):
            return
        self._busy = True
        try:
            if event == "open":
                self._opens(*arguments)
            elif event != "shutil.rmtree":
                self._names(_NAMING[event], *arguments)
        finally:
            self._busy = False

    def _opens(self, file: Any, mode: Any, flags: Any) -> None:
        if isinstance(file, int) or not isinstance(flags, int):
            return
        path = self.path_of(file)
        if flags & _WRITING:
            self.happens("open" if os.path.lexists(os.fsdecode(file)) else "create", path)
        elif path is not None and Path(os.fsdecode(file)).is_file():
            self.happens("read", path)

    def _names(self, kind: str, path: Any, *others: Any) -> None:
        if kind == "symlink":
            path = others[0]
        folders = [one for one in others if isinstance(one, int) and one >= 0]
        if kind in ("remove", "rmdir") and folders and not os.fsdecode(path).startswith("/"):
            path = f"{Path(f'/proc/self/fd/{folders[0]}').readlink()}/{os.fsdecode(path)}"
        self.happens(kind, self.path_of(path))
