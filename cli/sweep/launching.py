"""The jobs of a sweep, handed to a launcher; and what to do where it gives up before its jobs have ended."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

from tracetorch.cli.adapter.sweeping import launch, launcher_of
from tracetorch.cli.errors import shorten
from tracetorch.cli.sweep.job import Worker
from tracetorch.cli.sweep.queue import FOLDER, Queue
from tracetorch.cli.sweep.stopping import Attention, sheltered

_SECONDS = 0.5
_GRACE_SECONDS = 5.0


class Launched(NamedTuple):
    """How a launch ended."""

    messages: Sequence[str] = ()  # why each job failed, as far as it could say; none at all if there was trouble
    trouble: str = ""  # why the launcher stopped before its jobs had ended
    interrupted: bool = False


def carry_out(
    jobs: list[list[str]], settings: list[str], worker: Worker, *, queue: Queue, attention: Attention
) -> Launched:
    """Launch jobs, and return when none is at work any more. Raises: KeyboardInterrupt.

    A launcher of submitit raises at the first job that was killed, while others still run, and may learn of it only
    minutes later. So it has a thread of its own, and here the queue is what counts.
    """
    folder = Path(worker.folder)
    call = _Call(jobs, settings, folder, worker)
    if not launcher_of(settings).startswith("submitit"):
        call.run(shelter=launcher_of(settings) != "basic")
        return Launched(call.messages, _told(call.error, folder), attention.heard)
    thread = threading.Thread(target=call.run, daemon=True)
    thread.start()
    taken_back = False
    try:
        while thread.is_alive() or (call.error and queue.left()):
            thread.join(_SECONDS) if thread.is_alive() else time.sleep(_SECONDS)
            if attention.heard and not taken_back:
                queue.cancel(running=False)
                taken_back = True
            if queue.is_complete() and not queue.left():
                thread.join(_GRACE_SECONDS)  # the usual end
                break
    except KeyboardInterrupt:
        queue.cancel(running=True)
        raise
    return Launched(call.messages, "" if queue.is_complete() else _told(call.error, folder), attention.heard)


class _Call:
    """A call of the launcher, in whichever thread."""

    def __init__(self, jobs: list[list[str]], settings: list[str], folder: Path, worker: Worker):
        self._arguments, self._owner = (jobs, settings, folder, worker), worker.owner
        self.messages: list[str] = []
        self.error: Exception | None = None

    def run(self, *, shelter: bool = True) -> None:
        try:
            with sheltered() if shelter else nullcontext():
                self.messages = launch(*self._arguments, begin=self._owner.watch)
        except Exception as error:  # a process was killed, or could not be started; the jobs' folders say more
            self.error = error


def _told(error: Exception | None, folder: Path) -> str:
    if error is None:
        return ""
    if type(error).__name__ in ("TerminatedWorkerError", "BrokenProcessPool"):
        return "one of joblib's processes was killed, and joblib then ends the others"
    there = f" (see {folder / FOLDER})" if (folder / FOLDER).exists() else ""
    return f"{type(error).__name__}: {shorten(' '.join(str(error).split()), 200)}{there}"
