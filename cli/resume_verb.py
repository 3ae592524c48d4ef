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
    changes_argument(
        help="A new length (train.passes=20), of a run or of all jobs of a sweep. "
        "Runs: task.resume=new_episodes. Sweeps: another launcher (hydra/launcher=joblib)."
    ),
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
    """Continue a run from its latest checkpoint, exactly, or to a new length, such as train.passes=20.

    In a sweep: run every job that is not completed, or not of the new length.
    """
    from tracetorch.cli.folders import (
        CHANGEABLE,
        check_training,
        find_run,
        holds,
        naming_the_other,
        with_other_lengths,
    )
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
        if line.partition("=")[0] not in (*CHANGEABLE, "task.resume"):
            advice = "a run continues with its own config; only its length changes, such as train.passes=20"
            start = f"to start a new run from its weights: tracetorch run init_from={quote(folder)} {quote(line)}"
            raise UsageError(f"'{shorten(line)}': {advice}; {start}")
    lengths = [line for line in typed if line.startswith("train.")]
    found = find_run(folder, trust or [], lengths, may_differ=CHANGEABLE if lengths else ())
    check_training(found)
    if found.state.status == "completed" and not lengths:
        remark = f"{folder} is completed: there is nothing to continue"
        longer = f"to train it for longer: tracetorch resume {quote(folder)} train.passes=… or train.updates=…"
        say(f"{remark}; {longer}; to draw its figures again: tracetorch plot {quote(folder)}")
        return
    config = found.composed.config
    for line in with_other_lengths(config, lengths)[len(lengths) :]:
        config["train"][line.partition("=")[0].partition(".")[2]] = None
    for line in typed:
        if line.startswith("task.resume="):  # set here, because configs of older versions lack the key
            config["task"]["resume"] = line.partition("=")[2]

    from tracetorch.cli.display import Display
    from tracetorch.cli.execute import execute

    display = Display(found.composed.experiment)
    with naming_the_other(found.folder, "resume"):
        outcome = execute(found.composed, [], resume_from=found.folder, new_length=bool(lengths), display=display)
    raise typer.Exit(display.conclude(outcome, traceback))
