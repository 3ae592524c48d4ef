"""Searches for better settings: trial after trial, each a run, until the study has enough."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracetorch.cli.adapter import note_of
from tracetorch.cli.errors import DONE, FAILED, INTERRUPTED, UsageError, complain, quote, shorten
from tracetorch.cli.terminal import say
from tracetorch.cli.tuning.search import read_search, split_search
from tracetorch.cli.tuning.study_folder import FILE, StudySettings, is_being_begun, read_study, reserve
from tracetorch.cli.tuning.validate import Composer, validate
from tracetorch.files import expanded

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from tracetorch.cli.tuning.space import Space
    from tracetorch.cli.tuning.study import Study
    from tracetorch.cli.tuning.trial_table import TrialTable

__all__ = ["tune"]

_HOPELESS = 5  # failures in a row, while no trial has completed


def tune(typed: list[str], *, trials: int | None, folder: Path | None, trust: list[str]) -> int:
    """Start a study, continue one, or join one.

    Args:
        typed: overrides, those of the search among them; none to continue a study.
        trials: of the whole study; if None, as the search says.
        folder: of the study; a new one named after the time, if None.
        trust: packages that the config of a study that is there may call.
    Returns: the exit code.
    Raises: UsageError, with nothing left on disk.
    """
    if folder is None or not folder.exists() or (typed and is_being_begun(folder)):
        try:
            return _begin(typed, trials, folder)
        except FileExistsError:  # another process was quicker
            assert folder is not None
    begun = read_study(folder)
    if typed and typed != begun.typed:
        raise UsageError(
            f"{folder} is a study of {begun.is_of}; {_goes_on(folder)}; for another study, name another folder"
        )
    composer = Composer(begun.overrides, folder / FILE, trust, begun.configs)
    search, composed = validate(begun.search, composer)
    return _go(begun._replace(search=search), composer, int(composed.config["seed"]), folder, trials)


def _begin(typed: list[str], trials: int | None, folder: Path | None) -> int:
    if not typed and folder is not None:
        raise UsageError(f"there is no study {folder}; to start one: tracetorch tune search=… --study {quote(folder)}")
    about, overrides = split_search(typed)
    search = read_search(about)
    for line in overrides:
        if (key := line.lstrip("+~").partition("=")[0]) in search.space:
            advice = f"leave it out, or take the key out of the search: {quote(f'~search.space.{key}')}"
            raise UsageError(f"'{shorten(line)}': the search chooses {shorten(key)}; {advice}")
    composer = Composer(overrides, None, [])
    search, composed = validate(search, composer)
    root = expanded(composed.config["output"].get("root", "outputs"))
    begun = StudySettings(composed.experiment, typed, overrides, search, composer.content())
    study_folder = reserve(begun, root, folder)
    if note := note_of(composed.choices):
        say(note)
    return _go(begun, composer, int(composed.config["seed"]), study_folder, trials)


def _go(begun: StudySettings, composer: Composer, seed: int, folder: Path, trials: int | None) -> int:
    from tracetorch.cli.tuning.study import Study
    from tracetorch.cli.tuning.trial_table import TrialTable

    most = trials or begun.search.trials
    table = TrialTable(begun.search.metric)
    try:
        study = Study(folder, begun.search, seed)
        before = study.begun()
        again = f", {before} already started" if before else ""
        say(f"{begun.experiment}: {most} trials{again} → {folder}")
        with study:
            interrupted, trouble = _try(study, table, composer, folder, most)
        return _conclude(study, table, folder, interrupted, trouble)
    except OSError as error:
        what = f"cannot write to {error.filename or folder}: {error.strerror}"
        complain(f"{what}; once it is writable, {_goes_on(folder)}", error, False)
        return FAILED


def _try(study: Study, table: TrialTable, composer: Composer, folder: Path, most: int) -> tuple[bool, str]:
    """Run trials until there are enough. Returns: whether it was interrupted; why continuing is useless."""
    from optuna.trial import TrialState

    from tracetorch.cli.tuning.trial import TrialListener, TrialResult, run_trial, trial_folder_name, varies
    from tracetorch.runs.ending import Interrupt

    states = {"completed": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
    space, failures = study.search.space, 0
    _keep_best(study, composer, folder)
    with Interrupt() as wish, table:
        while not wish.stop and failures < _HOPELESS:
            trial = study.next(most)
            if trial is None:
                return False, ""
            params = trial.params
            name = trial_folder_name(trial.number, params, space)
            table.begin(folder / name)
            try:
                composed, overrides = composer(_changes(params, space))
                listener = TrialListener(trial, study.search, table.show, study.reported(trial))
                ended = run_trial(composed, overrides, folder / name, listener)
            except UsageError as error:  # values that do not go together
                ended = TrialResult("failed", error=str(error))
            if ended.status in states:
                value = ended.value if ended.status == "completed" else None
                study.tell(trial, states[ended.status], value, ended.error)
            best = _keep_best(study, composer, folder)
            table.end(trial.number, varies(params, space), ended, best.value if best else None)
            failures = 0 if ended.status != "failed" or best else failures + 1
            if ended.status == "interrupted":
                return True, ""
    if failures == _HOPELESS:
        return False, f"{_HOPELESS} trials in a row failed, and none has completed"
    return True, ""


def _keep_best(study: Study, composer: Composer, folder: Path) -> FrozenTrial | None:
    """The best trial; its preset is written unless it is there, for a kill may have come between result and preset."""
    from tracetorch.cli.tuning.best_preset import is_of, write_preset

    with study.alone():
        best = study.best()
        if best is not None:
            found = f"{study.search.metric} {best.value:.4f} in trial {best.number}"
            if not is_of(folder, found):
                write_preset(folder, composer(_changes(best.params, study.search.space))[0], found)
    return best


def _changes(params: Mapping[str, Any], space: Space) -> list[str]:
    """What to type for a trial's values."""
    return [f"{key}={one.typed(params[key])}" for key, one in space.items()]


def _conclude(study: Study, table: TrialTable, folder: Path, interrupted: bool, trouble: str) -> int:
    """The best trial, the figure, and what to do next. Returns: the exit code."""
    from tracetorch.cli.tuning.best_preset import run_command
    from tracetorch.cli.tuning.study_figure import draw_study
    from tracetorch.cli.tuning.trial import trial_folder_name, varies

    best, space = study.best(), study.search.space
    if best is not None:
        where = folder / trial_folder_name(best.number, best.params, space)
        lines = [
            f"best: {study.search.metric} {best.value:.4f}, trial {best.number}, {varies(best.params, space)}",
            f"its run: {where}",
            f"to run it with another seed: {run_command(folder)} seed=1",
        ]
        say(*lines)
    if drawn := draw_study(study, folder):
        say(f"figure: {drawn}")
    if interrupted or trouble:
        complain(f"{'interrupted' if interrupted else trouble}; {_goes_on(folder)}", None, False)
        return INTERRUPTED if interrupted else FAILED
    if others := study.at_work():
        say(f"other processes still run {others} trial{'s' * (others != 1)}")
    elif best is None:
        complain(f"no trial is completed: see error.txt in the folders of {folder}", None, False)
        return FAILED
    return DONE


def _goes_on(folder: Path) -> str:
    return f"to continue: tracetorch tune --study {quote(folder)}"
