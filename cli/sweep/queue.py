"""The jobs that submitit has submitted for a sweep, and which still wait or run: as processes here, or in Slurm."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

FOLDER = ".submitit"
"""Where submitit keeps, inside a sweep's folder, one for each job, named after its number."""

_SECONDS = 10.0  # between two queries to Slurm, which serves other users too
_PATIENCE = 60.0


class Queue:
    """The jobs of one launch.

    Args:
        launcher: "submitit_local" or "submitit_slurm"; others have no queue.
        sweep: the folder of the sweep.
        names: of the jobs, in the order in which they are submitted.
        before: whether those of earlier launches belong to it, instead of those of the next.
    """

    def __init__(self, launcher: str, sweep: Path, names: list[str], *, before: bool = False):
        self._launcher, self._folder, self._names = launcher, sweep / FOLDER, names
        self._old: set[str] = set()
        self._old = set() if before else self._submitted()
        self._asked, self._answer = -_SECONDS, set[str]()

    def is_complete(self) -> bool:
        """Whether all jobs were submitted."""
        return len(self._submitted()) >= len(self._names)

    def left(self) -> set[str]:
        """The jobs that wait or run."""
        if self._launcher == "submitit_local":
            return {number for number in self._submitted() if _is_our_child(int(number))}
        if self._launcher == "submitit_slurm" and self._submitted():
            if time.monotonic() - self._asked >= _SECONDS:
                self._answer, self._asked = _ask_slurm(self._answer), time.monotonic()
            return self._submitted() & self._answer
        return set()

    def has(self, name: str) -> bool:
        """Whether Slurm still has the job. Locks of files are not seen from every machine of every cluster."""
        if self._launcher != "submitit_slurm" or name not in self._names:
            return False
        last = f"_{self._names.index(name)}"
        return any(number.endswith(last) or "_" not in number for number in self.left())

    def cancel(self, *, running: bool) -> None:
        """Cancel the jobs that wait, or also those that run."""
        numbers = self.left()
        if self._launcher == "submitit_local" and running:
            for number in numbers:
                with suppress(OSError):
                    os.kill(int(number), signal.SIGTERM)  # which the process passes to its job
        elif self._launcher == "submitit_slurm" and numbers:
            states = [] if running else ["--state=PENDING"]
            _call(["scancel", "--quiet", *states, *sorted({number.partition("_")[0] for number in numbers})])
            self._asked = -_SECONDS

    def _submitted(self) -> set[str]:
        found = {path.parent.name for path in self._folder.glob("*/*_submitted.pkl")}
        return {number for number in found if number.replace("_", "").isdigit()} - self._old


def _is_our_child(process: int) -> bool:
    try:
        return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    except OSError:
        return False


def _ask_slurm(before: set[str]) -> set[str]:
    """The numbers of all jobs of this user; the previous answer if Slurm does not answer."""
    answer = _call(["squeue", "--me", "--array", "--noheader", "--format=%i"])
    return before if answer is None else set(answer.split())


def _call(command: list[str]) -> str | None:
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return ended.stdout if ended.returncode == 0 else None
