"""One job of a sweep, in the process where a launcher calls it. A failed job stops no running job."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracetorch.cli import project
from tracetorch.cli.errors import DONE, FAILED, INTERRUPTED, UsageError
from tracetorch.cli.execute import execute, record_refused
from tracetorch.cli.folders import check_links
from tracetorch.cli.sweep.plan import Job, sealed
from tracetorch.cli.sweep.stopping import STOP, ControllerProcess, StopListener, is_stopped
from tracetorch.cli.terminal import prepare
from tracetorch.renamed import WORKER, present
from tracetorch.runs.folder import RunFolder, state_of

OUTPUT = ".output"  # subfolder of a sweep for the output of jobs in other processes


@dataclass(frozen=True)
class Worker:
    """The callable that a launcher calls for each job."""

    folder: str  # of the sweep
    seal: str  # of its plan; see `plan.sealed`
    names: tuple[str, ...]  # of the jobs' folders; the launcher passes an index
    controller: ControllerProcess  # receives Ctrl-C; a job that is interrupted in it ends the sweep
    fail_fast: bool  # after a failure, no further job starts
    project: str = ""  # the folder of the user's project, for other processes
    new_length: bool = False  # whether completed jobs of another length go on

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Read a pickle, perhaps of an earlier version: a cluster's queue may hold one."""
        vars(self).update(present(WORKER, state))

    def __call__(self, at: int) -> str:
        """Run the job of an index. Returns: why it failed, or "". Raises: KeyboardInterrupt in the controller."""
        sweep, folder = Path(self.folder), Path(self.folder) / self.names[at]
        if is_stopped(sweep):
            return ""
        if not self.controller.is_this_process():
            _redirect(sweep / OUTPUT / f"{self.names[at]}.txt")
            project.choose(Path(self.project) if self.project else None)
        with self.controller.busy(), StopListener(sweep, self.controller) as listener:
            try:
                code, message = _run(folder, sealed(sweep, self.seal)[self.names[at]], listener, self.new_length)
            except KeyboardInterrupt:  # a second signal; a pool that runs other jobs must survive it
                code, message = INTERRUPTED, ""
            except BaseException as error:
                code, message = FAILED, str(error) or type(error).__name__
        if code == INTERRUPTED:
            if self.controller.is_this_process():
                raise KeyboardInterrupt
            listener.call_original_handler()
        elif code != DONE and self.fail_fast:
            (sweep / STOP).touch()
        return message

    def checkpoint(self, at: int) -> Any:
        """The call that submitit submits after a time limit, to continue the job."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, at)


def _run(folder: Path, job: Job, listener: StopListener, may_go_on: bool) -> tuple[int, str]:
    resume_from = RunFolder(folder) if folder.exists() else None
    new_length = False
    if resume_from:
        check_links(folder)
        state = state_of(folder)
        new_length = may_go_on and state.facts.get("id") != job.id
        if state.status == "completed" and not new_length:
            return DONE, ""
    options: dict[str, Any] = {"path": folder, "resume_from": resume_from, "new_length": new_length}
    try:
        outcome = execute(job.composed, job.overrides, **options, display=listener)
    except UsageError as error:
        record_refused(folder, job.composed, job.overrides, str(error))
        raise
    return INTERRUPTED if outcome.run.asked_to_stop else outcome.code, outcome.message


def _redirect(path: Path) -> None:
    """Redirect the output of this process to a file: the terminal shows the table. submitit does so by itself."""
    prepare()
    if "SUBMITIT_EXECUTOR" in os.environ:
        return
    with suppress(OSError):
        path.parent.mkdir(exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            for number, stream in enumerate((sys.stdout, sys.stderr), 1):
                stream.flush()
                os.dup2(file.fileno(), number)


def tidy(sweep: Path) -> None:
    """Remove the output files of jobs that printed nothing."""
    for path in (sweep / OUTPUT).glob("*.txt"):
        if path.stat().st_size == 0:
            path.unlink()
    with suppress(OSError):
        (sweep / OUTPUT).rmdir()
