"""A study on disk, perhaps shared by several processes: its trials, the processes at work, the next values to try."""

# Why not optuna's RDBStorage with a heartbeat and RetryFailedTrialCallback (tried with optuna 5.0 and SQLite):
# - `Study.optimize` alone keeps a heartbeat. After `ask`, a killed trial stays RUNNING.
# - A retry is a new trial with a new number, and the killed one counts as failed. Here a trial continues its run, its
#   number and its draws, which follow from the number; a study that was killed tries what it would have tried.
# - A process counts as gone after a grace period, also one that was only suspended. A lock knows it at once.
# - The lock must stay: two processes that ask at the same moment would exceed the number of trials.
# - `study.jsonl` is plain text, and one broken line is found by its number; older studies would need a migration.
# The journal's lock, its mending and its check, 60 lines, are all that it would replace.

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.storages.journal._file import BaseJournalFileLock  # no public name leads there
from optuna.trial import FrozenTrial, Trial, TrialState

from tracetorch.cli.errors import UsageError
from tracetorch.cli.tuning.sampler import SeededSampler
from tracetorch.cli.tuning.search import Search
from tracetorch.cli.tuning.space import Choices, Parameter
from tracetorch.cli.tuning.study_folder import FILE
from tracetorch.files import parse_json, read_bytes
from tracetorch.runs.lock import BusyError, Lock, is_locked

JOURNAL = "study.jsonl"
WORKERS = ".workers"
"""A folder with one for each process that is at work, locked for as long as it lives."""

_WORKER, _ERROR = "worker", "error"  # what a trial is marked with
_PATIENCE = 60.0
_STARTUP = 5  # completed trials before one is ended early


class Study:
    """A study, as one of perhaps several processes sees it. Enter it to mark this process as at work.

    Args:
        folder: of the study, which is there.
        seed: the same one gives the same trials, one process at a time.
    Raises: UsageError if the journal is broken.
    """

    def __init__(self, folder: Path, search: Search, seed: int):
        self.folder, self.search = folder.resolve(), search  # a relative path in optuna's lock would lead nowhere
        self._distributions = {key: _distribution(one) for key, one in search.space.items()}
        self._worker = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._place = self.folder / WORKERS / self._worker
        self._alone = 0
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        try:
            with self.alone():
                _check_journal(self.folder / JOURNAL)
                file = _Journal(self.folder / JOURNAL, self.alone)
                self._study = optuna.create_study(
                    study_name="tune",
                    storage=JournalStorage(file),
                    direction=search.direction,
                    sampler=SeededSampler(seed),
                    pruner=optuna.pruners.MedianPruner(n_startup_trials=_STARTUP)
                    if search.pruner == "median"
                    else optuna.pruners.NopPruner(),
                    load_if_exists=True,
                )
                self._check()
        except (OSError, UsageError):
            raise
        except Exception as error:  # what a line that no study writes makes optuna raise
            why = str(error) if isinstance(error, _BrokenError) else type(error).__name__
            raise UsageError(f"{folder / JOURNAL} is broken ({why}): begin a new study") from error

    def __enter__(self) -> Study:
        with self.alone():
            try:
                self._place.mkdir(parents=True)
                self._lock = Lock(self._place)
            except OSError:
                self._tidy()
                raise
        return self

    def __exit__(self, *error: object) -> None:
        self._lock.release()
        shutil.rmtree(self._place, ignore_errors=True)  # which needs no lock: that can fail, too, on a broken disk
        with suppress(OSError), self.alone():
            self._tidy()

    def _tidy(self) -> None:
        """Remove the folders of processes that are gone, as far as possible: killed ones leave theirs."""
        with suppress(OSError):
            for place in (self.folder / WORKERS).iterdir():
                if not is_locked(place):
                    shutil.rmtree(place)
            (self.folder / WORKERS).rmdir()  # unless others are at work

    def next(self, most: int) -> Trial | None:
        """What to try next; None if so many trials are done or at work.

        A trial whose process is gone comes first: it continues under its number, with its values.
        """
        with self.alone():
            begun = self.trials()
            left = [one for one in begun if one.state == TrialState.RUNNING and not self._is_alive(one)]
            if len(begun) - len(left) >= most:
                return None
            trial = Trial(self._study, left[0]._trial_id) if left else self._study.ask()
            for name, distribution in self._distributions.items():
                trial._suggest(name, distribution)  # as `ask` does; values that the trial has already stay
            trial.set_user_attr(_WORKER, self._worker)
            return trial

    def reported(self, trial: Trial) -> dict[int, float]:
        """What a continued trial has reported already: its value at each update."""
        return dict(self._study.get_trials(deepcopy=False)[trial.number].intermediate_values)

    def tell(self, trial: Trial, state: TrialState, value: float | None = None, error: str = "") -> None:
        """How a trial ended."""
        if error:
            trial.set_user_attr(_ERROR, error)
        with self.alone():
            self._study.tell(trial, value, state)

    def trials(self) -> list[FrozenTrial]:
        """All that were begun, in their order."""
        return [one for one in self._study.get_trials(deepcopy=False) if one.state != TrialState.WAITING]

    def best(self) -> FrozenTrial | None:
        """The best that is completed, if there is one."""
        try:
            return self._study.best_trial
        except ValueError:
            return None

    def begun(self) -> int:
        """How many trials are done, at work, or to be continued."""
        return len(self.trials())

    def at_work(self) -> int:
        """How many trials other processes are at work on."""
        return sum(one.state == TrialState.RUNNING and self._is_alive(one) for one in self.trials())

    def _check(self) -> None:
        for one in self.trials():
            for key, found in one.distributions.items():
                mine = self._distributions.get(key)
                if mine != found or not mine._contains(mine.to_internal_repr(one.params[key])):
                    raise UsageError(
                        f"{self.folder / JOURNAL} belongs to another search than {FILE}: begin a new study"
                    )

    def _is_alive(self, trial: FrozenTrial) -> bool:
        name = trial.user_attrs.get(_WORKER)
        if not isinstance(name, str) or Path(name).name != name:
            return False
        return name != self._worker and is_locked(self.folder / WORKERS / name)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """One process at a time asks, tells and writes, so that no trial is given out twice."""
        if self._alone:
            yield
            return
        until = time.monotonic() + _PATIENCE
        while True:
            try:
                lock = Lock(self.folder)
                break
            except BusyError:
                if time.monotonic() > until:
                    raise UsageError(
                        f"another process has locked {self.folder} for a minute: wait for it, or stop it"
                    ) from None
                time.sleep(0.05)
        self._alone += 1
        try:
            yield
        finally:
            self._alone -= 1
            lock.release()


def error_of(trial: FrozenTrial) -> str:
    """Why a trial failed, if it did and that is known."""
    return str(trial.user_attrs.get(_ERROR, ""))


def _distribution(one: Parameter) -> BaseDistribution:
    if isinstance(one, Choices):
        return CategoricalDistribution(one.labels)
    if one.whole:
        return IntDistribution(int(one.low), int(one.high), log=one.log, step=int(one.step or 1))
    return FloatDistribution(one.low, one.high, log=one.log, step=one.step)


class _JournalLock(BaseJournalFileLock):
    """For optuna: the study's own lock, which ends with its process. optuna's is a link that a kill leaves behind."""

    def __init__(self, alone: Callable[[], AbstractContextManager[None]]):
        self._alone, self._held = alone, ExitStack()

    def acquire(self) -> bool:
        self._held.enter_context(self._alone())
        return True

    def release(self) -> None:
        self._held.close()


class _Journal(JournalFileBackend):
    """optuna's file of one JSON object a line. What a write that failed has left of a line is taken off at once."""

    def __init__(self, path: Path, alone: Callable[[], AbstractContextManager[None]]):
        super().__init__(str(path), _JournalLock(alone))
        self._path, self._alone = path, alone

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        with self._alone():
            size = self._path.stat().st_size
            try:
                super().append_logs(logs)
            except BaseException:
                os.truncate(self._path, size)
                raise


class _BrokenError(ValueError):
    """Content that no study writes."""


def _check_journal(path: Path) -> None:
    """Whether optuna may read a journal. A last line that was cut short, as by a kill or a full disk, is taken off.

    Raises: _BrokenError; OSError if the file cannot be read.
    """
    try:
        content = read_bytes(path)
        whole, _, rest = content.rpartition(b"\n")
        for number, line in enumerate(whole.split(b"\n") if whole else [], 1):
            if not isinstance(parse_json(line), dict):
                raise ValueError(f"line {number} is not a JSON object")
    except FileNotFoundError:
        return
    except ValueError as error:
        raise _BrokenError(str(error)) from error
    if rest:
        os.truncate(path, len(content) - len(rest))
