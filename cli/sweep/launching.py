"""The jobs of a sweep, handed to a launcher; and what to do where it gives up before its jobs have ended."""

from __future__ import annotations

import logging
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple

from tracetorch.cli.errors import shorten
from tracetorch.cli.sweep.job import Worker
from tracetorch.cli.sweep.launchers import LOCAL, launcher_of, options_of
from tracetorch.cli.sweep.queue import FOLDER, Queue
from tracetorch.cli.sweep.stopping import SignalGuard, sheltered

_SECONDS = 0.5
_GRACE_SECONDS = 5.0


def launch(worker: Worker, settings: list[str]) -> list[str]:
    """Run all jobs through the launcher that the settings name; by default one after another, in this process.

    Returns: why each failed, as `worker` says it.
    Raises: whatever the launcher raises where a process was killed; KeyboardInterrupt.
    """
    name, options, jobs = launcher_of(settings), options_of(settings), range(len(worker.names))
    if name == "basic":
        return [worker(at) for at in jobs]
    with _silence():
        if name == "joblib":
            from joblib import Parallel, delayed

            pool = Parallel(backend="loky", initializer=worker.controller.watch, **options)
            return list(pool(delayed(worker)(at) for at in jobs))
        from submitit import AutoExecutor

        folder, timeouts = Path(worker.folder) / FOLDER / "%j", options.pop("max_num_timeout", 0)
        executor = AutoExecutor(folder, name.removeprefix("submitit_"), slurm_max_num_timeout=timeouts)
        executor.update_parameters(**{key if key in LOCAL else f"slurm_{key}": options[key] for key in options})
        return [job.results()[0] for job in executor.map_array(worker, jobs)]


@contextmanager
def _silence() -> Iterator[None]:
    """Suppress the launchers' own messages: what concerns a job is in its folder."""
    logger = logging.getLogger("submitit")
    logger.addFilter(_nothing)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"joblib|submitit")
            yield
    finally:
        logger.removeFilter(_nothing)


def _nothing(record: logging.LogRecord) -> bool:
    return False


class Launched(NamedTuple):
    """How a launch ended."""

    messages: Sequence[str] = ()  # why each job failed, as far as it could say; none at all if there was trouble
    trouble: str = ""  # why the launcher stopped before its jobs had ended
    interrupted: bool = False


def carry_out(worker: Worker, settings: list[str], *, queue: Queue, guard: SignalGuard) -> Launched:
    """Launch jobs, and return when none is at work any more. Raises: KeyboardInterrupt.

    A launcher of submitit raises at the first job that was killed, while others still run, and may learn of it only
    minutes later. So it has a thread of its own, and here the queue is what counts.
    """
    folder = Path(worker.folder)
    call = _Call(worker, settings)
    if not launcher_of(settings).startswith("submitit"):
        call.run(shelter=launcher_of(settings) != "basic")
        return Launched(call.messages, _why(call.error, folder), guard.heard)
    thread = threading.Thread(target=call.run, daemon=True)
    thread.start()
    taken_back = False
    try:
        while thread.is_alive() or (call.error and queue.left()):
            thread.join(_SECONDS) if thread.is_alive() else time.sleep(_SECONDS)
            if guard.heard and not taken_back:
                queue.cancel(running=False)
                taken_back = True
            if queue.is_complete() and not queue.left():
                thread.join(_GRACE_SECONDS)  # the usual end
                break
    except KeyboardInterrupt:
        queue.cancel(running=True)
        raise
    return Launched(call.messages, "" if queue.is_complete() else _why(call.error, folder), guard.heard)


class _Call:
    """A call of the launcher, in whichever thread."""

    def __init__(self, worker: Worker, settings: list[str]):
        self._worker, self._settings = worker, settings
        self.messages: list[str] = []
        self.error: Exception | None = None

    def run(self, *, shelter: bool = True) -> None:
        try:
            with sheltered() if shelter else nullcontext():
                self.messages = launch(self._worker, self._settings)
        except Exception as error:  # a process was killed, or could not be started; the jobs' folders say more
            self.error = error


def _why(error: Exception | None, folder: Path) -> str:
    if error is None:
        return ""
    if type(error).__name__ in ("TerminatedWorkerError", "BrokenProcessPool"):
        return "one of joblib's processes was killed, and joblib then ends the others"
    there = f" (see {folder / FOLDER})" if (folder / FOLDER).exists() else ""
    return f"{type(error).__name__}: {shorten(' '.join(str(error).split()), 200)}{there}"
