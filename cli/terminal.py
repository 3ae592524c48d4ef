"""The command line's output: no stream raises, and no control character reaches the terminal."""

from __future__ import annotations

import io
import os
import select
import sys
import sysconfig
import warnings
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracetorch.printable import printable, visible

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment
    from rich.table import Table

_TOTAL = ("replace", "backslashreplace", "xmlcharrefreplace", "namereplace", "ignore")  # handlers that never raise

_WIDEST = 10_000  # columns of a table in a file or a pipe: more than a path has


class _Descriptor(io.FileIO):
    """A file descriptor to which every write succeeds: output that cannot be written is dropped."""

    def __init__(self, number: int):
        super().__init__(number, "wb", closefd=False)
        self.error: OSError | None = None  # the first error

    def write(self, data: Any) -> int:
        rest = memoryview(data).cast("B")
        size = len(rest)
        try:
            while rest:
                written = super().write(rest)
                if written is None:  # a non-blocking descriptor with a slow reader
                    select.select([], [self.fileno()], [])
                rest = rest[written or 0 :]
        except OSError as error:
            self.error = self.error or error
        return size


class _Stream(io.TextIOWrapper):
    """A standard stream that ignores `close`: a part of an experiment may call it."""

    def close(self) -> None:
        self.flush()


def prepare() -> None:
    """Replace the standard streams by streams that never raise. Call this first; a second call changes nothing.

    A closed pipe, a full disk, or a character that the encoding lacks must not end a training run. A stream that was
    closed before the process started is replaced by /dev/null: otherwise the next opened file would get its number,
    and all printed text.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # gets the lowest free number, which is this one
        if number > 0:
            setattr(sys, name, _safe(getattr(sys, name), number))


def _safe(stream: Any, number: int) -> Any:
    """A stream to this file descriptor that never raises; the given stream if it is not a plain file."""
    if stream is None:
        return _Stream(io.BufferedWriter(_Descriptor(number)), "utf-8", "replace")
    errors = stream.errors if stream.errors in _TOTAL else "replace"
    if type(_raw(stream)) is not io.FileIO:  # already ours, a Windows console, or not a file
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=errors)
        return stream
    with suppress(OSError):
        stream.flush()
    is_buffered = stream.buffer is not _raw(stream)  # False with python -u
    raw: Any = _Descriptor(number)
    buffer = io.BufferedWriter(raw) if is_buffered else raw
    buffering = {"line_buffering": stream.line_buffering, "write_through": stream.write_through}
    return _Stream(buffer, stream.encoding, errors, **buffering)


def _raw(stream: Any) -> Any:
    buffer = getattr(stream, "buffer", None)
    return getattr(buffer, "raw", buffer)


def quieten() -> None:
    """Hide warnings of libraries; print those of a user's code in one line. -W and PYTHONWARNINGS have precedence."""
    if sys.warnoptions:
        return
    paths = sysconfig.get_paths()
    libraries = (*(paths[name] for name in ("stdlib", "purelib", "platlib")), str(Path(__file__).parents[1]))

    def show(message: object, category: type, filename: str, lineno: int, *rest: object) -> None:
        if not filename.startswith((*libraries, "<")) and "site-packages" not in filename:
            say(f"tracetorch: warning: {printable(message)} ({filename}:{lineno})", error=True)

    warnings.showwarning = show  # type: ignore[assignment]


def lost() -> OSError | None:
    """The first error in writing to stdout; None if everything was written."""
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    return getattr(_raw(sys.stdout), "error", None)


def say(*lines: object, error: bool = False) -> None:
    """Print lines; control characters and line ends within a line are replaced. Args: error: print to stderr."""
    print(*(visible(str(line)) for line in lines), sep="\n", file=sys.stderr if error else sys.stdout)


def say_starting() -> None:
    """Show on a terminal that a verb has begun, because loading torch takes seconds; the next line overwrites it."""
    if sys.stdout.isatty():
        print("starting …", end="\r", flush=True)


def console() -> Console:
    """A rich console on stdout that prints text literally: no markup, emoji or terminal commands."""
    screen = _console_class()(markup=False, emoji=False, highlight=False, soft_wrap=True)
    if screen.width < 1 or screen.height < 1:  # a terminal of unknown size
        screen.size = (80, 25)
    return screen


def print_table(screen: Console, table: Table) -> None:
    """Print a table, folded to the width of a terminal; elsewhere no cell is folded, so that a path can be copied."""
    if not screen.is_terminal:
        screen.width = _WIDEST
    screen.print(table, soft_wrap=not screen.is_terminal)


@cache
def _console_class() -> type[Console]:
    from rich.console import Console  # here, because every verb loads this file
    from rich.segment import Segment

    class CleanConsole(Console):
        def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
            for segment in super().render(renderable, options):
                yield segment if segment.control else Segment(visible(segment.text, keep="\n"), segment.style)

    return CleanConsole
