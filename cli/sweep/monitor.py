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

_SECONDS = 0.5
_MOST_ROWS = 20
_COLUMNS = ("job", "varies", "status", "update", "metric so far")
_OTHER_ROWS = 4  # of a terminal: the names of the columns, the counts, and room for the prompt
COLOURS = {
    **{"completed": "green", "running": "cyan"},
    **dict.fromkeys(("failed", "killed", "broken", "unreadable"), "red"),
}


class SweepMonitor:
    """Follows all jobs of a sweep from a thread, while a launcher runs them in the body.

    Args: is_queued: whether a launcher still has the job of this name.
    """

    def __init__(self, console: Console, folder: Path, jobs: list[Job], is_queued: Callable[[str], bool]):
        self._console, self._folder, self._jobs, self._is_queued = console, folder, jobs, is_queued
        self._before = {job.name: state_of(folder / job.name) for job in jobs}
        self._states = dict(self._before)
        self._reported = {name: "completed" for name, state in self._before.items() if state.status == "completed"}
        self._doubted: set[str] = set()
        self._began, self._done_before = time.perf_counter(), self._fraction()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._live = Live(console=console, transient=True, auto_refresh=False) if console.is_interactive else None

    def __enter__(self) -> SweepMonitor:
        if self._live:
            self._live.start()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()
        self._look(last=True)
        if self._live:
            self._live.stop()

    def _follow(self) -> None:
        while not self._over.wait(_SECONDS):
            self._look()
            if self._live:
                self._live.update(self._picture(), refresh=True)

    def _look(self, *, last: bool = False) -> None:
        """Read the states of jobs that are not completed, and report those that have ended since the last look."""
        for job in self._jobs:
            if self._reported.get(job.name) == "completed":
                continue
            state = self._read(job.name, last)
            self._states[job.name] = state
            if not state.is_over:
                self._reported.pop(job.name, None)  # a cluster may submit an interrupted job again
            elif state != self._before[job.name] and self._reported.get(job.name) != state.status:
                self._reported[job.name] = state.status
                self._report(job, state)

    def _read(self, name: str, last: bool) -> RunState:
        """The state of a job; "killed" only if it was seen twice and the launcher no longer has the job."""
        state = state_of(self._folder / name)
        if state.status != "killed" or state == self._before[name]:
            self._doubted.discard(name)
        elif not last and (name not in self._doubted or self._is_queued(name)):
            self._doubted.add(name)  # it may not have locked its new folder yet, or its lock is not visible
            return state._replace(status="running", error="")
        return state

    def _report(self, job: Job, state: RunState) -> None:
        why = f": {shorten(' '.join(state.error.split()), 200)}" if state.error else ""
        metric = metric_text(last_record(self._folder / job.name)) if state.status == "completed" else ""
        number = f"  {metric}" if metric else ""
        status = state.status, COLOURS.get(state.status, "")
        self._console.print(Text.assemble(f"{job.name}  ", status, f"{number}{why}"))

    def _fraction(self) -> float:
        """The finished work, in units of jobs."""
        done = 0.0
        for job in self._jobs:
            state = self._states[job.name]
            if state.status == "completed" or job.name in self._reported:
                done += 1
            elif planned := state.facts.get("planned_updates"):
                done += min(1.0, last_record(self._folder / job.name).get("update", 0) / planned)
        return done

    def _picture(self) -> Group:
        """A line for each running job and for the next ones, as far as the terminal has room, and a line of counts."""
        waiting = [job for job in self._jobs if self._state(job) == "absent"]
        shown = [job for job in self._jobs if self._state(job) == "running"] + waiting
        rows = [self._row(job) for job in shown[: max(1, min(_MOST_ROWS, self._console.height - _OTHER_ROWS))]]
        widths = [max(map(len, column)) for column in zip(_COLUMNS, *rows, strict=True)]
        gaps = 2 * (len(widths) - 1)
        room = self._console.width - sum(widths) + widths[1] - gaps  # for the second column, which may be long
        table = Table(box=None, pad_edge=False)
        for name in _COLUMNS:
            table.add_column(name, justify="right" if name == "update" else "left")
        for number, varies, status, *numbers in rows:
            words = Text(status, COLOURS.get(status, "dim"))
            table.add_row(number, Text(shorten(varies, max(1, room))), words, *numbers)
        counts = Counter({"completed": 0, "failed": 0, "running": 0})  # in this order
        counts.update(map(self._state, self._jobs))
        said = [f"{count} {status}" for status, count in counts.items() if count and status != "absent"]
        said += [f"{len(waiting)} waiting"] if waiting else []
        return Group(table, Text(f"{' · '.join(said)} of {len(self._jobs)}{self._left()}"))

    def _row(self, job: Job) -> tuple[str, ...]:
        record, state = last_record(self._folder / job.name), self._states[job.name]
        update = f"{record['update']}/{state.facts.get('planned_updates')}" if "update" in record else ""
        status = "waiting" if self._state(job) == "absent" else state.status
        return job.name.partition("_")[0], job.varies, status, update, metric_text(record)

    def _state(self, job: Job) -> str:
        """The status of a job; "absent" also if the job stopped in an earlier launch and has yet to continue."""
        state = self._states[job.name]
        return "absent" if state.is_over and job.name not in self._reported else state.status

    def _left(self) -> str:
        """The estimated remaining time of the sweep, from the work done since its start."""
        done, seconds = self._fraction(), time.perf_counter() - self._began
        if done - self._done_before < 0.01:
            return ""
        left = seconds * (len(self._jobs) - done) / (done - self._done_before)
        return f" · {int(left) // 3600}:{int(left) // 60 % 60:02}:{int(left) % 60:02} left"


def metric_text(record: dict[str, Any]) -> str:
    """The metric of a record, such as "accuracy 0.9312"; "" if it has none."""
    found = metric_of(record)
    return f"{found[0]} {found[1]:.4f}" if found else ""
