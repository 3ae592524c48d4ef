"""One trial: a run in a folder of its own, and what came of it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tracetorch.cli.adapter import Composed
from tracetorch.cli.errors import DONE, INTERRUPTED, UsageError
from tracetorch.cli.tuning.search import Search
from tracetorch.cli.tuning.space import Space

if TYPE_CHECKING:
    from optuna.trial import Trial

_LONGEST_NAME = 100  # bytes, of 255 that a file system allows
_UNDISTURBED = 0.25  # of a run, before it may be ended early


class Ended(NamedTuple):
    """What came of a trial."""

    status: str  # "completed", "pruned", "failed", "interrupted"
    value: float | None = None
    error: str = ""


class Ear:
    """A trial's listener: reports its validation records, and ends its run early if those of others were better.

    Args: show: told how it goes: updates done, updates planned, the last value.
    """

    metric = "loss"  # which the task tells first; a search has its own

    def __init__(self, trial: Trial, search: Search, show: Callable[[int, int, float | None], None]):
        self._trial, self.search, self._show = trial, search, show
        self._done = self._total = 0
        self.values: list[float] = []
        self.pruned = ""

    def __call__(self, event: str, values: dict[str, Any]) -> str | None:
        if event == "progress":
            self._done, self._total = values["done"], values["total"]
            self._show(self._done, self._total, self.values[-1] if self.values else None)
        if event != "record" or values.get("split") != "validation" or self.search.metric not in values:
            return None
        self.values.append(float(values[self.search.metric]))
        if math.isfinite(self.values[-1]):
            self._trial.report(self.values[-1], values["update"])
            is_ripe = self._total * _UNDISTURBED <= self._done < self._total
            if is_ripe and not self.pruned and self._trial.should_prune():
                self.pruned = f"pruned at update {values['update']}"
        return self.pruned or None

    def value(self, patience: int | None) -> float | None:
        """The last value; the best one, where the run goes back to the best at its end."""
        if not patience:
            return self.values[-1] if self.values else None
        better = max if self.search.direction == "maximize" else min
        return better((value for value in self.values if math.isfinite(value)), default=None)


def run_trial(composed: Composed, overrides: list[str], folder: Path, ear: Ear) -> Ended:
    """Run it. Whatever goes wrong in it is told, not raised, but for a KeyboardInterrupt."""
    from tracetorch.cli.execute import execute

    try:
        outcome = execute(composed, overrides, exactly=folder, display=ear)
    except UsageError as error:
        if not folder.exists():
            _refuse(folder, composed, str(error))
        return Ended("failed", error=str(error))
    if outcome.code == INTERRUPTED:
        return Ended("pruned", ear.values[-1]) if ear.pruned else Ended("interrupted")
    if outcome.code != DONE:
        return Ended("failed", error=outcome.message)
    value = ear.value(composed.config["train"].get("patience"))
    if value is None or not math.isfinite(value):
        what = "came to no number" if ear.values else "was never measured in a validation"
        return Ended("failed", error=f"{ear.search.metric} {what}")
    return Ended("completed", value)


def varies(params: Mapping[str, Any], space: Space) -> str:
    """What sets a trial apart, such as "lr=0.0123, decay=0.98"."""
    last = [key.rpartition(".")[2] for key in space]
    short = {key: name if last.count(name) == 1 else key for key, name in zip(space, last, strict=True)}
    return ", ".join(f"{short[key]}={one.shown(params[key])}" for key, one in space.items() if key in params)


def folder_name(number: int, params: Mapping[str, Any], space: Space) -> str:
    """Of a trial's folder in that of its study: a name that every file system takes."""
    plain = re.sub(r"[^\w.,=+\[\]-]+", "-", varies(params, space).replace(", ", ",")).strip("-")
    return f"{number:04d}_{plain.encode()[:_LONGEST_NAME].decode(errors='ignore')}"


def _refuse(folder: Path, composed: Composed, why: str) -> None:
    """Leave a folder for a run that could not begin; none where the disk is full."""
    from tracetorch.runs.folder import RunFolder
    from tracetorch.runs.identity import facts_of

    with suppress(OSError):
        refused = RunFolder.reserve(folder.parent, composed.experiment, "", folder)
        refused.write_text("config.yaml", composed.yaml)
        refused.write_text("error.txt", f"{why}\n")
        facts = {"status": "failed", "experiment": composed.experiment, **facts_of(composed.config)}
        refused.write_json("run.json", facts | {"summary": {}, "timings": {}, "error": why})
