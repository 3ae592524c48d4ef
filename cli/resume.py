"""`tracetorch resume`: go on with an interrupted run, or with what a sweep left undone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tracetorch.cli.arguments import Traceback
from tracetorch.cli.errors import DONE, UsageError, complain

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a run or of a sweep.")]


def command(folder: Folder, traceback: Traceback = False) -> None:
    """Go on from the latest checkpoint, as if nothing had happened; in a sweep, run what is not completed."""
    from tracetorch.cli.sweep.plan import FILE

    if (folder / FILE).is_file():
        from tracetorch.cli.sweep import resume_sweep

        raise typer.Exit(resume_sweep(folder))
    raise typer.Exit(_resume_run(folder, traceback))


def _resume_run(folder: Path, show_traceback: bool) -> int:
    from tracetorch.cli.adapter import load
    from tracetorch.cli.check import check_trusted
    from tracetorch.cli.display import Display

    if not (folder / "config.yaml").is_file():
        raise UsageError(f"{folder} is no folder of a run or a sweep: it has neither config.yaml nor sweep.json")
    composed = load(folder / "config.yaml")
    check_trusted(composed.config, folder / "config.yaml")

    from tracetorch.cli.execute import execute
    from tracetorch.runs import RunFolder
    from tracetorch.runs.state import state_of

    state = state_of(folder)
    if state.status == "completed":
        print(f"{folder} is completed: there is nothing to go on with; tracetorch plot {folder} draws it again")
        return DONE
    composed = composed._replace(experiment=str(state.facts.get("experiment") or folder.parent.name))
    display = Display(composed.experiment)
    outcome = execute(composed, [], again=RunFolder(folder), display=display)
    if outcome.code != DONE:
        complain(outcome.message, outcome.error, show_traceback)
    else:
        display.table(outcome.run, outcome.batch_size)
    return outcome.code
