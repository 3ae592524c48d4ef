"""Sweeps: planned as a whole, launched by Hydra, watched through their folders, taken up again where they stopped."""

from __future__ import annotations

import os
import shlex
from contextlib import suppress
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tracetorch.cli.adapter.sweeping import launch
from tracetorch.cli.errors import DONE, INTERRUPTED, PARTLY, UsageError, complain, shorten
from tracetorch.cli.sweep.job import STOP, Worker, stop
from tracetorch.cli.sweep.plan import FILE, Job, Plan, plan, read

__all__ = ["FILE", "plan", "read", "resume_sweep", "run_sweep"]

_MOST_ROWS = 40
_ORDER = ("failed", "killed", "broken", "interrupted", "absent", "running", "completed")


def run_sweep(typed: list[str], *, fail_fast: bool) -> int:
    """Plan, reserve a folder, run all. Returns: the exit code. Raises: UsageError with nothing left on disk."""
    from tracetorch.runs.folder import RunFolder
    from tracetorch.runs.identity import hash_of

    planned = plan(typed)
    identity = hash_of([job.id for job in planned.jobs])
    try:
        folder = RunFolder.reserve(planned.root, f"{planned.experiment}/sweeps", identity, planned.exactly)
    except FileExistsError as error:
        where = planned.exactly
        raise UsageError(f"{where} exists already; tracetorch resume {where} goes on with it") from error
    except OSError as error:
        raise UsageError(f"cannot write to {error.filename}: {error.strerror}; choose another output.root") from error
    try:
        folder.write_json(FILE, planned.content())
    except OSError as error:
        folder.remove()
        raise UsageError(f"cannot write to {folder.path}: {error.strerror}") from error
    return _go(planned, folder.path, planned.jobs, fail_fast)


def resume_sweep(folder: Path, *, fail_fast: bool = False) -> int:
    """Run what is not completed. Returns: the exit code. Raises: UsageError if the folder is broken, or in use."""
    from tracetorch.runs.state import state_of

    planned = read(folder)
    (folder / STOP).unlink(missing_ok=True)
    left = []
    for job in planned.jobs:
        state = state_of(folder / job.name)
        if state.status != "completed" or state.facts.get("id") != job.id:
            left.append(job)
    if not left:
        print(f"all {len(planned.jobs)} jobs of {folder} are completed: tracetorch compare {folder}")
        return DONE
    return _go(planned, folder, left, fail_fast)


def _go(planned: Plan, folder: Path, jobs: list[Job], fail_fast: bool) -> int:
    from tracetorch.cli.sweep.watch import Watch
    from tracetorch.runs.lock import BusyError, Lock

    console = Console(highlight=False, soft_wrap=True)
    try:
        lock = Lock(folder)
    except BusyError as error:
        raise UsageError(f"{error}; wait for it, or stop it first") from error
    before = len(planned.jobs) - len(jobs)
    again = f", {before} of them done before" if before else ""
    console.print(f"{planned.experiment}: {len(planned.jobs)} jobs{again} → {folder}", markup=False)
    worker = Worker(str(folder.resolve()), tuple(job.name for job in jobs), os.getpid(), fail_fast)
    interrupted, trouble = False, ""
    try:
        with Watch(console, folder, planned.jobs):
            try:
                launch([job.overrides for job in jobs], planned.settings, folder.resolve(), worker)
            except Exception as error:  # a launcher whose process was killed; what the jobs did is in their folders
                trouble = f"{type(error).__name__}: {shorten(' '.join(str(error).split()), 200)}"
    except KeyboardInterrupt:
        interrupted = True
        with suppress(OSError):
            stop(folder)  # for jobs that a launcher has in other processes
    finally:
        lock.release()
    return _conclude(console, planned, folder, interrupted, trouble)


def _conclude(console: Console, planned: Plan, folder: Path, interrupted: bool, trouble: str) -> int:
    """The table at the end, and what to do next. Returns: the exit code."""
    from tracetorch.runs.state import last_record, metric_of, state_of

    states = [(job, state_of(folder / job.name)) for job in planned.jobs]
    done = sum(state.status == "completed" for _, state in states)
    table = Table("job", "varies", "status", "result", title_justify="left")
    table.title = f"{planned.experiment}: {done} of {len(states)} completed"
    ordered = sorted(states, key=lambda pair: _ORDER.index(pair[1].status)) if len(states) > _MOST_ROWS else states
    for job, state in ordered[:_MOST_ROWS]:
        found = metric_of(last_record(folder / job.name)) if state.status == "completed" else None
        result = f"{found[0]} {found[1]:.4f}" if found else shorten(" ".join(state.error.split()), 100)
        status = "not run" if state.status == "absent" else state.status
        table.add_row(job.name.partition("_")[0], Text(job.varies), status, Text(result))
    console.print(table)
    if len(ordered) > _MOST_ROWS:
        console.print(f"and {len(ordered) - _MOST_ROWS} more, in {folder}", markup=False)
    if trouble:
        complain(f"the launcher stopped: {trouble}", None, False)
    quoted = shlex.quote(str(folder))
    if done == len(states):
        console.print(f"tracetorch compare {quoted}", markup=False)
        return DONE
    left = f"{len(states) - done} of {len(states)} jobs are not completed: tracetorch resume {quoted} goes on with them"
    complain(f"interrupted; {left}" if interrupted else left, None, False)
    return INTERRUPTED if interrupted else PARTLY
