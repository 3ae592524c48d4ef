"""What a run shows while it runs: a live bar on a terminal, plain lines elsewhere, and a table at the end."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from tracetorch.cli.errors import DONE, complain
from tracetorch.cli.terminal import console
from tracetorch.printable import printable

if TYPE_CHECKING:
    from tracetorch.cli.execute import RunOutcome

_SECONDS_BETWEEN_LINES = 5.0
_NARROW = 60  # columns, below which there is no room for a bar
_COSTS = ("_seconds", "_per_second", "_bytes")  # endings of numbers that have rows of their own
_PHASES = {"evaluate_seconds": "testing", "plot_seconds": "drawing figures"}


class _Left(ProgressColumn):
    """Counts down to the time at which the run is expected to end."""

    def render(self, task: Task) -> Text:
        end: float | None = task.fields["end"]
        if end is None:
            return Text("")
        seconds = max(0, round(end - time.perf_counter()))
        return Text(f"{timedelta(seconds=seconds)} left", "progress.remaining")


class Display:
    """A run's listener.

    Args:
        experiment: what is run, for the first line.
        note: a line before that; "" for none.
    """

    metric = "loss"
    """The number to show next to the loss: the task's first metric."""

    def __init__(self, experiment: str, note: str = ""):
        self.console = console()
        self.experiment, self.note = experiment, note
        self._bar: Progress | None = None
        self._spoke = 0.0
        self._validation, self._numbers = "", ""

    def __call__(self, event: str, values: dict[str, Any]) -> None:
        {
            "start": self._start,
            "progress": self._progress,
            "phase": self._phase,
            "record": self._record,
            "end": self._end,
        }[event](values)

    def _start(self, values: dict[str, Any]) -> None:
        if self.note:
            self.console.print(self.note)
        again = " continues" if values["resumed"] else ""
        self.console.print(f"{self.experiment}{again} on {values['device']} → {values['folder']}")
        if lost := values.get("lost"):
            span = f"updates {lost['from_update']} to {lost['update']}"
            self.console.print(f"{lost['records']} records of {span} are lost; metrics.jsonl marks the gap")
        self._began, self._steps = time.perf_counter(), 0.0
        if self.console.is_interactive:
            self._is_narrow = self.console.width < _NARROW
            wide = () if self._is_narrow else (BarColumn(bar_width=None), TimeElapsedColumn())
            self._bar = Progress(TextColumn("{task.description}"), *wide[:1], MofNCompleteColumn(), *wide[1:], _Left())
            self._task = self._bar.add_task("training", total=None, end=None)
            self._live = Live(console=self.console, transient=True, refresh_per_second=8)
            self._live.start()

    def _progress(self, values: dict[str, Any]) -> None:
        if self._bar:
            speed = [f"{_short(self._steps)} steps/s"] if self._steps else []
            numbers = [*self._found(values), *([self._validation] if self._validation else []), *speed]
            self._numbers = ("\n" if self._is_narrow else " · ").join(numbers)
            left = values["left"]
            end = None if left is None else time.perf_counter() + left
            self._show(completed=values["done"], total=values["total"], description="training", end=end)

    def _phase(self, values: dict[str, Any]) -> None:
        """Show what the run does between and after updates."""
        if self._bar:
            self._show(description=_PHASES.get(values["name"], "training"))

    def _show(self, **changes: Any) -> None:
        assert self._bar
        self._bar.update(self._task, **changes)
        self._live.update(Group(self._bar, Text(self._numbers)))  # below the bar, so that both fit into 80 columns

    def _record(self, values: dict[str, Any]) -> None:
        self._steps = values.get("steps_per_second", self._steps)
        if values["split"] == "validation" and self.metric in values:
            self._validation = f"validation {_number(values[self.metric])}"
        now = time.perf_counter()
        if self._bar or (values["split"] == "train" and now - self._spoke < _SECONDS_BETWEEN_LINES):
            return
        if values["split"] == "train":
            self._spoke = now
        if values["split"] == "gradient":
            cosines = [_number(value) for name, value in values.items() if name.endswith(".weight.cosine")]
            self.console.print(f"update {values['update']:>6}  gradient    cosine {' '.join(cosines)}")
            return
        if values["split"] == "switch":
            took = values["recovery_decisions"]
            again = f"recovered after {took:,} decisions" if took is not None else "not recovered"
            again = again if values["fell"] else "no loss of performance"
            self.console.print(f"update {values['update']:>6}  switch {values['switch']:<3}  {again}")
            return
        speed = f"  {_short(self._steps)} steps/s" if values["split"] == "train" else ""
        found = "  ".join(self._found(values))
        self.console.print(f"update {values['update']:>6}  {values['split']:<10}  {found}{speed}")

    def _found(self, values: dict[str, Any]) -> list[str]:
        """The loss and the metric, where they are among the values: evaluations on rewards have no loss."""
        known = (name for name in ("loss", self.metric) if values.get(name) is not None)
        return [f"{printable(name)} {_number(values[name])}" for name in known]

    def _end(self, values: dict[str, Any]) -> None:
        del values
        if self._bar:
            self._live.stop()
            self._bar = None

    def conclude(self, outcome: RunOutcome, show_traceback: bool) -> int:
        """Print the end of a run: result, cost and folder; or why it has no result. Returns: the exit code."""
        if outcome.code != DONE:
            complain(outcome.message, outcome.error, show_traceback)
            return outcome.code
        run, summary = outcome.run, outcome.run.summary
        rows = [(name.replace("_", " "), _number(summary[name])) for name in _results(summary)]
        if "steps_per_second" in summary:
            each = f", {1000 * summary['update_seconds']:,.1f} ms each" if "update_seconds" in summary else ""
            trained = f"{summary['updates']:,} updates in {run.timings.get('train_seconds', 0.0):.1f} s{each}"
            rows += [
                ("trained for", trained),
                ("speed", f"{_short(summary['steps_per_second'])} time steps/s, batches of {outcome.batch_size}"),
            ]
        rows += [
            ("whole run", f"{summary['wall_seconds']:.1f} s"),
            ("memory", _memory(summary)),
            ("folder", str(run.shown)),
        ]
        table = Table(show_header=False, title=Text(f"{self.experiment}: {run.status}"), title_justify="left")
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in rows:
            table.add_row(name, Text(value))
        self.console.print(table, soft_wrap=not self.console.is_terminal)
        return DONE


def _results(summary: dict[str, Any]) -> list[str]:
    others = ("updates", "tested", "checkpoint")
    return [name for name in summary if name not in others and not name.endswith(_COSTS)]


def _memory(summary: dict[str, Any]) -> str:
    """Peak memory of the process, and that of training where it is known."""
    training = summary.get("training_memory_bytes")
    of_it = "" if training is None else f"; training {training / 2**20:,.1f} MiB"
    ends = [
        f"{summary[f'memory_{end}_bytes'] / 2**20:,.0f}"
        for end in ("first", "last")
        if f"memory_{end}_bytes" in summary
    ]
    through = f"; {' MiB at the start, '.join(ends)} MiB at the end" if ends else ""
    peak = summary["peak_memory_bytes"]
    return f"{'unknown' if peak is None else f'{peak / 2**20:,.0f} MiB'} peak{of_it}{through}"


def _number(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, int | float):
        return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
    return printable(value)  # a part may report text or a list


def _short(number: float) -> str:
    return f"{number / 1000:,.1f} k" if number >= 10_000 else f"{number:,.0f}"
