"""A study on disk, perhaps shared by several processes: its trials, its processes, and the next values to try."""

# optuna's RDBStorage with a heartbeat and RetryFailedTrialCallback (tried with optuna 5.0) does not replace this class:
# only `Study.optimize` keeps a heartbeat, a retry gets a new number and so other values, a suspended process counts as
# gone, and two processes that ask at the same moment exceed the number of trials.

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.storages.journal._file import BaseJournalFileLock  # it has no public name
from optuna.trial import FrozenTrial, Trial, TrialState

from tracetorch.cli.errors import UsageError
from tracetorch.cli.tuning.search import Choices, Parameter, Search
from tracetorch.cli.tuning.study_folder import FILE
from tracetorch.files import parse_json, read_bytes
from tracetorch.runs.lock import BusyError, Lock, is_locked

JOURNAL = "study.jsonl"
WORKERS = ".workers"  # subfolder with a folder for each process, which the process locks while it lives

_WORKER, _ERROR = "worker", "error"  # attributes of a trial
_PATIENCE_SECONDS = 60.0
_STARTUP = 5  # completed trials before one can be pruned


class Study:
    """An existing study, perhaps shared by several processes. The body of its context may run trials.

    Args: seed: of all trials; with the same seed, a single process repeats them exactly.
    Raises: UsageError if the journal is broken or belongs to another search.
    """

    def __init__(self, folder: Path, search: Search, seed: int):
        self.folder, self.search = folder.resolve(), search  # a relative path in optuna's lock would not resolve
        self._distributions = {key: _distribution(parameter) for key, parameter in search.space.items()}
        median = optuna.pruners.MedianPruner(n_startup_trials=_STARTUP)
        self._worker = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._worker_folder = self.folder / WORKERS / self._worker
        self._lock_depth = 0
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        try:
            with self.locked():
                _check_journal(folder / JOURNAL)
                self._study = optuna.create_study(
                    study_name="tune",
                    storage=JournalStorage(_Journal(self.folder / JOURNAL, self.locked)),
                    direction=search.direction,
                    sampler=_SeededSampler(seed),
                    pruner=median if search.pruner == "median" else optuna.pruners.NopPruner(),
                    load_if_exists=True,
                )
                self._check()
        except (OSError, UsageError):
            raise
        except Exception as error:  # optuna's, for an invalid line
            raise UsageError(f"{folder / JOURNAL} is broken ({type(error).__name__}): begin a new study") from error

    def __enter__(self) -> Study:
        with self.locked():
            try:
                self._worker_folder.mkdir(parents=True)
                self._lock = Lock(self._worker_folder)
            except OSError:
                self._tidy()
                raise
        return self

    def __exit__(self, *error: object) -> None:
        self._lock.release()
        shutil.rmtree(self._worker_folder, ignore_errors=True)  # not locked: that can fail on a broken disk
        with suppress(OSError), self.locked():
            self._tidy()

    def _tidy(self) -> None:
        """Remove the folders that killed processes have left, as far as possible."""
        with suppress(OSError):
            for folder in (self.folder / WORKERS).iterdir():
                if not is_locked(folder):
                    shutil.rmtree(folder)
            (self.folder / WORKERS).rmdir()  # fails while other processes run trials

    def next(self, most: int) -> Trial | None:
        """The next trial to run; None if `most` trials have ended or run.

        A trial whose process is gone comes first. It keeps its number and its values.
        """
        with self.locked():
            started = self.trials()
            abandoned = [each for each in started if each.state == TrialState.RUNNING and not self._is_alive(each)]
            if len(started) - len(abandoned) >= most:
                return None
            trial = Trial(self._study, abandoned[0]._trial_id) if abandoned else self._study.ask()
            for name, distribution in self._distributions.items():
                trial._suggest(name, distribution)  # as `ask` does; it keeps the values that the trial has
            trial.set_user_attr(_WORKER, self._worker)
            return trial

    def reported(self, trial: Trial) -> dict[int, float]:
        """The values that a continued trial has reported, by update."""
        return dict(self._study.get_trials(deepcopy=False)[trial.number].intermediate_values)

    def tell(self, trial: Trial, state: TrialState, value: float | None = None, error: str = "") -> None:
        """Record how a trial has ended."""
        if error:
            trial.set_user_attr(_ERROR, error)
        with self.locked():
            self._study.tell(trial, value, state)

    def trials(self) -> list[FrozenTrial]:
        """All trials that have started, by number."""
        return [each for each in self._study.get_trials(deepcopy=False) if each.state != TrialState.WAITING]

    def best(self) -> FrozenTrial | None:
        """The best completed trial; None if no trial is completed."""
        try:
            return self._study.best_trial
        except ValueError:
            return None

    def num_running(self) -> int:
        """The number of trials that other processes run."""
        return sum(each.state == TrialState.RUNNING and self._is_alive(each) for each in self.trials())

    def _check(self) -> None:
        """Raises: UsageError if a trial in the journal has other keys, ranges or values than the search."""
        for trial in self.trials():
            for key, recorded in trial.distributions.items():
                expected = self._distributions.get(key)
                if expected != recorded or not expected._contains(expected.to_internal_repr(trial.params[key])):
                    journal = self.folder / JOURNAL
                    raise UsageError(f"{journal} belongs to another search than {FILE}: begin a new study")

    def _is_alive(self, trial: FrozenTrial) -> bool:
        """Whether the process of a trial lives, and is not this one."""
        name = trial.user_attrs.get(_WORKER)
        if not isinstance(name, str) or Path(name).name != name:
            return False
        return name != self._worker and is_locked(self.folder / WORKERS / name)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the study in the body: otherwise, two processes could get the same trial. Raises: UsageError."""
        if self._lock_depth:
            yield
            return
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                lock = Lock(self.folder)
                break
            except BusyError:
                if time.monotonic() > deadline:
                    fault = f"another process has locked {self.folder} for a minute: wait for it, or stop it"
                    raise UsageError(fault) from None
                time.sleep(0.05)
        self._lock_depth += 1
        try:
            yield
        finally:
            self._lock_depth -= 1
            lock.release()


def _distribution(parameter: Parameter) -> BaseDistribution:
    if isinstance(parameter, Choices):
        return CategoricalDistribution(parameter.labels)
    low, high, log, step = parameter.low, parameter.high, parameter.log, parameter.step
    if parameter.whole:
        return IntDistribution(int(low), int(high), log=log, step=int(step or 1))
    return FloatDistribution(low, high, log=log, step=step)


class _SeededSampler(BaseSampler):
    """A TPE sampler whose values depend only on the study's seed, the trial's number and the results so far.

    So an interrupted study continues with the same values, even after a kill between two values of one trial, and
    no two processes draw the same values. TPE keeps no state: it reads the trials of the study. A running trial
    counts as a bad trial, so that other processes try no values close to its values.
    """

    def __init__(self, seed: int):
        self._seed = seed
        self._tpe = self._seeded()

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self._tpe = self._seeded(trial.number)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._tpe.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._tpe.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        tpe = self._seeded(trial.number, param_name)
        return tpe.sample_independent(study, trial, param_name, param_distribution)

    def _seeded(self, *parts: object) -> TPESampler:
        digest = hashlib.sha256(" ".join(map(str, (self._seed, *parts))).encode()).digest()
        return TPESampler(seed=int.from_bytes(digest[:4], "big"), constant_liar=True)


class _JournalLock(BaseJournalFileLock):
    """The study's lock, for optuna. It ends with its process; optuna's own lock is a link that remains after a kill."""

    def __init__(self, locked: Callable[[], AbstractContextManager[None]]):
        self._locked, self._stack = locked, ExitStack()

    def acquire(self) -> bool:
        self._stack.enter_context(self._locked())
        return True

    def release(self) -> None:
        self._stack.close()


class _Journal(JournalFileBackend):
    """optuna's journal, one JSON object per line. A line left incomplete by a failed write is removed at once."""

    def __init__(self, path: Path, locked: Callable[[], AbstractContextManager[None]]):
        super().__init__(str(path), _JournalLock(locked))
        self._path, self._locked = path, locked

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        with self._locked():
            size = self._path.stat().st_size
            try:
                super().append_logs(logs)
            except BaseException:
                os.truncate(self._path, size)
                raise


def _check_journal(path: Path) -> None:
    """Remove an incomplete last line, left by a kill or a full disk. Raises: UsageError for any other damage."""
    try:
        content = read_bytes(path)
        whole, _, rest = content.rpartition(b"\n")
        for number, line in enumerate(whole.split(b"\n") if whole else [], 1):
            if not isinstance(parse_json(line), dict):
                raise ValueError(f"line {number} is not a JSON object")
    except FileNotFoundError:
        return
    except ValueError as error:
        raise UsageError(f"{path} is broken ({error}): begin a new study") from error
    if rest:
        os.truncate(path, len(content) - len(rest))
