"""`tracetorch resume`: continue an interrupted run, or the unfinished jobs of a sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tracetorch.cli.errors import UsageError, quote, shorten
from tracetorch.cli.shared_arguments import FailFast, Traceback, Trust, changes_argument, folder_argument
from tracetorch.cli.terminal import say

Changes = Annotated[
    list[str] | None,
    changes_argument(help="Sweeps: another launcher (hydra/launcher=joblib). Runs: task.resume=new_episodes."),
]
Folder = Annotated[Path, folder_argument(help="The folder of a run or of a sweep.")]


def command(
    folder: Folder,
    changes: Changes = None,
    *,
    fail_fast: FailFast = False,
    trust: Trust = None,
    traceback: Traceback = False,
) -> None:
    """Continue a run from its latest checkpoint, exactly; in a sweep, run every job that is not completed."""
    from tracetorch.cli.folders import check_training, find_run, holds, naming_the_other
    from tracetorch.cli.sweep.plan import FILE

    typed = changes or []
    if holds(folder, FILE):
        from tracetorch.cli.sweep.run_sweep import resume_sweep

        raise typer.Exit(resume_sweep(folder, typed, trust or [], fail_fast=fail_fast))
    if holds(folder, "study.json"):
        raise UsageError(f"{folder} is a study; to continue it: tracetorch tune --study {quote(folder)}")
    if folder.is_dir() and not holds(folder, "config.yaml"):
        raise UsageError(f"{folder} is not the folder of a run or a sweep: it has neither config.yaml nor sweep.json")
    for line in typed:
        if not line.startswith("task.resume="):
            advice = "a run continues with its own config; for another, use tracetorch run"
            raise UsageError(f"'{shorten(line)}': {advice}")
    found = find_run(folder, trust or [])
    check_training(found)
    if found.state.status == "completed":
        remark = f"{folder} is completed: there is nothing to continue"
        say(f"{remark}; to draw its figures again: tracetorch plot {quote(folder)}")
        return

    from tracetorch.cli.display import Display
    from tracetorch.cli.execute import execute

    if typed:  # set here, because configs of older versions lack the key
        found.composed.config["task"]["resume"] = typed[-1].partition("=")[2]
    display = Display(found.composed.experiment)
    with naming_the_other(found.folder, "resume"):
        outcome = execute(found.composed, [], resume_from=found.folder, display=display)
    raise typer.Exit(display.conclude(outcome, traceback))
