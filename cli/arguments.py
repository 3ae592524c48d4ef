"""Arguments that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Changes to the config, such as experiment=mnist or optimizer.lr=0.001."),
]
Traceback = Annotated[bool, typer.Option("--traceback", help="Show where in the code an error came from.")]
Multirun = Annotated[
    bool, typer.Option("--multirun", "-m", help="A sweep: KEY=A,B,C stands for one run with each of the values.")
]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a run.")]
Trust = Annotated[
    list[str] | None,
    typer.Option("--trust", metavar="PACKAGE", help="Its config may call parts of this package too; repeatable."),
]
ConfigDir = Annotated[
    Path | None, typer.Option("--config-dir", metavar="DIR", help="A folder with further choices, such as presets.")
]
FailFast = Annotated[bool, typer.Option("--fail-fast", help="In a sweep: start nothing more after a failure.")]
