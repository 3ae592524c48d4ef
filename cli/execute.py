"""One run, from its config to its outcome: made, trained, recorded. For `run`, `resume`, and the jobs of a sweep."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tracetorch.cli.adapter import Composed, function, make
from tracetorch.cli.check import BESIDE, PARTS, check
from tracetorch.cli.errors import DONE, FAILED, INTERRUPTED, UsageError, shorten
from tracetorch.cli.folders import check_unchanged

if TYPE_CHECKING:
    from tracetorch.runs import Run, RunFolder


class Follower(Protocol):
    """A run's listener that is told which metric to speak of."""

    metric: str

    def __call__(self, event: str, values: dict[str, Any]) -> str | None: ...


@dataclass
class Outcome:
    """How a run ended: its exit code, and a sentence where that is not 0."""

    code: int
    message: str
    run: Run
    batch_size: int
    error: BaseException | None = None


def execute(
    composed: Composed,
    overrides: list[str],
    *,
    exactly: Path | None = None,
    again: RunFolder | None = None,
    display: Follower | None = None,
) -> Outcome:
    """Train what a config describes.

    Args:
        overrides: what was typed, for the folder.
        exactly: the folder; what the config says, if None.
        again: go on in this folder.
        display: shows how it goes.
    Raises: UsageError, with nothing left on disk or changed there.
    """
    config, output = composed.config, composed.config["output"]
    check(config)
    if again is not None:
        check_unchanged(again, config)

    from tracetorch import device  # from here on it takes a second: torch is loaded
    from tracetorch.runs import Run
    from tracetorch.runs.identity import facts_of
    from tracetorch.runs.same import other_data
    from tracetorch.runs.state import state_of

    device.use_threads(config["threads"])
    train = function(config["train"])
    parts = _for(train, config, make_parts(config))
    if display is not None:
        display.metric = parts["task"].metrics[0]
    typed = Path(output["dir"]).expanduser() if output.get("dir") else None
    with refusing():
        run = Run(
            config,
            experiment=composed.experiment,
            root=Path(output.get("root", "outputs")).expanduser(),
            exactly=exactly or typed,
            again=again,
            files=files_of(composed, overrides),
            listener=display,
        )
    if again is not None and state_of(again.path).status == "completed":  # by another process, a moment ago
        run.release()
        raise UsageError(f"{again.path} is completed: there is nothing to go on with")
    if again is not None and (other := other_data(state_of(again.path).facts, facts_of(config))):
        run.release()
        raise UsageError(
            f"{other[0]} names data with another content than when {again.path} was begun: put those back, or start "
            "a run of its own"
        )
    return conclude(
        run, parts["task"].batch_size, lambda: train(run, **parts, seed=config["seed"], device=config["device"])
    )


def make_parts(config: dict[str, Any]) -> dict[str, Any]:
    """The parts that a time loop is given. Raises: UsageError if one refuses what it is given."""
    return {name: make(config[name], name) for name in (*PARTS, *BESIDE) if name != "train" and name in config}


def _for(train: Callable[..., None], config: dict[str, Any], parts: dict[str, Any]) -> dict[str, Any]:
    """The parts that this time loop takes. Raises: UsageError if something was chosen that it does not."""
    arguments = inspect.signature(train).parameters.values()
    takes = {argument.name for argument in arguments}
    if any(argument.kind is argument.VAR_KEYWORD for argument in arguments):
        takes |= parts.keys()
    for name in set(BESIDE) & parts.keys() - takes:
        if not str(config[name]["_target_"]).endswith(".Nothing"):
            raise UsageError(f"{name}: {config['train']['_target_']} takes none; leave it at {name}=none")
    return {name: part for name, part in parts.items() if name in takes or name not in BESIDE}


def files_of(composed: Composed, overrides: list[str]) -> dict[str, str]:
    """What a run's folder says of its config."""
    typed = "".join(f"- {_quoted(text)}\n" for text in overrides) or "[]\n"
    return {"config.yaml": composed.yaml, "overrides.yaml": typed}


@contextmanager
def refusing() -> Iterator[None]:
    """What says that a folder is in use becomes a UsageError."""
    from tracetorch.runs import BusyError

    try:
        yield
    except BusyError as error:
        raise UsageError(f"{error}; wait for it, or stop it first") from error


def conclude(run: Run, batch_size: int, loop: Callable[[], None]) -> Outcome:
    """Do the work of a run, and say how it ended. Raises: UsageError if it failed before it had a folder."""
    try:
        loop()
    except Exception as error:
        if run.status == "new":  # the config is at fault, or the place to write
            raise UsageError(_sentence(error, run)) from error
        return Outcome(FAILED, f"{_sentence(error, run)} (see {run.folder.path})", run, batch_size, error)
    if run.status == "interrupted":
        done = run.summary.get("updates", 0)
        went_on = f"tracetorch resume {run.folder.path} goes on"
        message = f"interrupted after {done} update{'s' * (done != 1)}; all is in {run.folder.path}: {went_on}"
        return Outcome(INTERRUPTED, message, run, batch_size)
    return Outcome(DONE, "", run, batch_size)


def _sentence(error: Exception, run: Run) -> str:
    if isinstance(error, FileExistsError):
        return f"output.dir={shorten(error.filename)} exists already; name another folder, or remove it first"
    if isinstance(error, OSError) and error.strerror:
        where = f"cannot write to {shorten(error.filename or 'the disk')}: {error.strerror}"
        if run.status == "new":
            return f"{where}; choose another output.dir or output.root"
        if not run.folder.path.is_dir():
            return f"{run.folder.path} was removed while the run was at work in it"
        return f"{where}; once there is room, tracetorch resume {run.folder.path} goes on"
    return str(error) or type(error).__name__


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
