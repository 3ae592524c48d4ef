"""Sweeps: what jobs they consist of, by one of Hydra's sweepers; and how they are launched, by one of its launchers."""

from __future__ import annotations

import logging
import math
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from hydra import initialize_config_dir
from hydra._internal.callbacks import Callbacks  # Hydra's launchers want them, and nothing public makes them
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import SearchPathElement
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import ChoiceSweep, Glob, Override, RangeSweep
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig

from tracetorch.cli.adapter.composing import ERRORS, check_choice, conf_dir
from tracetorch.cli.adapter.foreign import searched
from tracetorch.cli.adapter.overrides import of_hydra, parse
from tracetorch.cli.adapter.presets import options
from tracetorch.cli.errors import UsageError, did_you_mean, shorten

_EXTRAS = {"joblib": "parallel", "submitit_local": "slurm", "submitit_slurm": "slurm"}
"""Launchers that are packages of their own, and the extra that brings them."""

_MOST_JOBS = 10_000
"""Bound for the jobs of a sweep, so that its plan can be read again; see `files.MOST_ELEMENTS`."""

_QUIET = ("hydra/job_logging=none", "hydra/hydra_logging=none", "hydra.output_subdir=null", "hydra.job.chdir=false")

Work = Callable[[int], Any]
"""What a job does, given its place among those launched."""


def split(overrides: list[str], config_dir: Path | None = None) -> tuple[list[str], list[str]]:
    """Overrides of a sweep, into those for its runs and those for Hydra's sweeper and launcher. Raises: UsageError."""
    parsed = [(line, parse(line, sweep=True)) for line in overrides]
    for _, override in parsed:
        check_choice(override, config_dir)
    settings = [line for line, override in parsed if of_hydra(override)]
    return [line for line, override in parsed if not of_hydra(override)], settings


def check_number(sweeps: Iterable[list[str]], config_dir: Path | None = None) -> None:
    """Check that sweeps, each the overrides of its runs, have no more jobs than a plan can hold; none is made.

    Args: config_dir: a folder with further choices, see `compose`.
    Raises: UsageError.
    """
    count = sum(math.prod(_values(parse(line, sweep=True), config_dir) for line in overrides) for overrides in sweeps)
    if count > _MOST_JOBS:
        how_many = f"{count:,}" if count < _MOST_JOBS**2 else f"{_MOST_JOBS**2:,} or more"
        raise UsageError(f"this sweep has {how_many} jobs, and a sweep can have {_MOST_JOBS:,}: give fewer values")


def _values(override: Override, config_dir: Path | None) -> int:
    """How many values a line of a sweep has, at most."""
    value = override.value()
    if isinstance(value, Glob):
        return len(options(override.key_or_group, config_dir))
    if isinstance(value, ChoiceSweep):
        return len(value.list)
    if not isinstance(value, RangeSweep):
        return 1
    try:
        start, stop, step = (Fraction(number or 0) for number in (value.start, value.stop, value.step))
        return max(0, math.ceil((stop - start) / step))
    except ZeroDivisionError:
        return 0
    except (OverflowError, ValueError):  # of an infinite number
        return _MOST_JOBS**2


def expand(overrides: list[str], settings: list[str], config_dir: Path | None = None) -> list[list[str]]:
    """The jobs of a sweep in the order of its sweeper, each as the overrides of one run.

    Args: config_dir: a folder with further choices, see `compose`.
    Raises: UsageError if the settings do not fit, or if the sweeper needs results to choose its jobs.
    """
    jobs: list[list[str]] = []

    class Recorder(Launcher):
        """Takes note of the jobs, and launches nothing."""

        def setup(self, *, hydra_context: HydraContext, task_function: Any, config: DictConfig) -> None: ...

        def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
            jobs.extend(list(map(str, job)) for job in job_overrides)
            return []

    with (
        tempfile.TemporaryDirectory(prefix="tracetorch-") as folder,
        _hydra(settings, Path(folder), config_dir=config_dir) as (config, context),
    ):
        sweeper: Any = Plugins.instance().instantiate_sweeper(config=config, hydra_context=context, task_function=len)
        sweeper.launcher = Recorder()
        sweeper.validate_batch_is_legal = lambda batch: None  # each is composed later, by us, with better words
        try:
            sweeper.sweep(arguments=overrides)
        except ERRORS as error:
            raise UsageError(f"this sweep has no jobs: {shorten(str(error).splitlines()[0], 200)}") from error
        except Exception as error:
            kind = type(sweeper).__name__
            raise UsageError(
                f"{kind} chooses its jobs by the results of others; use hydra/sweeper=basic, or tracetorch tune"
            ) from error
    if not jobs:
        raise UsageError(f"this sweep has no jobs: {shorten(' '.join(overrides))}")
    return jobs


def launcher_of(settings: list[str]) -> str:
    """The name of the launcher that the settings choose."""
    chosen = [line.partition("=")[2] for line in settings if line.partition("=")[0] == "hydra/launcher"]
    return chosen[-1] if chosen else "basic"


def change_launcher(settings: list[str], changes: list[str]) -> list[str]:
    """Settings with another launcher, or with other settings of the same.

    Raises: UsageError if a change concerns anything but the launcher.
    """
    others, changes = split(changes)
    others += [line for line in changes if not line.startswith(("hydra/launcher=", "hydra.launcher."))]
    if others:
        raise UsageError(f"'{shorten(others[0])}': of a sweep that has started, only the launcher can be changed")
    if any(line.startswith("hydra/launcher=") for line in changes):
        settings = [line for line in settings if not line.startswith(("hydra/launcher", "hydra.launcher."))]
    return [*settings, *changes]


def launch(
    jobs: list[list[str]], settings: list[str], folder: Path, work: Work, begin: Callable[[], None] | None = None
) -> list[str]:
    """Run jobs through the launcher that the settings name; by default one after another, in this process.

    Args:
        jobs: the overrides of each; what they compose to is known already, so that Hydra composes nothing again.
        folder: where the launcher may keep what it needs.
        work: called for each, perhaps in another process, to which it is pickled.
        begin: called once in each process of joblib's pool, before its first job.
    Returns: what it returned, or the exception that it raised, in words.
    Raises: whatever the launcher raises where a process was killed; KeyboardInterrupt.
    """
    with _hydra(settings, folder, name=None) as (config, context), _silence():
        launcher: Any = Plugins.instance().instantiate_launcher(
            config=config, hydra_context=context, task_function=_Task(work)
        )
        if begin is not None and launcher_of(settings) == "joblib":
            launcher.joblib |= {"initializer": begin}
        returned = launcher.launch([[] for _ in jobs], initial_job_idx=0)
    return [_words(one) for one in returned]


def _words(returned: JobReturn) -> str:
    value = returned._return_value  # `return_value` raises what a job raised, and prints
    return str(value) or ("" if returned.status == JobStatus.COMPLETED else type(value).__name__)


@contextmanager
def _silence() -> Iterator[None]:
    """Suppress the launchers' own messages: what concerns a job is in its folder."""
    logger = logging.getLogger("submitit")
    logger.addFilter(_nothing)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"joblib|submitit|hydra_plugins")
            yield
    finally:
        logger.removeFilter(_nothing)


def _nothing(record: logging.LogRecord) -> bool:
    return False


@dataclass(frozen=True)
class _Task:
    """A job function as Hydra calls it."""

    work: Work

    def __call__(self, config: DictConfig) -> Any:
        return self.work(int(HydraConfig.get().job.num))


@contextmanager
def _hydra(
    settings: list[str], folder: Path, name: str | None = "config", config_dir: Path | None = None
) -> Iterator[tuple[DictConfig, HydraContext]]:
    """Hydra's own config for a sweep, as `@hydra.main` makes it.

    Args:
        name: of the config of its jobs, if any.
        config_dir: a folder whose choices patterns such as glob(*) find as well.
    """
    where = [f"hydra.sweep.dir={_quoted(str(folder))}", "hydra.sweep.subdir=."]
    with initialize_config_dir(config_dir=str(conf_dir()), version_base="1.3", job_name="tracetorch"):
        hydra: Any = GlobalHydra.instance().hydra
        if config_dir is not None:
            places = hydra.config_loader.get_search_path()
            element = SearchPathElement("presets", searched(config_dir))
            places.get_path().insert(-1, element)  # after ours; the last is Hydra's own
            hydra.config_loader.repository.initialize_sources(places)
        try:
            config = hydra.compose_config(
                name, [*settings, *where, *_QUIET], run_mode=RunMode.MULTIRUN, with_log_configuration=False
            )
        except ERRORS as error:
            raise _wrong_setting(error, settings, hydra.config_loader) from error
        yield config, HydraContext(config_loader=hydra.config_loader, callbacks=Callbacks(config))


def _wrong_setting(error: Exception, settings: list[str], loader: ConfigLoader) -> UsageError:
    """The error for the setting that Hydra refuses, with the choices that exist."""
    for line in settings:
        group, _, choice = line.partition("=")
        known = loader.get_group_options(group) if "/" in group else []
        if "/" not in group or choice in known:
            continue
        if choice in _EXTRAS:
            extra = _EXTRAS[choice]
            return UsageError(f"{line} needs the extra '{extra}': pip install -c constraints.txt -e '.[{extra}]'")
        there = f"There are: {', '.join(known)}."
        return UsageError(f"{shorten(line)}: there is no such {group}.{did_you_mean(choice, known)} {there}")
    own = [line for line in settings if line.lstrip("+").startswith("hydra.launcher.")]
    if own and not any(line.startswith("hydra/launcher=") for line in settings):
        return UsageError(f"{shorten(own[0])}: the basic launcher has no such setting; add hydra/launcher=joblib")
    return UsageError(f"{shorten(' '.join(settings))}: {shorten(str(error).splitlines()[0], 200)}")


def _quoted(text: str) -> str:
    """A value that Hydra reads as this very text."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("${", "\\${")
    return f"'{escaped}'"
