"""One trial: a run in a folder of its own, and what came of it."""

from __future__ import annotations

import errno
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tracetorch.cli.adapter import Composed
from tracetorch.cli.errors import DONE, INTERRUPTED, UsageError
from tracetorch.cli.tuning.search import Search
from tracetorch.cli.tuning.space import Space

if TYPE_CHECKING:
    from optuna.trial import Trial

    from tracetorch.runs import RunFolder
    from tracetorch.runs.folder import RunState

_LONGEST_NAME = 100  # bytes, of 255 that a file system allows
_UNDISTURBED = 0.25  # of a run, before it may be ended early
_PRUNED = "pruned at update "
_OF_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
"""What an error of the disk says: it is not the fault of a trial's values."""


class TrialResult(NamedTuple):
    """What came of a trial."""

    status: str  # "completed", "pruned", "failed", "interrupted"
    value: float | None = None
    error: str = ""


class TrialListener:
    """A trial's listener: reports its validation records, and ends its run early if those of others were better.

    Args:
        show: called with the updates done, the updates planned, and the last value.
        reported: what the trial has reported before, if it continues: its value at each update.
    """

    metric = "loss"  # of the task; a search has its own

    def __init__(
        self,
        trial: Trial,
        search: Search,
        show: Callable[[int, int, float | None], None],
        reported: Mapping[int, float],
    ):
        self._trial, self.search, self._show, self._reported = trial, search, show, reported
        self._done = self._total = 0
        self.values: list[float] = []
        self.pruned = ""

    def __call__(self, event: str, values: dict[str, Any]) -> str | None:
        if event == "progress":
            self._done, self._total = values["done"], values["total"]
            self._show(self._done, self._total, self.values[-1] if self.values else None)
        if event != "record" or not self._note_value(values):
            return None
        if math.isfinite(self.values[-1]):
            update = values["update"]
            if update not in self._reported:
                self._trial.report(self.values[-1], update)
            is_ripe = self._total * _UNDISTURBED <= self._done < self._total
            is_latest = update >= max(self._reported, default=0)  # before it, the trial was not pruned
            if is_ripe and is_latest and not self.pruned and self._trial.should_prune():
                self.pruned = f"{_PRUNED}{update}"
        return self.pruned or None

    def recall(self, folder: RunFolder, state: RunState) -> None:
        """Read what its run has recorded before."""
        for record in folder.records():
            self._note_value(record)
        self.pruned = state.error if state.status == "interrupted" and state.error.startswith(_PRUNED) else ""

    def _note_value(self, record: Mapping[str, Any]) -> bool:
        if record.get("split") != "validation" or self.search.metric not in record:
            return False
        value = record[self.search.metric]
        self.values.append(float(value) if isinstance(value, int | float) else math.nan)  # in a file, NaN is null
        return True

    def value(self, patience: int | None) -> float | None:
        """The last value; the best one, where the run goes back to the best at its end."""
        if not patience:
            return self.values[-1] if self.values else None
        better = max if self.search.direction == "maximize" else min
        return better((value for value in self.values if math.isfinite(value)), default=None)


def run_trial(composed: Composed, overrides: list[str], folder: Path, listener: TrialListener) -> TrialResult:
    """Run it, or continue it. Raises: OSError if the disk is full or broken; KeyboardInterrupt."""
    from tracetorch.cli.execute import execute, record_refused

    resume_from = None
    try:
        if folder.exists():
            resume_from = _begun(composed, folder, listener)
            if resume_from is None:
                return _ended(composed, listener)
            if listener.pruned:
                return TrialResult("pruned", listener.values[-1])
        outcome = execute(composed, overrides, path=folder, resume_from=resume_from, display=listener)
    except UsageError as error:
        _raise_of_disk(error.__cause__)
        record_refused(folder, composed, overrides, str(error))
        return TrialResult("failed", error=str(error))
    _raise_of_disk(outcome.error)
    if outcome.code == INTERRUPTED:
        return TrialResult("pruned", listener.values[-1]) if listener.pruned else TrialResult("interrupted")
    if outcome.code != DONE:
        return TrialResult("failed", error=outcome.message)
    return _ended(composed, listener)


def _begun(composed: Composed, folder: Path, listener: TrialListener) -> RunFolder | None:
    """The run that a killed process has left in a folder; None if it is completed.

    Raises: UsageError if it is another run, or broken.
    """
    from tracetorch.cli.folders import check_links
    from tracetorch.runs import RunFolder
    from tracetorch.runs.folder import state_of
    from tracetorch.runs.identity import facts_of

    check_links(folder)
    found, state = RunFolder(folder), state_of(folder)
    if state.facts and state.facts.get("id") != facts_of(composed.config)["id"]:
        raise UsageError(f"{folder} holds a run with another config, which cannot be continued")
    try:
        listener.recall(found, state)
    except ValueError as error:
        raise UsageError(str(error)) from error
    return None if state.status == "completed" else found


def _raise_of_disk(error: BaseException | None) -> None:
    """Raises: the error of the disk that an error comes from, if any: it ends the study, not only the trial."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _OF_DISK:
            raise error
        error = error.__cause__


def _ended(composed: Composed, listener: TrialListener) -> TrialResult:
    """The result of a completed run."""
    value = listener.value(composed.config["train"].get("patience"))
    if value is None or not math.isfinite(value):
        what = "is not a finite number" if listener.values else "was never measured on validation trials"
        return TrialResult("failed", error=f"{listener.search.metric} {what}")
    return TrialResult("completed", value)


def varies(params: Mapping[str, Any], space: Space) -> str:
    """What sets a trial apart, such as "lr=0.0123, decay=0.98"."""
    last = [key.rpartition(".")[2] for key in space]
    short = {key: name if last.count(name) == 1 else key for key, name in zip(space, last, strict=True)}
    return ", ".join(f"{short[key]}={one.shown(params[key])}" for key, one in space.items() if key in params)


def trial_folder_name(number: int, params: Mapping[str, Any], space: Space) -> str:
    """Of a trial's folder in that of its study: a name that every file system takes."""
    plain = re.sub(r"[^\w.,=+\[\]-]+", "-", varies(params, space).replace(", ", ",")).strip("-")
    return f"{number:04d}_{plain.encode()[:_LONGEST_NAME].decode(errors='ignore')}"
