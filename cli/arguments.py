"""Arguments that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Config keys to change, such as experiment=mnist or optimizer.lr=0.001."),
]
Traceback = Annotated[bool, typer.Option("--traceback", help="Show the Python traceback of an error.")]
Multirun = Annotated[
    bool,
    typer.Option("--multirun", "-m", help="Sweep: KEY=A,B,C makes one run for each value; sweep=NAME runs a preset."),
]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a run.")]
Trust = Annotated[
    list[str] | None,
    typer.Option(
        "--trust", metavar="PACKAGE", help="Let a config that comes from a folder call this package, too (repeatable)."
    ),
]
ConfigDir = Annotated[
    Path | None,
    typer.Option(
        "--config-dir",
        metavar="DIR",
        help="Folder with your own presets: DIR/experiment/NAME.yaml, DIR/task/NAME.yaml, …",
    ),
]
FailFast = Annotated[bool, typer.Option("--fail-fast", help="In a sweep: start no further job after a failure.")]
