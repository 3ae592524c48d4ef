"""One run, from its config to its outcome: for `run`, `resume`, the jobs of a sweep and the trials of a study."""

from __future__ import annotations

import errno
import gc
import inspect
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tracetorch.cli.adapter import Composed, function, make
from tracetorch.cli.adapter.making import naming
from tracetorch.cli.check import OPTIONAL_PARTS, PARTS, check
from tracetorch.cli.errors import DONE, FAILED, INTERRUPTED, UsageError, complain, quote, shorten, working_directory
from tracetorch.cli.folders import CHANGEABLE, NAME_LINE, check_unchanged
from tracetorch.files import WriteError, expanded
from tracetorch.runs.ending import sentence
from tracetorch.runs.folder import RunFolder, state_of
from tracetorch.runs.identity import facts_of
from tracetorch.runs.lock import BusyError

if TYPE_CHECKING:
    from tracetorch.runs import Run


class MetricListener(Protocol):
    """A run's listener that shows a metric."""

    metric: str  # name of the metric to show; `execute` sets it

    def __call__(self, event: str, values: dict[str, Any]) -> str | None: ...


@dataclass
class RunOutcome:
    """How a run ended."""

    code: int  # the exit code
    message: str  # "" if the code is 0
    run: Run
    batch_size: int
    error: BaseException | None = None


def execute(
    composed: Composed,
    overrides: list[str],
    *,
    path: Path | None = None,
    resume_from: RunFolder | None = None,
    new_length: bool = False,
    display: MetricListener | None = None,
) -> RunOutcome:
    """Run the experiment that a config describes.

    Args:
        overrides: as typed; recorded in the folder.
        path: the run's folder; None: that of the config.
        resume_from: the folder of a run to continue.
        new_length: whether the config has another length than the run to continue, which may be completed.
        display: prints progress; None: only warnings are printed.
    Raises: UsageError, with nothing changed on disk.
    """
    config = composed.config
    with restoring_directory() as base:
        check(config)
        output = config["output"]
        if resume_from is not None:
            check_unchanged(resume_from, config, CHANGEABLE if new_length else ())

        with without_garbage_collection():
            from tracetorch.cli.lazy_compiler import defer_compiler, skip_docstrings

            defer_compiler()
            if config["train"].get("figures"):
                skip_docstrings()
            from tracetorch import device  # loads torch, which takes a second
            from tracetorch.runs import Run

            device.use_threads(config["threads"])
            train = function(config["train"])
            parts = _taken_by(train, config, make_parts(config, composed.task))
        metrics, batch_size = metrics_and_batch_size(parts["task"])
        if display is not None:
            display.metric = metrics[0]
        listener = _Listeners(display, {name: make(node, f"logger.{name}") for name, node in _loggers(config)})
        output_dir = expanded(output["dir"]) if output.get("dir") else None
        with as_usage_errors():
            run = Run(
                config,
                experiment=composed.experiment,
                root=expanded(output.get("root", "outputs")),
                path=path or output_dir,
                resume_from=resume_from,
                new_length=new_length,
                base=base,
                files=files_of(composed, overrides),
                listener=listener,
            )
        listener.run = run
        if resume_from is not None and (
            reason := _why_not_continued(base / resume_from.path, resume_from.path, config, new_length)
        ):
            run.release()
            raise UsageError(reason)
        options = {"seed": config["seed"], "device": config["device"], **_start_of(config, train, base)}
        return conclude(run, batch_size, lambda: train(run, **parts, **options))


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Disable garbage collection in the body; objects that exist after the first body, mostly modules, are exempt."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if not gc.get_freeze_count():
            gc.freeze()
        if was_enabled:
            gc.enable()


def _why_not_continued(folder: Path, shown: Path, config: dict[str, Any], new_length: bool) -> str:
    """Why a run that this process has locked cannot be continued; "" if it can. Args: shown: the folder as typed."""
    from tracetorch.runs.provenance import changed_data  # loads torch

    state = state_of(folder)
    if state.status == "completed" and not new_length:  # by another process, just now
        return f"{shown} is completed: there is nothing to continue"
    if changed := changed_data(state.facts, facts_of(config)):
        return (
            f"{changed[0]} names data that have changed since {shown} was started: restore the data, or start a new run"
        )
    return ""


def metrics_and_batch_size(task: Any) -> tuple[Sequence[str], int]:
    """The metrics of a task (the first is shown) and its batch size. Raises: UsageError if one is missing or wrong."""
    with naming("task"):
        metrics, batch_size, name = task.metrics, task.batch_size, type(task).__name__
        if not (isinstance(metrics, tuple | list) and metrics and all(isinstance(each, str) for each in metrics)):
            found = shorten(repr(metrics))
            raise UsageError(f"task: {name}.metrics must be names such as ('accuracy',), at least one; it is {found}")
        if not hasattr(batch_size, "__index__"):
            raise UsageError(f"task: {name}.batch_size must be a whole number; it is {shorten(repr(batch_size))}")
    return metrics, batch_size


@contextmanager
def restoring_directory() -> Iterator[Path]:
    """Restore the working directory after the body. Yields: the working directory. Raises: UsageError without one."""
    base = working_directory()
    try:
        yield base
    finally:
        with suppress(OSError):
            os.chdir(base)


def make_parts(config: dict[str, Any], task: Any = None) -> dict[str, Any]:
    """Make the parts for a training loop.

    Args: task: the task, if it was made before.
    Raises: UsageError if a part refuses its arguments.
    """
    names = [name for name in (*PARTS, *OPTIONAL_PARTS) if name != "train" and name in config]
    return {name: task if name == "task" and task is not None else make(config[name], name) for name in names}


def _taken_by(train: Callable[..., None], config: dict[str, Any], parts: dict[str, Any]) -> dict[str, Any]:
    """The parts, without optional ones that a loop does not take. Raises: UsageError if such a part was chosen."""
    arguments = inspect.signature(train).parameters.values()
    taken = {argument.name for argument in arguments}
    if any(argument.kind is argument.VAR_KEYWORD for argument in arguments):
        taken |= parts.keys()
    for name in set(OPTIONAL_PARTS) & parts.keys() - taken:
        if not str(config[name]["_target_"]).endswith(".Nothing"):
            raise UsageError(f"{config['train']['_target_']} does not take {name}: use {name}=none")
    return {name: part for name, part in parts.items() if name in taken or name not in OPTIONAL_PARTS}


def files_of(composed: Composed, overrides: list[str]) -> dict[str, str]:
    """The files that record the config; config.yaml comes last, because with it the run can be continued."""
    quoted = [text.replace("'", "''") for text in overrides]
    typed = "".join(f"- '{text}'\n" for text in quoted) or "[]\n"
    return {"overrides.yaml": typed, "config.yaml": f"{NAME_LINE}{composed.experiment}\n{composed.yaml}"}


def record_refused(folder: Path, composed: Composed, overrides: Sequence[str], why: str) -> None:
    """Record a run of a sweep or study that could not start; do nothing if its folder exists or the disk is full."""
    if folder.exists():
        return
    with suppress(OSError):
        refused = RunFolder.reserve(folder.parent, composed.experiment, "", folder)
        try:
            for name, content in files_of(composed, list(overrides)).items():
                refused.write_text(name, content)
            refused.write_text("error.txt", f"{why}\n")
            facts = {"status": "failed", "experiment": composed.experiment, **facts_of(composed.config)}
            refused.write_json("run.json", facts | {"summary": {}, "timings": {}, "error": why})
        except OSError:
            refused.remove()


def _loggers(config: dict[str, Any]) -> list[tuple[str, Any]]:
    return list((config.get("logger") or {}).items())


class _Listeners:
    """A run's listener that passes events on to a display and to loggers; an error of one does not stop another."""

    run: Run  # set by `execute`

    def __init__(self, display: MetricListener | None, loggers: dict[str, Any]):
        from tracetorch.loggers import Loggers

        self._display, self._is_displaying = display, display is not None
        self._loggers = Loggers(loggers, self._remark)

    def _remark(self, sentence: str) -> None:
        self.run.warn(sentence)

    def __call__(self, event: str, values: dict[str, Any]) -> str | None:
        answer = None
        if self._display is not None and (self._is_displaying or event == "end"):
            try:
                answer = self._display(event, values)
            except (Exception, SystemExit):  # for example, rich exits if the pipe behind stdout is closed
                self._is_displaying = False
        if event == "start":
            self._loggers.start(self.run.logged)
        elif event == "record":
            self._loggers.log(values)
        elif event == "end":
            self._loggers.finish(self.run.summary, values["status"])
        return answer


def _start_of(config: dict[str, Any], train: Callable[..., None], base: Path) -> dict[str, Any]:
    """The options of a training loop for a start from a trained network, and for frozen layers; {} if none is set.

    Raises: UsageError if the loop does not take one.
    """
    options: dict[str, Any] = {}
    if config.get("init_from") is not None:
        options = {"init_from": base / expanded(config["init_from"]), "init_parts": config["init_parts"]}
    if config.get("frozen"):
        options["frozen"] = config["frozen"]
    arguments = inspect.signature(train).parameters
    if not any(argument.kind is argument.VAR_KEYWORD for argument in arguments.values()):
        for name in options.keys() - arguments.keys():
            raise UsageError(f"{config['train']['_target_']} does not take {name}: leave it out")
    return options


@contextmanager
def as_usage_errors() -> Iterator[None]:
    """Raise a UsageError if the body finds that a folder is in use, or cannot be written."""
    try:
        yield
    except BusyError as error:
        raise UsageError(f"{error}; wait for it, or stop it first") from error
    except WriteError as error:
        raise UsageError(_unwritten(error)) from error


def conclude(run: Run, batch_size: int, loop: Callable[[], None]) -> RunOutcome:
    """Call the loop of a run. Returns: how the run ended, also after an error.

    Raises: UsageError if the run failed before it had a folder; KeyboardInterrupt.
    """
    try:
        loop()
    except KeyboardInterrupt:
        run.release()
        raise
    except BaseException as error:
        run.release()
        if run.status == "new":  # wrong config or part, or a folder that cannot be written
            raise UsageError(_sentence(error, run)) from error
        return RunOutcome(FAILED, f"{_sentence(error, run)} (see {run.shown})", run, batch_size, error)
    for warning in run.warnings:
        advice = f"; to draw again: tracetorch plot {quote(run.shown)}" if warning.startswith("no figure") else ""
        complain(f"{warning}{advice}")
    if run.status == "interrupted":
        return RunOutcome(INTERRUPTED, _interrupted(run), run, batch_size)
    return RunOutcome(DONE, "", run, batch_size)


def _interrupted(run: Run) -> str:
    if run.kind == "evaluation":
        return f"interrupted; to start again: tracetorch eval {quote(run.shown.parent.parent)}"
    updates = run.summary.get("updates", 0)
    count = f"{updates} update{'s' * (updates != 1)}"
    return f"interrupted after {count}; all is saved; to continue: tracetorch resume {quote(run.shown)}"


def _sentence(error: BaseException, run: Run) -> str:
    if run.status != "new" and not run.folder.path.is_dir():
        return f"{run.shown} was removed during the run"
    if isinstance(error, SystemExit) and run.status != "new":
        return f"{sentence(error)}: the run counts as failed"
    if not isinstance(error, WriteError):
        return sentence(error)
    if run.status != "new" and run.kind == "training":
        return f"{_unwritten(error)}; once it is writable, continue: tracetorch resume {quote(run.shown)}"
    if run.kind == "evaluation" or run.is_resumed:
        return f"{_unwritten(error)}; free some space, then try again"
    if error.errno == errno.EEXIST:
        return f"output.dir={_near(error.filename)} exists already; name another folder, or remove it first"
    return f"{_unwritten(error)}; choose another output.dir or output.root"


def _unwritten(error: OSError) -> str:
    return f"cannot write to {_near(error.filename or 'the disk')}: {error.strerror or error}"


def _near(path: object) -> str:
    """A path for a message, relative to the working directory if it lies below it."""
    try:
        return shorten(Path(str(path)).relative_to(Path.cwd()))
    except (OSError, ValueError):
        return shorten(path)
