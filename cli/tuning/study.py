"""A study on disk, perhaps shared by several processes: which trials there were, who is at work, what to try next."""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock, JournalStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from tracetorch.cli.errors import UsageError
from tracetorch.cli.tuning.place import FILE
from tracetorch.cli.tuning.sampler import SeededSampler
from tracetorch.cli.tuning.search import Search
from tracetorch.cli.tuning.space import Choices, Parameter
from tracetorch.runs.lock import BusyError, Lock, is_locked

JOURNAL = "study.jsonl"
WORKERS = ".workers"
"""A folder with one for each process that is at work, locked for as long as it lives."""

_WORKER, _AGAIN, _ERROR = "worker", "again", "error"  # what a trial is marked with
_PATIENCE = 60.0
_STARTUP = 5  # completed trials before one is ended early


class Study:
    """A study, as one of perhaps several processes sees it. To be entered, which makes it known as being at work.

    Args:
        folder: of the study, which is there.
        seed: the same one gives the same trials, one process at a time.
    Raises: UsageError if the journal is broken.
    """

    def __init__(self, folder: Path, search: Search, seed: int):
        self.folder, self.search = folder.resolve(), search  # a relative path in optuna's lock would lead nowhere
        self._distributions = {key: _distribution(one) for key, one in search.space.items()}
        self._worker = f"{os.getpid()}-{secrets.token_hex(4)}"
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        try:
            with self.alone():
                _mend(self.folder / JOURNAL)
                self._study = optuna.create_study(
                    study_name="tune",
                    storage=JournalStorage(JournalFileBackend(str(self.folder / JOURNAL))),
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
        except Exception as error:  # whatever a damaged line makes optuna stumble over
            raise UsageError(f"{folder / JOURNAL} is broken ({type(error).__name__}): begin a new study") from error

    def __enter__(self) -> Study:
        place = self.folder / WORKERS / self._worker
        with self.alone():
            place.mkdir(parents=True)
            self._lock = Lock(place)
        return self

    def __exit__(self, *error: object) -> None:
        self._lock.release()
        with suppress(OSError), self.alone():
            shutil.rmtree(self.folder / WORKERS / self._worker)
            (self.folder / WORKERS).rmdir()  # unless others are there

    def next(self, most: int) -> Trial | None:
        """What to try next; None if so many trials are done or at work.

        A trial whose process is gone counts as failed, and what it tried is tried again.
        """
        with self.alone():
            self._recover()
            if self.begun() >= most:
                return None
            try:
                trial = self._study.ask(self._distributions)
            except ValueError as error:  # what is to be tried again is none of the choices
                raise UsageError(f"{self.folder / JOURNAL} is of another search: begin a new study") from error
            trial.set_user_attr(_WORKER, self._worker)
            return trial

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
        """How many trials are done or at work, without those that are tried again."""
        return len({one.number for one in self.trials()} - self.repeated())

    def repeated(self) -> set[int]:
        """Trials that came to no end, and are tried again under another number."""
        marks = [one.user_attrs.get(_AGAIN) for one in self._study.get_trials(deepcopy=False)]
        return {mark for mark in marks if isinstance(mark, int)}

    def at_work(self) -> int:
        """How many trials other processes are at work on."""
        return sum(one.state == TrialState.RUNNING and self._is_alive(one) for one in self.trials())

    def _check(self) -> None:
        for one in self.trials():
            if any(self._distributions.get(key) != found for key, found in one.distributions.items()):
                raise UsageError(f"{self.folder / JOURNAL} is of another search than {FILE}: begin a new study")

    def _recover(self) -> None:
        for one in self.trials():
            if one.state == TrialState.RUNNING and not self._is_alive(one):
                self._study.enqueue_trial(one.params, user_attrs={_AGAIN: one.number})
                self._study.tell(one.number, state=TrialState.FAIL)

    def _is_alive(self, trial: FrozenTrial) -> bool:
        name = trial.user_attrs.get(_WORKER)
        if not isinstance(name, str) or Path(name).name != name:
            return False
        return name != self._worker and is_locked(self.folder / WORKERS / name)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """One process at a time asks and tells, so that none is asked for more than there is to do."""
        until = time.monotonic() + _PATIENCE
        while True:
            try:
                lock = Lock(self.folder)
                break
            except BusyError:
                if time.monotonic() > until:
                    raise UsageError(f"another process has not let go of {self.folder} for a minute") from None
                time.sleep(0.05)
        try:
            yield
        finally:
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


def _mend(path: Path) -> None:
    """Take off a last line that was cut short, as on a full disk: optuna would stumble over it for ever."""
    if not path.exists():
        return
    lock = JournalFileSymlinkLock(str(path))
    lock.acquire()
    try:
        content = path.read_bytes()
        if content and not content.endswith(b"\n"):
            os.truncate(path, content.rfind(b"\n") + 1)
    finally:
        lock.release()
