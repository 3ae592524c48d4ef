"""Hands the jobs of a sweep to a launcher, and tracks the jobs that submitit has submitted."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from tracetorch.cli.errors import shorten
from tracetorch.cli.sweep.job import Worker
from tracetorch.cli.sweep.launchers import LOCAL, launcher_of, options_of
from tracetorch.cli.sweep.stopping import SignalGuard, sigint_blocked

FOLDER = ".submitit"
"""Subfolder of a sweep in which submitit keeps a folder for each job, named after the job's number."""

_POLL_SECONDS = 0.5
_GRACE_SECONDS = 5.0  # for submitit to return, after the last job has ended
_QUERY_SECONDS = 10.0  # between two queries to Slurm, which serves other users too
_TIMEOUT_SECONDS = 60.0  # of a command of Slurm


def launch(worker: Worker, settings: list[str]) -> list[str]:
    """Run all jobs through the launcher that the settings name. Returns: the results of `worker`.

    Raises: an error of the launcher if a process was killed; KeyboardInterrupt.
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
    """Suppress the launchers' own messages: the messages of a job are in its folder."""
    logger = logging.getLogger("submitit")
    was_disabled, logger.disabled = logger.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"joblib|submitit")
            yield
    finally:
        logger.disabled = was_disabled


@dataclass
class Launched:
    """The report of a launcher after its jobs."""

    messages: Sequence[str] = ()  # for each job: why it failed, or ""; empty if the launcher stopped early
    trouble: str = ""  # why the launcher stopped before its jobs had ended
    interrupted: bool = False


class Queue:
    """The jobs that submitit submits in the next launch; empty for other launchers.

    Args: names: of the jobs, in the order of submission. earlier: hold the jobs of earlier launches instead.
    """

    def __init__(self, launcher: str, sweep: Path, names: list[str], *, earlier: bool = False):
        self._launcher, self._folder, self._names = launcher, sweep / FOLDER, names
        self._old: set[str] = set()
        self._old = set() if earlier else self._submitted()
        self._queried_at, self._answer = -_QUERY_SECONDS, set[str]()

    def is_complete(self) -> bool:
        return len(self._submitted()) >= len(self._names)

    def left(self) -> set[str]:
        """The jobs that wait or run. While Slurm does not answer, its previous answer is used."""
        if self._launcher == "submitit_local":
            return {number for number in self._submitted() if _is_running_child(int(number))}
        if self._launcher == "submitit_slurm" and self._submitted():
            if time.monotonic() - self._queried_at >= _QUERY_SECONDS:
                answer = _call(["squeue", "--me", "--array", "--noheader", "--format=%i"])
                self._answer = self._answer if answer is None else set(answer.split())
                self._queried_at = time.monotonic()
            return self._submitted() & self._answer
        return set()

    def has(self, name: str) -> bool:
        """Whether Slurm still has the job. On some clusters, a file lock is not visible on other machines."""
        if self._launcher != "submitit_slurm" or name not in self._names:
            return False
        last = f"_{self._names.index(name)}"
        return any(number.endswith(last) or "_" not in number for number in self.left())

    def cancel(self, *, all_jobs: bool) -> None:
        """Cancel the waiting jobs. Args: all_jobs: also the running ones."""
        numbers = self.left()
        if self._launcher == "submitit_local" and all_jobs:
            for number in numbers:
                with suppress(OSError):
                    os.kill(int(number), signal.SIGTERM)  # the process passes it to its job
        elif self._launcher == "submitit_slurm" and numbers:
            states = [] if all_jobs else ["--state=PENDING"]
            _call(["scancel", "--quiet", *states, *sorted({number.partition("_")[0] for number in numbers})])
            self._queried_at = -_QUERY_SECONDS

    def _submitted(self) -> set[str]:
        """The numbers of the jobs, such as 11 or, in an array of Slurm, 11_0."""
        found = {path.parent.name for path in self._folder.glob("*/*_submitted.pkl")}
        return {number for number in found if number.replace("_", "").isdigit()} - self._old


def _is_running_child(process: int) -> bool:
    """Whether a process is a child of this one, and runs."""
    try:
        return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    except OSError:
        return False


def _call(command: list[str]) -> str | None:
    """The output of a command; None if it failed."""
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return ended.stdout if ended.returncode == 0 else None


def carry_out(worker: Worker, settings: list[str], *, queue: Queue, guard: SignalGuard) -> Launched:
    """Launch jobs, and return when all have ended. Raises: KeyboardInterrupt.

    submitit raises for the first job that was killed, perhaps minutes later, while others still run. So it is called in
    a thread, and the queue shows when the jobs have ended.
    """
    name, launched = launcher_of(settings), Launched()

    def call() -> None:
        try:
            with nullcontext() if name == "basic" else sigint_blocked():
                launched.messages = launch(worker, settings)
        except Exception as error:  # a process was killed, or could not be started; the jobs' folders have details
            kind, folder = type(error).__name__, Path(worker.folder) / FOLDER
            hint = f" (see {folder})" if folder.exists() else ""
            if kind in ("TerminatedWorkerError", "BrokenProcessPool"):
                launched.trouble = "one of joblib's processes was killed, and joblib then ends the others"
            else:
                launched.trouble = f"{kind}: {shorten(' '.join(str(error).split()), 200)}{hint}"

    if not name.startswith("submitit"):
        call()
        return replace(launched, interrupted=guard.is_stopping)
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    has_cancelled = False
    try:
        while thread.is_alive() or (launched.trouble and queue.left()):
            thread.join(_POLL_SECONDS) if thread.is_alive() else time.sleep(_POLL_SECONDS)
            if guard.is_stopping and not has_cancelled:
                queue.cancel(all_jobs=False)
                has_cancelled = True
            if queue.is_complete() and not queue.left():
                thread.join(_GRACE_SECONDS)  # the usual end
                break
    except KeyboardInterrupt:
        queue.cancel(all_jobs=True)
        raise
    return Launched(launched.messages, "" if queue.is_complete() else launched.trouble, guard.is_stopping)
