"""Progress of a sweep, read from its folders: a live table on a terminal, elsewhere a line for each job that ends."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tracetorch.cli.errors import shorten
from tracetorch.cli.sweep.plan import Job
from tracetorch.runs.folder import RunState, last_record, metric_of, state_of

_POLL_SECONDS = 0.5
_MOST_ROWS = 20
_COLUMNS = ("job", "varies", "status", "update", "metric so far")
_OTHER_ROWS = 4  # of a terminal: the names of the columns, the counts, and the prompt
COLOURS = {
    **{"completed": "green", "running": "cyan"},
    **dict.fromkeys(("failed", "killed", "broken", "unreadable"), "red"),
}


class SweepMonitor:
    """Shows the progress of all jobs of a sweep from a thread, while the body runs them.

    Args: is_queued: whether a launcher still has the job of this name.
    """

    def __init__(self, console: Console, folder: Path, jobs: list[Job], is_queued: Callable[[str], bool]):
        self._console, self._folder, self._jobs, self._is_queued = console, folder, jobs, is_queued
        self._initial_states = {job.name: state_of(folder / job.name) for job in jobs}
        self._states = dict(self._initial_states)
        completed = [name for name, state in self._initial_states.items() if state.status == "completed"]
        self._reported = dict.fromkeys(completed, "completed")  # the last reported status, by job
        self._seen_killed: set[str] = set()
        self._started_at, self._initial_work = time.perf_counter(), self._work_done()
        self._has_ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._live = Live(console=console, transient=True, auto_refresh=False) if console.is_interactive else None

    def __enter__(self) -> SweepMonitor:
        if self._live:
            self._live.start()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._has_ended.set()
        self._thread.join()
        self._poll(last=True)
        if self._live:
            self._live.stop()

    def _follow(self) -> None:
        while not self._has_ended.wait(_POLL_SECONDS):
            self._poll()
            if self._live:
                self._live.update(self._table(), refresh=True)

    def _poll(self, *, last: bool = False) -> None:
        """Read the states of the jobs that are not completed, and report those that ended since the last poll."""
        for job in self._jobs:
            if self._reported.get(job.name) == "completed":
                continue
            state = self._read(job.name, last)
            self._states[job.name] = state
            if not state.is_over:
                self._reported.pop(job.name, None)  # a cluster may submit an interrupted job again
            elif state != self._initial_states[job.name] and self._reported.get(job.name) != state.status:
                self._reported[job.name] = state.status
                self._report(job, state)

    def _read(self, name: str, last: bool) -> RunState:
        """The state of a job. A new "killed" counts at the last poll, or if seen twice while the job is not queued."""
        state = state_of(self._folder / name)
        if state.status != "killed" or state == self._initial_states[name]:
            self._seen_killed.discard(name)
        elif not last and (name not in self._seen_killed or self._is_queued(name)):
            self._seen_killed.add(name)  # it may not have locked its new folder yet, or its lock is not visible
            return state._replace(status="running", error="")
        return state

    def _report(self, job: Job, state: RunState) -> None:
        reason = f": {shorten(' '.join(state.error.split()), 200)}" if state.error else ""
        metric = metric_text(last_record(self._folder / job.name)) if state.status == "completed" else ""
        result = f"  {metric}" if metric else ""
        status = state.status, COLOURS.get(state.status, "")
        self._console.print(Text.assemble(f"{job.name}  ", status, f"{result}{reason}"))

    def _work_done(self) -> float:
        """The finished work, in units of jobs."""
        done = 0.0
        for job in self._jobs:
            state = self._states[job.name]
            if state.status == "completed" or job.name in self._reported:
                done += 1
            elif planned := state.facts.get("planned_updates"):
                done += min(1.0, last_record(self._folder / job.name).get("update", 0) / planned)
        return done

    def _table(self) -> Group:
        """A line for each running job and for the next ones, as far as the terminal has room, and a line of counts."""
        waiting = [job for job in self._jobs if self._status(job) == "absent"]
        shown = [job for job in self._jobs if self._status(job) == "running"] + waiting
        rows = [self._row(job) for job in shown[: max(1, min(_MOST_ROWS, self._console.height - _OTHER_ROWS))]]
        widths = [max(map(len, column)) for column in zip(_COLUMNS, *rows, strict=True)]
        gaps = 2 * (len(widths) - 1)
        room = self._console.width - sum(widths) + widths[1] - gaps  # for the second column, which may be long
        table = Table(box=None, pad_edge=False)
        for name in _COLUMNS:
            table.add_column(name, justify="right" if name == "update" else "left")
        for number, varies, status, *numbers in rows:
            coloured = Text(status, COLOURS.get(status, "dim"))
            table.add_row(number, Text(shorten(varies, max(1, room))), coloured, *numbers)
        counts = Counter({"completed": 0, "failed": 0, "running": 0})  # in this order
        counts.update(map(self._status, self._jobs))
        parts = [f"{count} {status}" for status, count in counts.items() if count and status != "absent"]
        parts += [f"{len(waiting)} waiting"] if waiting else []
        return Group(table, Text(f"{' · '.join(parts)} of {len(self._jobs)}{self._time_left()}"))

    def _row(self, job: Job) -> tuple[str, ...]:
        record, state = last_record(self._folder / job.name), self._states[job.name]
        update = f"{record['update']}/{state.facts.get('planned_updates')}" if "update" in record else ""
        status = "waiting" if self._status(job) == "absent" else state.status
        return job.name.partition("_")[0], job.varies, status, update, metric_text(record)

    def _status(self, job: Job) -> str:
        """The status of a job; "absent" also if the job stopped in an earlier launch and has yet to continue."""
        state = self._states[job.name]
        return "absent" if state.is_over and job.name not in self._reported else state.status

    def _time_left(self) -> str:
        """The estimated time until the sweep ends, from the work that this launch has done; "" at its start."""
        done, seconds = self._work_done(), time.perf_counter() - self._started_at
        if done - self._initial_work < 0.01:
            return ""
        seconds_left = int(seconds * (len(self._jobs) - done) / (done - self._initial_work))
        return f" · {seconds_left // 3600}:{seconds_left // 60 % 60:02}:{seconds_left % 60:02} left"


def metric_text(record: dict[str, Any]) -> str:
    """The metric of a record, such as "accuracy 0.9312"; "" if it has none."""
    metric = metric_of(record)
    return f"{metric[0]} {metric[1]:.4f}" if metric else ""
