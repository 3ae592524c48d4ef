"""The output of a run: a live bar on a terminal, plain lines elsewhere, and a table at the end."""

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
from tracetorch.cli.terminal import console, print_table
from tracetorch.printable import printable

if TYPE_CHECKING:
    from tracetorch.cli.execute import RunOutcome

_SECONDS_BETWEEN_LINES = 5.0
_NARROW = 60  # columns, below which there is no room for a bar
_COSTS = ("_seconds", "_per_second", "_bytes")  # endings of numbers that have rows of their own
_OTHERS = ("updates", "tested", "checkpoint")  # entries of the summary that are not results
_PHASES = {"evaluate_seconds": "testing", "plot_seconds": "drawing figures"}


class _Left(ProgressColumn):
    """Counts down to the expected end of the run."""

    def render(self, task: Task) -> Text:
        end: float | None = task.fields["end"]
        if end is None:
            return Text("")
        seconds = max(0, round(end - time.perf_counter()))
        return Text(f"{timedelta(seconds=seconds)} left", "progress.remaining")


class Display:
    """A run's listener that prints progress. Args: experiment: for the first line. note: a line before it, or ""."""

    metric = "loss"  # the number to show next to the loss: the task's first metric

    def __init__(self, experiment: str, note: str = ""):
        self.console = console()
        self.experiment, self.note = experiment, note
        self._bar: Progress | None = None
        self._spoke = 0.0
        self._validation, self._numbers = "", ""

    def __call__(self, event: str, values: dict[str, Any]) -> None:
        match event:
            case "start":
                self._start(values)
            case "progress":
                self._progress(values)
            case "phase" if self._bar:  # testing or drawing
                self._show(description=_PHASES.get(values["name"], "training"))
            case "record":
                self._record(values)
            case "end" if self._bar:
                self._live.stop()
                self._bar = None

    def _start(self, values: dict[str, Any]) -> None:
        if self.note:
            self.console.print(self.note)
        again = " continues" if values["resumed"] else ""
        self.console.print(f"{self.experiment}{again} on {values['device']} → {values['folder']}")
        if lost := values.get("lost"):
            span = f"updates {lost['from_update']} to {lost['update']}"
            self.console.print(f"{lost['records']} records of {span} are lost; metrics.jsonl marks the gap")
        self._steps = 0.0
        if self.console.is_interactive:
            self._is_narrow = self.console.width < _NARROW
            wide = () if self._is_narrow else (BarColumn(bar_width=None), TimeElapsedColumn())
            self._bar = Progress(TextColumn("{task.description}"), *wide[:1], MofNCompleteColumn(), *wide[1:], _Left())
            self._task = self._bar.add_task("training", total=None, end=None)
            self._live = Live(console=self.console, transient=True, refresh_per_second=8)
            self._live.start()

    def _progress(self, values: dict[str, Any]) -> None:
        if not self._bar:
            return
        speed = f"{_short(self._steps)} steps/s" if self._steps else ""
        numbers = filter(None, [*self._found(values), self._validation, speed])
        self._numbers = ("\n" if self._is_narrow else " · ").join(numbers)
        end = None if values["left"] is None else time.perf_counter() + values["left"]
        self._show(completed=values["done"], total=values["total"], description="training", end=end)

    def _show(self, **changes: Any) -> None:
        assert self._bar
        self._bar.update(self._task, **changes)
        self._live.update(Group(self._bar, Text(self._numbers)))  # below the bar, so that both fit into 80 columns

    def _record(self, values: dict[str, Any]) -> None:
        self._steps = values.get("steps_per_second", self._steps)
        split, label, text = values["split"], values["split"], "  ".join(self._found(values))
        if split == "validation" and self.metric in values:
            self._validation = f"validation {_number(values[self.metric])}"
        if self._bar:
            return
        if split == "train":
            now = time.perf_counter()
            if now - self._spoke < _SECONDS_BETWEEN_LINES:
                return
            self._spoke = now
            text += f"  {_short(self._steps)} steps/s"
        elif split == "gradient":
            cosines = [_number(value) for name, value in values.items() if name.endswith(".weight.cosine")]
            text = f"cosine {' '.join(cosines)}"
        elif split == "switch":
            took = values["recovery_decisions"]
            text = f"recovered after {took:,} decisions" if took is not None else "not recovered"
            label, text = f"switch {values['switch']}", text if values["fell"] else "no loss of performance"
        self.console.print(f"update {values['update']:>6}  {label:<10}  {text}")

    def _found(self, values: dict[str, Any]) -> list[str]:
        """The loss and the metric, if the values have them: evaluations on rewards have no loss."""
        known = (name for name in ("loss", self.metric) if values.get(name) is not None)
        return [f"{printable(name)} {_number(values[name])}" for name in known]

    def conclude(self, outcome: RunOutcome, show_traceback: bool) -> int:
        """Print the result, cost and folder of a run, or why it has none. Returns: the exit code."""
        if outcome.code != DONE:
            complain(outcome.message, outcome.error, show_traceback)
            return outcome.code
        run, summary = outcome.run, outcome.run.summary
        results = {name: value for name, value in summary.items() if name not in _OTHERS and not name.endswith(_COSTS)}
        rows = [(name.replace("_", " "), _number(value)) for name, value in results.items()]
        if "steps_per_second" in summary:
            each = f", {1000 * summary['update_seconds']:,.1f} ms each" if "update_seconds" in summary else ""
            trained = f"{summary['updates']:,} updates in {run.timings.get('train_seconds', 0.0):.1f} s{each}"
            speed = f"{_short(summary['steps_per_second'])} time steps/s, batches of {outcome.batch_size}"
            rows += [("trained for", trained), ("speed", speed)]
        rows += [("whole run", f"{summary['wall_seconds']:.1f} s"), ("memory", _memory(summary))]
        rows += [("folder", str(run.shown))]
        table = Table(show_header=False, title=Text(f"{self.experiment}: {run.status}"), title_justify="left")
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in rows:
            table.add_row(name, Text(value))
        print_table(self.console, table)
        return DONE


def _memory(summary: dict[str, Any]) -> str:
    """Peak memory of the process and, if known, that of training."""
    training = summary.get("training_memory_bytes")
    of_it = "" if training is None else f"; training {training / 2**20:,.1f} MiB"
    keys = [key for key in ("memory_first_bytes", "memory_last_bytes") if key in summary]
    ends = [f"{summary[key] / 2**20:,.0f}" for key in keys]
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
