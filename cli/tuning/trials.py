"""Runs the trials of a study, each with the next values, and prints a table of them and a summary."""

from __future__ import annotations

import errno
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from optuna.trial import FrozenTrial, Trial, TrialState
from rich.status import Status
from rich.text import Text

from tracetorch.cli.adapter import Composed
from tracetorch.cli.errors import DONE, FAILED, INTERRUPTED, UsageError, complain, shorten
from tracetorch.cli.execute import execute, record_refused
from tracetorch.cli.folders import check_links, folder_name, short_names
from tracetorch.cli.terminal import console, say
from tracetorch.cli.tuning.search import Parameter, Range, Search, Space
from tracetorch.cli.tuning.study import Study
from tracetorch.cli.tuning.study_folder import StudySettings, best_of, resume_hint, run_command, write_best
from tracetorch.cli.tuning.validate import Composer
from tracetorch.runs.ending import Interrupt
from tracetorch.runs.folder import RunFolder, RunState, state_of
from tracetorch.runs.identity import id_of

_MOST_FAILURES = 5  # in a row, while no trial has completed
_UNPRUNED = 0.25  # fraction of the updates before a run may be pruned
_PRUNED = "pruned at update "
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)  # not caused by the values of a trial
_STATUSES = {TrialState.COMPLETE: "completed", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
_STATES = {status: state for state, status in _STATUSES.items()}
_COLOURS = {"completed": "green", "pruned": "yellow", "failed": "red", "interrupted": "red"}

Show = Callable[[int, int, float | None], None]


def run_trials(settings: StudySettings, composer: Composer, seed: int, folder: Path, most: int) -> int:
    """Run trials until the study has enough. Returns: the exit code. Raises: UsageError if the study is broken."""
    table = TrialTable(settings.search.metric)
    try:
        study = Study(folder, settings.search, seed)
        started = len(study.trials())
        remark = f", {started} already started" if started else ""
        say(f"{settings.experiment}: {most} trials{remark} → {folder}")
        with study:
            interrupted, trouble = _try(study, table, composer, folder, most)
        return _conclude(study, folder, interrupted, trouble)
    except OSError as error:
        fault = f"cannot write to {error.filename or folder}: {error.strerror}"
        complain(f"{fault}; once it is writable, {resume_hint(folder)}", error)
        return FAILED


def _try(study: Study, table: TrialTable, composer: Composer, folder: Path, most: int) -> tuple[bool, str]:
    """Run trials. Returns: whether the study was interrupted; why it stopped after failures, or ""."""
    space, failures = study.search.space, 0
    _keep_best(study, composer, folder)
    with Interrupt() as interrupt, table:
        while not interrupt.stop and failures < _MOST_FAILURES:
            trial = study.next(most)
            if trial is None:
                return False, ""
            params = trial.params
            name = trial_folder_name(trial.number, params, space)
            table.start(folder / name)
            try:
                composed, overrides = composer(_changes(params, space))
                listener = TrialListener(trial, study.search, table.show, study.reported(trial))
                result = run_trial(composed, overrides, folder / name, listener)
            except UsageError as error:  # values that are invalid together
                result = TrialResult("failed", error=str(error))
            if result.status in _STATES:
                value = result.value if result.status == "completed" else None
                study.tell(trial, _STATES[result.status], value, result.error)
            best = _keep_best(study, composer, folder)
            table.end(trial.number, varies(params, space), result, best.value if best else None)
            failures = 0 if result.status != "failed" or best else failures + 1
            if result.status == "interrupted":
                return True, ""
    if failures == _MOST_FAILURES:
        return False, f"{_MOST_FAILURES} trials in a row failed, and none has completed"
    return True, ""


def _keep_best(study: Study, composer: Composer, folder: Path) -> FrozenTrial | None:
    """The best trial; write its preset if that is missing or outdated, for example after a kill."""
    with study.locked():
        best = study.best()
        if best is not None:
            description = f"{study.search.metric} {best.value:.4f} in trial {best.number}"
            if best_of(folder) != description:
                write_best(folder, composer(_changes(best.params, study.search.space))[0], description)
    return best


def _changes(params: Mapping[str, Any], space: Space) -> list[str]:
    return [f"{key}={parameter.typed(params[key])}" for key, parameter in space.items()]


class TrialResult(NamedTuple):
    """How a trial ended, and its value if it has one."""

    status: str  # "completed", "pruned", "failed", "interrupted"
    value: float | None = None
    error: str = ""


class TrialListener:
    """A trial's listener: reports the values of its validation records, and prunes it if other trials were better.

    Args:
        show: called with the updates done, the updates planned, and the last value.
        reported: the values that a continued trial has reported, by update.
    """

    metric = "loss"  # the task's, which `execute` sets; a search has its own

    def __init__(self, trial: Trial, search: Search, show: Show, reported: Mapping[int, float]):
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
            may_be_pruned = self._total * _UNPRUNED <= self._done < self._total
            is_latest = update >= max(self._reported, default=0)  # earlier reports did not prune the trial
            if may_be_pruned and is_latest and not self.pruned and self._trial.should_prune():
                self.pruned = f"{_PRUNED}{update}"
        return self.pruned or None

    def recall(self, folder: RunFolder, state: RunState) -> None:
        """Read the records of a run that continues."""
        for record in folder.records():
            self._note_value(record)
        self.pruned = state.error if state.status == "interrupted" and state.error.startswith(_PRUNED) else ""

    def _note_value(self, record: Mapping[str, Any]) -> bool:
        """Keep the metric of a validation record. Returns: whether the record has one."""
        if record.get("split") != "validation" or self.search.metric not in record:
            return False
        value = record[self.search.metric]
        self.values.append(float(value) if isinstance(value, int | float) else math.nan)  # in a file, NaN is null
        return True


def run_trial(composed: Composed, overrides: list[str], folder: Path, listener: TrialListener) -> TrialResult:
    """Run a trial, or continue it. Raises: OSError if the disk is full or broken; KeyboardInterrupt."""
    resume_from = None
    try:
        if folder.exists():
            resume_from = _unfinished(composed, folder, listener)
            if resume_from is None:
                return _completed(composed, listener)
            if listener.pruned:
                return TrialResult("pruned", listener.values[-1])
        outcome = execute(composed, overrides, path=folder, resume_from=resume_from, display=listener)
    except UsageError as error:
        _raise_disk_error(error.__cause__)
        record_refused(folder, composed, overrides, str(error))
        return TrialResult("failed", error=str(error))
    _raise_disk_error(outcome.error)
    if outcome.code == INTERRUPTED:
        return TrialResult("pruned", listener.values[-1]) if listener.pruned else TrialResult("interrupted")
    if outcome.code != DONE:
        return TrialResult("failed", error=outcome.message)
    return _completed(composed, listener)


def _unfinished(composed: Composed, folder: Path, listener: TrialListener) -> RunFolder | None:
    """The run in a trial's folder, to continue; None if it is completed. Raises: UsageError if it is broken."""
    check_links(folder)
    run, state = RunFolder(folder), state_of(folder)
    if state.facts and state.facts.get("id") != id_of(composed.config):
        raise UsageError(f"{folder} holds a run with another config, which cannot be continued")
    try:
        listener.recall(run, state)
    except ValueError as error:
        raise UsageError(str(error)) from error
    return None if state.status == "completed" else run


def _raise_disk_error(error: BaseException | None) -> None:
    """Raise the disk error that caused an error, if any: it ends the whole study, not the trial alone."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
            raise error
        error = error.__cause__


def _completed(composed: Composed, listener: TrialListener) -> TrialResult:
    """The result of a completed trial: its last value or, with patience, its best, whose parameters the run keeps."""
    value = listener.values[-1] if listener.values else None
    if composed.config["train"].get("patience"):
        better = max if listener.search.direction == "maximize" else min
        value = better(filter(math.isfinite, listener.values), default=None)
    if value is None or not math.isfinite(value):
        fault = "is not a finite number" if listener.values else "was never measured on validation trials"
        return TrialResult("failed", error=f"{listener.search.metric} {fault}")
    return TrialResult("completed", value)


def varies(params: Mapping[str, Any], space: Space) -> str:
    """The values of a trial, such as "lr=0.0123, decay=0.98"."""
    short = short_names(space)
    shown = ((key, parameter.shown(params[key])) for key, parameter in space.items() if key in params)
    return ", ".join(f"{short[key]}={value}" for key, value in shown)


def trial_folder_name(number: int, params: Mapping[str, Any], space: Space) -> str:
    """The name of a trial's folder: its number, then the searched values."""
    return folder_name(f"{number:04d}", varies(params, space))


class TrialTable:
    """Prints the table of a study, one row per trial. Args: metric: its name."""

    def __init__(self, metric: str):
        self.console = console()
        self._metric, self._status = metric, Status("", console=self.console)
        self._folder_name, self._rows = "", 0

    def __enter__(self) -> TrialTable:
        if self.console.is_interactive:
            self._status.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._status.stop()

    def start(self, folder: Path) -> None:
        self._folder_name = folder.name
        self._status.update(Text(f"{self._folder_name}  starts"))

    def show(self, done: int, total: int, value: float | None) -> None:
        shown = "" if value is None else f" · {self._metric} {value:.4f}"
        self._status.update(Text(f"{self._folder_name}  update {done:,} of {total:,}{shown}"))

    def end(self, number: int, varies: str, result: TrialResult, best: float | None) -> None:
        if not self._rows:
            self.console.print(Text(f"trial  status       {self._metric:>10}  best so far  what varies", "bold"))
        self._rows += 1
        status = f"{result.status:<11}", _COLOURS[result.status]
        value, so_far = ("" if each is None else f"{each:.4f}" for each in (result.value, best))
        reason = f": {shorten(' '.join(result.error.split()), 200)}" if result.error else ""
        rest = f"  {value:>10}  {so_far:>11}  {varies}{reason}"
        self.console.print(Text.assemble(f"{number:5d}  ", status, rest))


def _conclude(study: Study, folder: Path, interrupted: bool, trouble: str) -> int:
    """Print the best trial, the figure, and the next command. Returns: the exit code."""
    best, space = study.best(), study.search.space
    if best is not None:
        say(
            f"best: {study.search.metric} {best.value:.4f}, trial {best.number}, {varies(best.params, space)}",
            f"its run: {folder / trial_folder_name(best.number, best.params, space)}",
            f"to run it with another seed: {run_command(folder)} seed=1",
        )
    if drawn := _draw(study, folder):
        say(f"figure: {drawn}")
    if interrupted or trouble:
        complain(f"{'interrupted' if interrupted else trouble}; {resume_hint(folder)}")
        return INTERRUPTED if interrupted else FAILED
    if running := study.num_running():
        say(f"other processes still run {running} trial{'s' * (running != 1)}")
    elif best is None:
        complain(f"no trial is completed: see error.txt in the folders of {folder}")
        return FAILED
    return DONE


def _draw(study: Study, folder: Path) -> Path | None:
    """Draw `plots/search.png` and `.svg`. Returns: the first; None if no trial has ended."""
    from tracetorch.plot import Axis, Tried, save, search

    space = study.search.space
    tried = []
    for trial in study.trials():
        if trial.state in _STATUSES:
            positions = [_position(parameter, trial.params.get(key)) for key, parameter in space.items()]
            tried.append(Tried(trial.number, trial.value, _STATUSES[trial.state], positions))
    if not tried:
        return None
    axes = []
    for key, parameter in space.items():
        if isinstance(parameter, Range):
            axes.append(Axis(key, (parameter.low, parameter.high), log=parameter.log, whole=parameter.whole))
        else:
            names = [parameter.shown(label) for label in parameter.labels]
            axes.append(Axis(key, (0, len(names) - 1), names=names))
    metric = f"{study.search.metric} (validation)"
    fig = search(tried, axes, metric=metric, maximize=study.search.direction == "maximize")
    return save(fig, folder / "plots" / "search")[0]


def _position(parameter: Parameter, value: Any) -> float | None:
    """The position of a value on its axis; for a choice, its index."""
    if isinstance(parameter, Range):
        return float(value) if isinstance(value, int | float) else None
    return float(parameter.labels.index(value)) if value in parameter.labels else None
