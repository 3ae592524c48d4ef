"""A sweep as it goes: a live table on a terminal, elsewhere a line for each job that ends; read from the folders."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tracetorch.cli.errors import shorten
from tracetorch.cli.sweep.plan import Job
from tracetorch.runs.state import State, last_record, metric_of, state_of

_SECONDS = 0.5
_MOST_ROWS = 20
COLOURS = {"completed": "green", "failed": "red", "killed": "red", "broken": "red", "running": "cyan"}


class Watch:
    """Follows the jobs from a thread of its own, while a launcher is at work in this one.

    Args:
        folder: of the sweep.
        jobs: all of them, also those that were done before.
    Example: `with Watch(folder, jobs): launch(…)`
    """

    def __init__(self, console: Console, folder: Path, jobs: list[Job]):
        self._console, self._folder, self._jobs = console, folder, jobs
        self._before = {job.name: state_of(folder / job.name) for job in jobs}
        self._states = dict(self._before)
        self._told = {name for name, state in self._before.items() if state.status == "completed"}
        self._began, self._done_before = time.perf_counter(), self._fraction()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._live = Live(console=console, transient=True, auto_refresh=False) if console.is_terminal else None

    def __enter__(self) -> Watch:
        if self._live:
            self._live.start()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self._look()
        if self._live:
            self._live.stop()

    def _follow(self) -> None:
        while not self._over.wait(_SECONDS):
            self._look()
            if self._live:
                self._live.update(self._picture(), refresh=True)

    def _look(self) -> None:
        """Read what is not over yet, and tell of what has ended since the last look."""
        for job in self._jobs:
            if job.name in self._told:
                continue
            state = self._states[job.name] = state_of(self._folder / job.name)
            if state.is_over and state != self._before[job.name]:
                self._told.add(job.name)
                self._tell(job, state)

    def _tell(self, job: Job, state: State) -> None:
        why = f": {shorten(' '.join(state.error.split()), 200)}" if state.error else ""
        found = metric_of(last_record(self._folder / job.name))
        number = f"  {found[0]} {found[1]:.4f}" if found and state.status == "completed" else ""
        line = Text(f"{job.name}  ")
        line.append(state.status, COLOURS.get(state.status, ""))
        self._console.print(line.append(f"{number}{why}"))

    def _fraction(self) -> float:
        """How much of all work is done, in jobs."""
        done = 0.0
        for job in self._jobs:
            state = self._states[job.name]
            if state.status == "completed" or job.name in self._told:
                done += 1
            elif planned := state.facts.get("planned_updates"):
                done += min(1.0, last_record(self._folder / job.name).get("update", 0) / planned)
        return done

    def _picture(self) -> Group:
        table = Table(box=None, pad_edge=False)
        for name in ("job", "varies", "status", "update", "metric so far"):
            table.add_column(name, no_wrap=name == "status")
        running = [job for job in self._jobs if self._state(job) == "running"]
        others = [job for job in self._jobs if job not in running]
        shown = [*running, *[job for job in others if self._state(job) == "absent"]][:_MOST_ROWS]
        for job in shown:
            record = last_record(self._folder / job.name)
            found, status = metric_of(record), self._state(job)
            metric = f"{found[0]} {found[1]:.4f}" if found else ""
            words = Text("waiting" if status == "absent" else status, COLOURS.get(status, "dim"))
            table.add_row(job.name.partition("_")[0], job.varies, words, str(record.get("update", "")), metric)
        counts = dict.fromkeys(("completed", "failed", "running"), 0)
        for job in self._jobs:
            counts[self._state(job)] = counts.get(self._state(job), 0) + 1
        said = [f"{count} {status}" for status, count in counts.items() if count and status != "absent"]
        said += [f"{counts['absent']} waiting"] if counts.get("absent") else []
        return Group(table, Text(f"{' · '.join(said)} of {len(self._jobs)}{self._left()}"))

    def _state(self, job: Job) -> str:
        """Its status; one that was stopped before and will be taken up again is still to come."""
        state = self._states[job.name]
        return "absent" if state.is_over and job.name not in self._told else state.status

    def _left(self) -> str:
        """How long the whole may still take, by what was done since the start."""
        done, seconds = self._fraction(), time.perf_counter() - self._began
        if done - self._done_before < 0.01:
            return ""
        left = seconds * (len(self._jobs) - done) / (done - self._done_before)
        return f" · {int(left) // 3600}:{int(left) // 60 % 60:02}:{int(left) % 60:02} left"
