"""`tracetorch tune`: search for better settings."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from tracetorch.cli.errors import UsageError
from tracetorch.cli.shared_arguments import Traceback, Trust, changes_argument, folder_option

Changes = Annotated[
    list[str] | None,
    changes_argument(help="search=NAME (not with --study, which continues a study); config keys for all trials."),
]
Trials = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=1, help="Number of trials in all, earlier ones included. Default: those of the search."
    ),
]
StudyFolder = Annotated[Path | None, folder_option("--study", help="Folder of a study, new or to continue.")]


def command(
    *,
    overrides: Changes = None,
    trials: Trials = None,
    study: StudyFolder = None,
    trust: Trust = None,
    traceback: Traceback = False,
) -> None:
    """Search for better settings: a study is a series of runs (trials) whose settings Optuna chooses.

    search=NAME sets the keys and their ranges. Needs the extra tune: pip install -e '.[tune]'.
    """
    if find_spec("optuna") is None:
        raise UsageError("a search needs the extra 'tune': pip install -c constraints.txt -e '.[tune]'")
    if trust and study is None:
        raise UsageError("--trust applies to an existing study: tracetorch tune --study DIR --trust PACKAGE")
    from tracetorch.cli.tuning.tune import tune

    raise typer.Exit(tune(overrides or [], trials=trials, folder=study, trust=trust or []))
