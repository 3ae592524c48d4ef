"""Arguments that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Config keys to change, such as experiment=mnist or optimizer.lr=0.001."),
]
Traceback = Annotated[bool, typer.Option("--traceback", help="Show the Python traceback of an error.")]
Multirun = Annotated[bool, typer.Option("--multirun", "-m", help="Sweep: KEY=A,B,C makes one run for each value.")]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a run.")]
Trust = Annotated[
    list[str] | None,
    typer.Option("--trust", metavar="PACKAGE", help="Allow the config to call this package as well (repeatable)."),
]
ConfigDir = Annotated[
    Path | None, typer.Option("--config-dir", metavar="DIR", help="Folder with further presets, laid out like conf/.")
]
Checkpoint = Annotated[
    Literal["latest", "best"] | None,
    typer.Option(help="Weights to use. Default: those that the run tested."),
]
FailFast = Annotated[bool, typer.Option("--fail-fast", help="In a sweep: start no further job after a failure.")]
