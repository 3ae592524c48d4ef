"""The table of a search: a row for each trial that ends; on a terminal also the progress of the present one."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from rich.status import Status
from rich.text import Text

from tracetorch.cli.errors import shorten
from tracetorch.cli.terminal import console
from tracetorch.cli.tuning.trial import TrialResult

_COLOURS = {"completed": "green", "pruned": "yellow", "failed": "red", "interrupted": "red"}


class TrialTable:
    """The table of a search, row by row.

    Args: metric: its name.
    """

    def __init__(self, metric: str):
        self.console = console()
        self._metric, self._status = metric, Status("", console=self.console)
        self._present, self._rows = "", 0

    def __enter__(self) -> TrialTable:
        if self.console.is_interactive:
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._status.stop()

    def begin(self, folder: Path) -> None:
        """A trial begins."""
        self._present = folder.name
        self._status.update(Text(f"{self._present}  begins"))

    def show(self, done: int, total: int, value: float | None) -> None:
        """How far it is."""
        shown = "" if value is None else f" · {self._metric} {value:.4f}"
        self._status.update(Text(f"{self._present}  update {done:,} of {total:,}{shown}"))

    def end(self, number: int, varies: str, ended: TrialResult, best: float | None) -> None:
        """It has ended."""
        if not self._rows:
            self.console.print(Text(f"trial  status       {self._metric:>10}  best so far  what varies", "bold"))
        self._rows += 1
        row = Text(f"{number:5d}  ")
        row.append(f"{ended.status:<11}", _COLOURS[ended.status])
        why = f": {shorten(' '.join(ended.error.split()), 200)}" if ended.error else ""
        self.console.print(row.append(f"  {_number(ended.value):>10}  {_number(best):>11}  {varies}{why}"))


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
