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
NOW = "stop-now"  # with a file of this name, running jobs also end, after their current update

_POLL_SECONDS = 1.0
_CLUSTER_SIGNALS = ("SIGUSR1", "SIGUSR2")


def clear_stop(sweep: Path) -> None:
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

    def is_this_process(self) -> bool:
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
        except OSError:  # another user's process; or a system without /proc, where a zombie counts as alive
            return False
        return stat.rpartition(")")[2].split()[0] == "Z"

    def watch(self) -> None:
        """End this process, one of a pool, once the controller is gone and no job runs in the process.

        A thread checks, because the process itself waits for the next job.
        """

        def poll() -> None:
            while True:
                if not _job_lock.locked():
                    self._end_if_gone()
                time.sleep(_POLL_SECONDS)

        threading.Thread(target=poll, daemon=True).start()

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Mark this process as busy in the body; end it before or after the body if the controller is gone."""
        self._end_if_gone()
        with _job_lock:
            yield
        self._end_if_gone()

    def _end_if_gone(self) -> None:
        if self.is_gone():
            os._exit(FAILED)


__getattr__ = former_globals(globals(), CONTROLLER, warn=False)  # for pickles of earlier versions
_job_lock = threading.Lock()  # held while a job runs in this process


class StopListener:
    """A run's listener: stops the run between two updates if the sweep has a file `stop-now` or the controller is gone.

    The signal of a cluster before a time limit also stops the run. Once the run is saved, `call_original_handler`
    passes the signal to submitit, which may submit the job again.
    """

    metric = "loss"

    def __init__(self, sweep: Path, controller: ControllerProcess):
        self._sweep, self._controller = sweep, controller
        self._checked_at, self._has_stopped_run, self._signal = 0.0, False, 0
        self._handlers: dict[int, Callable[..., Any]] = {}

    def __call__(self, event: str, values: dict[str, Any]) -> None:
        if event != "progress" or self._has_stopped_run:
            return
        if not self._signal:
            if time.monotonic() - self._checked_at < _POLL_SECONDS:
                return
            self._checked_at = time.monotonic()
            if not ((self._sweep / NOW).exists() or self._controller.is_gone()):
                return
        if callable(signal.getsignal(signal.SIGTERM)):
            self._has_stopped_run = True
            signal.raise_signal(signal.SIGTERM)  # the run handles it

    def __enter__(self) -> StopListener:
        if threading.current_thread() is threading.main_thread():
            numbers = [number for name in _CLUSTER_SIGNALS if (number := getattr(signal, name, None))]
            self._handlers = {number: old for number in numbers if callable(old := signal.getsignal(number))}
            for number in self._handlers:
                signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: Any) -> None:
        self._signal = number

    def call_original_handler(self) -> None:
        """Call the original handler of the signal that was received, if any."""
        if self._signal:
            self._handlers[self._signal](self._signal, None)


class SignalGuard:
    """Handles Ctrl-C and SIGTERM for a sweep.

    After the first signal, each job finishes its update and saves. The second raises KeyboardInterrupt.

    Args: sweep: its folder. say: called with a message at the first signal.
    """

    def __init__(self, sweep: Path, say: Callable[[str], None]):
        self.is_stopping = False
        self._sweep, self._say = sweep, say
        self._handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> SignalGuard:
        if threading.current_thread() is threading.main_thread():
            numbers = (signal.SIGINT, signal.SIGTERM)
            self._handlers = {number: signal.signal(number, self._on_signal) for number in numbers}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: Any) -> None:
        if self.is_stopping:
            raise KeyboardInterrupt
        self.is_stopping = True
        with suppress(OSError):
            (self._sweep / NOW).touch()
        self._say("stopping: each job finishes its update and saves; a second Ctrl-C stops at once")


@contextmanager
def sigint_blocked() -> Iterator[None]:
    """Block SIGINT in processes that this thread starts: only the sweep receives Ctrl-C, and stops them.

    Otherwise, Ctrl-C would end joblib's processes before they start, and submitit's would kill their jobs a second
    later. Another thread must receive the signal.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # before the block: otherwise joblib starts it, and its start unblocks SIGINT
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
