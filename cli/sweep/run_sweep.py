"""Plans a sweep as a whole, launches it, monitors its folders, and continues it after an interruption."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tracetorch.cli import project
from tracetorch.cli.adapter.presets import config_folders
from tracetorch.cli.compare_verb import draw_scatter
from tracetorch.cli.errors import DONE, INTERRUPTED, PARTLY, UsageError, complain, quote, shorten
from tracetorch.cli.folders import CHANGEABLE, check_links
from tracetorch.cli.sweep.job import Worker, tidy
from tracetorch.cli.sweep.launchers import change_launcher, launcher_of, options_of
from tracetorch.cli.sweep.launching import Launched, Queue, carry_out
from tracetorch.cli.sweep.monitor import SweepMonitor, metric_text
from tracetorch.cli.sweep.plan import (
    FILE,
    Job,
    Plan,
    changed_since,
    check_plan,
    lengthened,
    plan,
    read_plan,
    write_plan,
)
from tracetorch.cli.sweep.stopping import NOW, ControllerProcess, SignalGuard, clear_stop
from tracetorch.cli.terminal import console, print_table, say
from tracetorch.runs.folder import RunFolder, last_record, state_of
from tracetorch.runs.identity import hash_of
from tracetorch.runs.lock import BusyError, Lock

_MOST_ROWS = 40
_ORDER = ("failed", "killed", "broken", "unreadable", "interrupted", "absent", "running", "completed")


def run_sweep(typed: list[str], config_dir: Path | None, trust: list[str], *, fail_fast: bool) -> int:
    """Plan a sweep; run it in a new folder. Returns: the exit code. Raises: UsageError, with nothing left on disk."""
    planned = plan(typed, config_dir, trust)
    identity = hash_of([job.id for job in planned.jobs])
    try:
        folder = RunFolder.reserve(planned.root, f"{planned.experiment}/sweeps", identity, planned.path)
        lock = folder.take()
    except BusyError as error:
        raise UsageError(f"{error}; wait for it, or stop it first") from error
    except FileExistsError as error:
        path = planned.path
        is_sweep = path is not None and (path / FILE).exists()
        advice = f"to continue it: tracetorch resume {quote(path)}" if is_sweep else "name another folder"
        raise UsageError(f"{path} exists already; {advice}") from error
    except OSError as error:
        raise UsageError(f"cannot write to {error.filename}: {error.strerror}; choose another output.root") from error
    try:
        planned = write_plan(planned, folder.path)
    except UsageError:
        folder.remove()
        raise
    finally:
        lock.release()
    return _run_jobs(planned, folder.path, planned.jobs, fail_fast)


def resume_sweep(folder: Path, changes: list[str], trust: list[str], *, fail_fast: bool = False) -> int:
    """Run the unfinished jobs of a sweep. Returns: the exit code. Raises: UsageError if its folder is in use or broken.

    Args:
        changes: another launcher, or other settings of it; another length of all jobs.
        trust: packages whose parts the configs may name.
    """
    planned = read_plan(folder)
    for path in (folder, *(folder / job.name for job in planned.jobs)):
        if path.is_dir():
            check_links(path)
    lengths = [line for line in changes if line.partition("=")[0] in CHANGEABLE]
    changes = [line for line in changes if line not in lengths]
    planned = check_plan(planned, folder, changes, trust)
    queue = Queue(launcher_of(planned.settings), folder, [], earlier=True)
    planned = replace(planned, settings=change_launcher(planned.settings, changes))
    if lengths:
        _check_longer(planned, folder, lengths)
        planned = lengthened(planned, lengths)
    unfinished = []
    for job in planned.jobs:
        state = state_of(folder / job.name)
        if state.status != "completed" or state.facts.get("id") != job.id:
            unfinished.append(job)
    if not unfinished:
        _draw(planned, folder)
        remark = f"all {len(planned.jobs)} jobs of {folder} are completed"
        say(f"{remark}; to compare them: tracetorch compare {quote(folder)}")
        return DONE
    options_of(planned.settings)
    if numbers := queue.left():
        ids = " ".join(sorted({number.partition("_")[0] for number in numbers}))
        raise UsageError(f"Slurm still has jobs of {folder}: wait for them, or cancel them: scancel {ids}")
    if change := changed_since(planned, unfinished):
        say(f"the presets have changed since the start of the sweep: {change}; it continues with its own config")
    return _run_jobs(planned, folder, unfinished, fail_fast)


def _check_longer(planned: Plan, folder: Path, lengths: list[str]) -> None:
    """Raises: UsageError for a number of updates that a job has already done."""
    for line in lengths:
        key, _, value = line.partition("=")
        for job in planned.jobs if key == "train.updates" and value.isdecimal() else ():
            summary = state_of(folder / job.name).facts.get("summary")
            done = summary.get("updates") if isinstance(summary, dict) else None
            if isinstance(done, int) and done > int(value):
                raise UsageError(f"'{line}': {folder / job.name} has done {done} updates; give a longer length")


def _run_jobs(planned: Plan, folder: Path, jobs: list[Job], fail_fast: bool) -> int:
    """Run these jobs of a sweep. Returns: the exit code. Raises: UsageError if the folder is in use."""
    screen = console()
    try:
        lock = Lock(folder)
    except BusyError as error:
        raise UsageError(f"{error}; wait for it, or stop it first") from error
    if not planned.seal:  # an older version started it
        try:
            planned = write_plan(planned, folder)
        except UsageError:
            lock.release()
            raise
    completed = len(planned.jobs) - len(jobs)
    remark = f", {completed} already completed" if completed else ""
    say(*planned.notes, f"{planned.experiment}: {planned.count}{remark} → {folder}")
    names = [job.name for job in jobs]
    queue = Queue(launcher_of(planned.settings), folder.resolve(), names)
    own = project.current()
    root = str(own.root) if own else ""
    worker = Worker(
        str(folder.resolve()), planned.seal, tuple(names), ControllerProcess(), fail_fast, root, bool(planned.lengths)
    )
    try:
        clear_stop(folder)
        with SweepMonitor(screen, folder, planned.jobs, queue.has), SignalGuard(folder, screen.print) as guard:
            launched = carry_out(worker, planned.settings, queue=queue, guard=guard)
    except KeyboardInterrupt:
        launched = Launched(interrupted=True)
        with suppress(OSError):
            (folder / NOW).touch()  # for jobs in other processes
    finally:
        lock.release()
        tidy(folder)
    return _conclude(screen, planned, folder, launched, dict(zip(names, launched.messages, strict=False)))


def _draw(planned: Plan, folder: Path) -> None:
    """Draw the figures of the preset. A figure that cannot be drawn is reported; it is not an error."""
    for figure in planned.figures:
        try:
            message = draw_scatter(folder, figure.by, figure.metric, figure.scatter)
        except UsageError as error:
            message = f"{figure.metric or 'result'} against {figure.scatter} is not drawn: {error}"
        say(message)


def _is_older_than_presets(path: Path) -> bool:
    """Whether a file of `conf/` is newer than this file; False if that is unknown."""
    try:
        modified = path.stat().st_mtime
        presets = (preset for folder in config_folders(None) for preset in folder.rglob("*.yaml"))
        return any(preset.stat().st_mtime > modified for preset in presets)
    except (OSError, UsageError):
        return False


def _with_relative_paths(text: str) -> str:
    """Make paths in a message relative to the working directory: absolute paths fill a table's row."""
    with suppress(OSError):  # a directory that was removed meanwhile
        return text.replace(f"{Path.cwd()}{os.sep}", "")
    return text


def _conclude(screen: Console, planned: Plan, folder: Path, launched: Launched, messages: dict[str, str]) -> int:
    """Print the table at the end, and the next command. Args: messages: by job. Returns: the exit code."""
    states = [(job, state_of(folder / job.name)) for job in planned.jobs]
    for at, (job, state) in enumerate(states):
        if messages.get(job.name) and state.status in ("absent", "killed"):  # a full disk has no record of the failure
            states[at] = job, state._replace(status="failed")
        elif planned.lengths and state.status == "completed" and state.facts.get("id") != job.id:  # of another length
            states[at] = job, state._replace(status="failed" if messages.get(job.name) else "interrupted")
    done = sum(state.status == "completed" for _, state in states)
    table = Table(title_justify="left")
    for name in ("job", "varies", "status", "result"):
        table.add_column(name, no_wrap=name in ("job", "status"), overflow="fold")
    table.title = Text(f"{planned.experiment}: {done} of {len(states)} completed")
    ordered = sorted(states, key=lambda pair: _ORDER.index(pair[1].status)) if len(states) > _MOST_ROWS else states
    for job, state in ordered[:_MOST_ROWS]:
        metric = metric_text(last_record(folder / job.name)) if state.status == "completed" else ""
        reason = "" if state.status == "interrupted" else messages.get(job.name) or state.error
        result = metric or shorten(" ".join(_with_relative_paths(reason).split()), 200)
        status = "not run" if state.status == "absent" else state.status
        table.add_row(Text(job.name.partition("_")[0]), Text(job.varies), status, Text(result))
    print_table(screen, table)
    if len(ordered) > _MOST_ROWS:
        say(f"and {len(ordered) - _MOST_ROWS} more, in {folder}")
    if launched.trouble:
        complain(f"the launcher stopped: {launched.trouble}")
    if done and not launched.interrupted:
        _draw(planned, folder)
    if _is_older_than_presets(folder / FILE) and (change := changed_since(planned, planned.jobs)):
        say(f"the presets were edited during the sweep: {change}; all jobs ran with the config from its start")
    quoted = quote(folder)
    if done == len(states):
        say(f"to compare the jobs: tracetorch compare {quoted}")
        return DONE
    hint = f"{len(states) - done} of {len(states)} jobs are not completed; to continue: tracetorch resume {quoted}"
    complain(f"interrupted; {hint}" if launched.interrupted else hint)
    return INTERRUPTED if launched.interrupted else PARTLY
