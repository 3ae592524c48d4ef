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
_COSTS = ("_seconds", "_per_second", "_bytes")  # endings of the names of costs, which have rows of their own
_ACTIVITY = ("firing_rate_hz", "firing_rate_per_step", "activation_sparsity", "connection_sparsity")
_OPERATIONS = ("synaptic_operations", "effective_acs", "effective_macs")
_OTHERS = (
    "updates",
    "tested",
    "tested_update",
    "checkpoint",
    *_ACTIVITY,
    *_OPERATIONS,
)  # entries of the summary that are not results
_PHASES = {"evaluate_seconds": "testing", "plot_seconds": "drawing figures"}


class _TimeLeft(ProgressColumn):
    """Counts down to the expected end of the run."""

    def render(self, task: Task) -> Text:
        end: float | None = task.fields["end"]
        if end is None:
            return Text("")
        seconds = max(0, round(end - time.perf_counter()))
        return Text(f"{timedelta(seconds=seconds)} left", "progress.remaining")


class Display:
    """A run's listener that prints progress. Args: experiment: its name. note: a line to print before it, or ""."""

    metric = "loss"  # the number to show next to the loss: the task's first metric

    def __init__(self, experiment: str, note: str = ""):
        self.console = console()
        self.experiment, self.note = experiment, note
        self._bar: Progress | None = None
        self._printed_at = 0.0
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
        verb = " continues" if values["resumed"] else ""
        self.console.print(f"{self.experiment}{verb} on {values['device']} → {values['folder']}")
        for note in values.get("notes") or []:
            self.console.print(printable(note, 400))
        if lost := values.get("lost"):
            span = f"updates {lost['from_update']} to {lost['update']}"
            self.console.print(f"{lost['records']} records of {span} are lost; metrics.jsonl marks the gap")
        self._steps = 0.0
        if self.console.is_interactive:
            self._is_narrow = self.console.width < _NARROW
            bar, elapsed = ([], []) if self._is_narrow else ([BarColumn(bar_width=None)], [TimeElapsedColumn()])
            self._bar = Progress(TextColumn("{task.description}"), *bar, MofNCompleteColumn(), *elapsed, _TimeLeft())
            self._task = self._bar.add_task("training", total=None, end=None)
            self._live = Live(console=self.console, transient=True, refresh_per_second=8)
            self._live.start()

    def _progress(self, values: dict[str, Any]) -> None:
        if not self._bar:
            return
        speed = f"{_short(self._steps)} steps/s" if self._steps else ""
        numbers = filter(None, [*self._loss_and_metric(values), self._validation, speed])
        self._numbers = ("\n" if self._is_narrow else " · ").join(numbers)
        end = None if values["left"] is None else time.perf_counter() + values["left"]
        self._show(completed=values["done"], total=values["total"], description="training", end=end)

    def _show(self, **changes: Any) -> None:
        assert self._bar
        self._bar.update(self._task, **changes)
        self._live.update(Group(self._bar, Text(self._numbers)))  # below the bar, so that both fit into 80 columns

    def _record(self, values: dict[str, Any]) -> None:
        self._steps = values.get("steps_per_second", self._steps)
        split, label, text = values["split"], values["split"], "  ".join(self._loss_and_metric(values))
        if split == "validation" and self.metric in values:
            self._validation = f"validation {_number(values[self.metric])}"
        if self._bar:
            return
        if split == "train":
            current_time = time.perf_counter()
            if current_time - self._printed_at < _SECONDS_BETWEEN_LINES:
                return
            self._printed_at = current_time
            text += f"  {_short(self._steps)} steps/s"
        elif split == "gradient":
            cosines = [_number(value) for name, value in values.items() if name.endswith(".weight.cosine")]
            text = f"cosine {' '.join(cosines)}"
        elif split == "switch":
            decisions = values["recovery_decisions"]
            text = f"recovered after {decisions:,} decisions" if decisions is not None else "not recovered"
            label, text = f"switch {values['switch']}", text if values["fell"] else "no loss of performance"
        self.console.print(f"update {values['update']:>6}  {label:<10}  {text}")

    def _loss_and_metric(self, values: dict[str, Any]) -> list[str]:
        """The loss and the metric, if the values have them: evaluations on rewards have no loss."""
        names = (name for name in ("loss", self.metric) if values.get(name) is not None)
        return [f"{printable(name)} {_number(values[name])}" for name in names]

    def conclude(self, outcome: RunOutcome, show_traceback: bool) -> int:
        """Print the result, cost and folder of a run, or why it has none. Returns: the exit code."""
        if outcome.code != DONE:
            complain(outcome.message, outcome.error, show_traceback)
            return outcome.code
        run, summary = outcome.run, outcome.run.summary
        results = {name: value for name, value in summary.items() if name not in _OTHERS and not name.endswith(_COSTS)}
        rows = [(name.replace("_", " "), _number(value)) for name, value in results.items()]
        if "tested_update" in summary:
            rows.append(
                ("tested", f"{summary['tested'].replace('latest', 'last')}, update {summary['tested_update']:,}")
            )
        rows += _activity(summary)
        if "steps_per_second" in summary:
            per_update = f", {1000 * summary['update_seconds']:,.1f} ms each" if "update_seconds" in summary else ""
            trained = f"{summary['updates']:,} updates in {run.timings.get('train_seconds', 0.0):.1f} s{per_update}"
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


def _activity(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """Firing rate and sparsity, and synaptic operations, one row each; unknown values are left out."""
    units = {"firing_rate_hz": "Hz per neuron", "firing_rate_per_step": "spikes per neuron and step"}
    found = [f"{summary[name]:.3g} {unit}" for name, unit in units.items() if name in summary]
    sparse = [name for name in _ACTIVITY[2:] if name in summary]
    found += [f"{name.replace('_', ' ')} {summary[name]:.1%}" for name in sparse]
    rows = [("activity", "; ".join(found))] if found else []
    if all(name in summary for name in _OPERATIONS):
        dense, acs, macs = (f"{summary[name]:,.0f}" for name in _OPERATIONS)
        rows.append(("operations", f"{dense} synaptic per sample; effective: {acs} ACs, {macs} MACs"))
    return rows


def _memory(summary: dict[str, Any]) -> str:
    """Peak memory of the process and, if known, memory of training and memory at the start and the end."""
    training, peak = summary.get("training_memory_bytes"), summary["peak_memory_bytes"]
    parts = [f"{'unknown' if peak is None else f'{peak / 2**20:,.0f} MiB'} peak"]
    if training is not None:
        parts.append(f"training {training / 2**20:,.1f} MiB")
    first, last = (summary.get(key) for key in ("memory_first_bytes", "memory_last_bytes"))
    if first is not None and last is not None:
        parts.append(f"{first / 2**20:,.0f} MiB at the start, {last / 2**20:,.0f} MiB at the end")
    return "; ".join(parts)


def _number(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, int | float):
        return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
    return printable(value)  # a part may report text or a list


def _short(number: float) -> str:
    return f"{number / 1000:,.1f} k" if number >= 10_000 else f"{number:,.0f}"
