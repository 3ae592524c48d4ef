"""The interface of a logger, and the class that calls all loggers of a run."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple


class LoggedRun(NamedTuple):
    """The facts about a run that a logger gets at its start."""

    config: dict[str, Any]  # resolved
    experiment: str
    folder: Path  # of the run; its name is the name of the run
    run_id: str  # identifies the run; unchanged by `resume`
    update: int  # number of updates so far; above 0 only if the run continues from a checkpoint


class Logger(ABC):
    """Copies the records of one run to another program. An error in a method ends the logger, not the run.

    A subclass takes its settings in `__init__`, and imports its library there: a missing library is found early.
    """

    @abstractmethod
    def start(self, run: LoggedRun) -> None:
        """Begin the log, or continue it. Records after `run.update` that were logged before are logged again."""

    @abstractmethod
    def log(self, record: Mapping[str, Any]) -> None:
        """Log a record of metrics.jsonl, for example {"update": 20, "split": "train", "loss": 0.7, "accuracy": 0.5}."""

    @abstractmethod
    def finish(self, summary: Mapping[str, Any], status: str) -> None:
        """End the log. Args: summary: of run.json. status: "completed", "interrupted" or "failed"."""


def numbers(values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield the finite numbers in a record or a summary by name, except the number of the update."""
    for name, value in values.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if is_number and name != "update" and math.isfinite(value):
            yield name, float(value)


def flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Return the dotted keys and the values of nested mappings. Args: prefix: of the keys."""
    found = []
    for name, value in values.items():
        found += flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [(f"{prefix}{name}", value)]
    return found


class Loggers:
    """Calls several loggers. The first error of a logger becomes a warning, and the logger is not called again.

    Args: loggers: by name. warn: called with the text of a warning.
    """

    def __init__(self, loggers: Mapping[str, Logger], warn: Callable[[str], None]):
        self._loggers, self._warn = dict(loggers), warn

    def start(self, run: LoggedRun) -> None:
        self._call("start", run)

    def log(self, record: Mapping[str, Any]) -> None:
        self._call("log", record)

    def finish(self, summary: Mapping[str, Any], status: str) -> None:
        self._call("finish", summary, status)

    def _call(self, method: str, *arguments: Any) -> None:
        for name, logger in list(self._loggers.items()):
            try:
                getattr(logger, method)(*arguments)
            except (Exception, SystemExit) as error:
                del self._loggers[name]
                self._warn(f"logger {name} stopped: {type(error).__name__}: {error}; the run folder is complete")


def split_of(record: Mapping[str, Any]) -> str:
    """Return the split of a record, such as "train", under which its curves are grouped; "run" if it has none."""
    return str(record.get("split") or "run")
