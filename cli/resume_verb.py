"""`tracetorch resume`: continue an interrupted run, or the unfinished jobs of a sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tracetorch.cli.errors import DONE, UsageError, quote, shorten
from tracetorch.cli.shared_arguments import FailFast, Traceback, Trust, parse_folder
from tracetorch.cli.terminal import say

Changes = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE",
        help="Sweeps: another launcher (hydra/launcher=joblib). Runs: task.resume=new_episodes.",
    ),
]
Folder = Annotated[Path, typer.Argument(metavar="DIR", parser=parse_folder, help="The folder of a run or of a sweep.")]


def command(
    folder: Folder,
    changes: Changes = None,
    *,
    fail_fast: FailFast = False,
    trust: Trust = None,
    traceback: Traceback = False,
) -> None:
    """Continue a run from its latest checkpoint, exactly; in a sweep, run every job that is not completed."""
    from tracetorch.cli.folders import holds
    from tracetorch.cli.sweep.plan import FILE

    if holds(folder, FILE):
        from tracetorch.cli.sweep.run_sweep import resume_sweep

        raise typer.Exit(resume_sweep(folder, changes or [], trust or [], fail_fast=fail_fast))
    raise typer.Exit(_resume_run(folder, changes or [], trust or [], traceback))


def _how(changes: list[str]) -> str | None:
    """The value of task.resume, the one key that a run may continue with another value of. Raises: UsageError."""
    for line in changes:
        if not line.startswith("task.resume="):
            advice = "a run continues with its own config; for another, use tracetorch run"
            raise UsageError(f"'{shorten(line)}': {advice}")
    return changes[-1].partition("=")[2] if changes else None


def _resume_run(folder: Path, changes: list[str], trust: list[str], show_traceback: bool) -> int:
    from tracetorch.cli.folders import check_training, find_run, holds, naming_the_other

    if holds(folder, "study.json"):
        raise UsageError(f"{folder} is a study; to continue it: tracetorch tune --study {quote(folder)}")
    if folder.is_dir() and not holds(folder, "config.yaml"):
        raise UsageError(f"{folder} is not the folder of a run or a sweep: it has neither config.yaml nor sweep.json")
    how = _how(changes)
    found = find_run(folder, trust)
    check_training(found)
    if found.state.status == "completed":
        done = f"{folder} is completed: there is nothing to continue"
        say(f"{done}; to draw its figures again: tracetorch plot {quote(folder)}")
        return DONE

    from tracetorch.cli.display import Display
    from tracetorch.cli.execute import execute

    if how is not None:  # configs of older versions lack the key
        found.composed.config["task"]["resume"] = how
    display = Display(found.composed.experiment)
    with naming_the_other(found.folder, "resume"):
        outcome = execute(found.composed, [], resume_from=found.folder, display=display)
    return display.conclude(outcome, show_traceback)
