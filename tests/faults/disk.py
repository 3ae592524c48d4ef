"""A disk that fails, or a process that is killed, at a chosen operation on the files below the working directory.

An audit hook sees each opening, renaming and removal, and each new folder, before it happens; `open`, `os.write` and
`os.fsync` are replaced by versions that count too. Use it in a separate process, because a hook cannot be removed.
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

_NAME_EVENTS = {
    **{"os.rename": "rename", "os.mkdir": "mkdir", "os.remove": "remove", "os.rmdir": "rmdir", "os.link": "link"},
    **{"os.symlink": "symlink", "os.truncate": "truncate", "shutil.rmtree": "rmtree"},
}
_TAKES_SPACE = ("write", "create", "mkdir", "symlink", "link")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


@dataclass
class Injection:
    """A failure or kill of one operation, and a list of the operations that were counted.

    Args:
        at: the number of the operation, from 1; 0: none fails, and all are counted.
        error: an error number, or KILL.
        lasting: whether all later operations that take space fail as well.
        reads: whether openings for reading are counted, instead of changes.
    """

    at: int = 0
    error: int = errno.EIO
    lasting: bool = False
    reads: bool = False
    operations: list[str] = field(default_factory=list)


class Disk:
    """Counts the operations below a folder, and makes one of them fail.

    Args: before_kill: is called before the process is killed.
    """

    def __init__(self, folder: str, injection: Injection, before_kill: Callable[[], None] = lambda: None):
        self._before_kill = before_kill
        self._folder, self._injection = os.path.realpath(folder) + os.sep, injection
        self._is_in_hook = False

    def install(self) -> None:
        """Start to count."""
        sys.addaudithook(self._hook)
        disk, open_file, write, sync = self, io.open, os.write, os.fsync

        class Raw(io.FileIO):
            def write(self, content: Any) -> int:
                disk.count("write", disk.path_of(self.fileno()), lambda part: io.FileIO.write(self, content[:part]))
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
                return open_file(file, mode, buffering, encoding, errors, newline, closefd, opener)
            raw = Raw(file, mode.replace("b", "").replace("t", ""), closefd, opener)
            buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
            if "b" in mode:
                return buffered
            text = io.TextIOWrapper(buffered, encoding, errors, newline, line_buffering=buffering == 1)
            text.mode = mode
            return text

        def os_write(number: int, content: Any) -> int:
            disk.count("write", disk.path_of(number), lambda part: write(number, content[:part]))
            return write(number, content)

        def os_fsync(number: Any) -> None:
            disk.count("sync", disk.path_of(number if isinstance(number, int) else number.fileno()))
            sync(number)

        io.open = builtins.open = opened
        os.write, os.fsync = os_write, os_fsync

    def path_of(self, file: Any) -> str | None:
        """The path of a file, given by name or number, within the folder; None outside of it."""
        try:
            path = f"/proc/self/fd/{file}" if isinstance(file, int) else ""
            path = os.readlink(path) if path else os.path.abspath(os.fsdecode(file))  # noqa: PTH100, PTH115
        except (OSError, TypeError, ValueError):
            return None
        return path[len(self._folder) :] if path.startswith(self._folder) else None

    def count(self, kind: str, path: str | None, write_part: Any = None) -> None:
        """Count an operation before it happens. Raises: OSError if it is the one to fail.

        Args: write_part: writes the first bytes of the content, as many as it is given.
        """
        injection = self._injection
        if path is None or (kind == "read") != injection.reads:
            return
        injection.operations.append(f"{kind} {path}")
        number = len(injection.operations)
        is_later = injection.lasting and injection.at and number > injection.at and kind in _TAKES_SPACE
        if number != injection.at and not is_later:
            return
        if write_part is not None and not is_later:
            write_part(7)
        if injection.error == KILL:
            self._before_kill()
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(injection.error, os.strerror(injection.error), path)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._is_in_hook or (event != "open" and event not in _NAME_EVENTS):
            return
        self._is_in_hook = True
        try:
            if event == "open":
                self._on_open(*arguments)
            elif event != "shutil.rmtree":
                self._on_name_event(_NAME_EVENTS[event], *arguments)
        finally:
            self._is_in_hook = False

    def _on_open(self, file: Any, mode: Any, flags: Any) -> None:
        if isinstance(file, int) or not isinstance(flags, int):
            return
        path = self.path_of(file)
        if flags & _WRITING:
            self.count("open" if os.path.lexists(os.fsdecode(file)) else "create", path)
        elif path is not None and Path(os.fsdecode(file)).is_file():
            self.count("read", path)

    def _on_name_event(self, kind: str, path: Any, *others: Any) -> None:
        if kind == "symlink":
            path = others[0]
        folders = [number for number in others if isinstance(number, int) and number >= 0]
        if kind in ("remove", "rmdir") and folders and not os.fsdecode(path).startswith("/"):
            path = f"{Path(f'/proc/self/fd/{folders[0]}').readlink()}/{os.fsdecode(path)}"
        self.count(kind, self.path_of(path))
