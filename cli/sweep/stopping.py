"""Stops the jobs of a sweep, in all processes and on all machines, by files in its folder."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

from tracetorch.cli.errors import FAILED
from tracetorch.files import writing
from tracetorch.renamed import CONTROLLER, former_globals

STOP = "stop"  # if a sweep's folder has a file of this name, no further job starts
NOW = "stop-now"  # with this one, running jobs also end after their current update

_SECONDS = 1.0
_OF_CLUSTERS = ("SIGUSR1", "SIGUSR2")


def go_on(sweep: Path) -> None:
    """Remove both stop files."""
    for name in (STOP, NOW):
        with writing(sweep / name):
            (sweep / name).unlink(missing_ok=True)


def is_stopped(sweep: Path) -> bool:
    """Whether a stop was requested: after the running jobs, or at once."""
    return (sweep / STOP).exists() or (sweep / NOW).exists()


@dataclass(frozen=True)
class ControllerProcess:
    """The process that started a sweep, identified by its host name and process ID."""

    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)

    def is_here(self) -> bool:
        return (self.host, self.pid) == (socket.gethostname(), os.getpid())

    def is_gone(self) -> bool:
        """Whether the process has ended, as far as this machine can determine."""
        if self.host != socket.gethostname() or os.name == "nt":  # on Windows, signal 0 is Ctrl-C
            return False
        try:
            os.kill(self.pid, 0)
            stat = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8")
        except ProcessLookupError:
            return True
        except OSError:  # the process of another user; or a system without /proc, where a zombie counts as alive
            return False
        return stat.rpartition(")")[2].split()[0] == "Z"

    def watch(self) -> None:
        """End this process of a pool when the controller is gone and no job runs here.

        A thread checks, because the process itself waits for the next job.
        """

        def look() -> None:
            while True:
                if not _at_work.locked():
                    self._end_if_gone()
                time.sleep(_SECONDS)

        threading.Thread(target=look, daemon=True).start()

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Mark the process as busy in the body; end it before or after the body if the controller is gone."""
        self._end_if_gone()
        with _at_work:
            yield
        self._end_if_gone()

    def _end_if_gone(self) -> None:
        if self.is_gone():
            os._exit(FAILED)


__getattr__ = former_globals(globals(), CONTROLLER, warn=False)  # for pickles of earlier versions
_at_work = threading.Lock()


class StopListener:
    """A run's listener: stops the run between two updates if its sweep is stopped or the controller is gone.

    A cluster's signal before a time limit also stops it. submitit receives the signal after the run is saved, and may
    submit the job again.
    """

    metric = "loss"

    def __init__(self, sweep: Path, controller: ControllerProcess):
        self._sweep, self._controller = sweep, controller
        self._looked, self._asked, self._heard = 0.0, False, 0
        self._before: dict[int, Callable[..., Any]] = {}

    def __call__(self, event: str, values: dict[str, Any]) -> None:
        if event != "progress" or self._asked:
            return
        if not self._heard:
            if time.monotonic() - self._looked < _SECONDS:
                return
            self._looked = time.monotonic()
            if not ((self._sweep / NOW).exists() or self._controller.is_gone()):
                return
        if callable(signal.getsignal(signal.SIGTERM)):
            self._asked = True
            signal.raise_signal(signal.SIGTERM)  # the run handles it

    def __enter__(self) -> StopListener:
        if threading.current_thread() is threading.main_thread():
            numbers = [number for name in _OF_CLUSTERS if (number := getattr(signal, name, None))]
            self._before = {number: old for number in numbers if callable(old := signal.getsignal(number))}
            for number in self._before:
                signal.signal(number, self._hear)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _hear(self, number: int, frame: Any) -> None:
        self._heard = number

    def pass_on(self) -> None:
        """Pass a signal that arrived to its original handler."""
        if self._heard:
            self._before[self._heard](self._heard, None)


class SignalGuard:
    """Handles Ctrl-C and SIGTERM for a sweep: at the first, the jobs finish their updates; the second stops at once.

    Args: sweep: its folder. say: called with a sentence at the first signal.
    """

    def __init__(self, sweep: Path, say: Callable[[str], None]):
        self.heard = False
        self._sweep, self._say = sweep, say
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> SignalGuard:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._hear) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _hear(self, number: int, frame: Any) -> None:
        if self.heard:
            raise KeyboardInterrupt
        self.heard = True
        with suppress(OSError):
            (self._sweep / NOW).touch()
        self._say("stopping: each job finishes its update and saves; a second Ctrl-C stops at once")


@contextmanager
def sheltered() -> Iterator[None]:
    """Block the terminal's Ctrl-C for processes that this thread starts: the sweep receives it, and stops them.

    Otherwise, Ctrl-C would end joblib's processes before they start, and submitit's would kill their jobs a second
    later. Another thread must receive the signal.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # joblib needs it, and its start lifts the block
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
