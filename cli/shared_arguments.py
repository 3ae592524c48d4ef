"""Arguments that several verbs share."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from tracetorch.cli.errors import UsageError, shorten
from tracetorch.files import expanded

_HOME = re.compile(r"(?<=[=,])~[^,]*")  # a path in the home folder, among the values of a change


def with_home(change: str) -> str:
    """Expand ~ in a change KEY=VALUE: shells do not expand it there, and it is an operator in Hydra's syntax.

    A value with quotes or brackets, and the name of a sweep or a search, stay unchanged.
    """
    key, _, value = change.partition("=")
    if "~" not in value or any(mark in value for mark in "'\"[{(") or key in ("sweep", "search"):
        return change
    from tracetorch.cli.adapter import quote_value

    return key + _HOME.sub(lambda found: quote_value(str(expanded(found[0]))), f"={value}")


def parse_folder(path: str | Path) -> Path:
    """A typed folder, ~ expanded. Raises: BadParameter for an empty name."""
    if not str(path):
        raise typer.BadParameter("the name of a folder is empty; write . for the working directory")
    return expanded(path)


_UNITS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def parse_age(option: str, age: str, other: str = "") -> float:
    """An age such as 7d, in seconds. Args: other: what else can be written. Raises: UsageError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([mhdw])", age)
    if not match:
        raise UsageError(f"{option} {shorten(age)}: write a number and a unit, m, h, d or w, such as 7d or 12h{other}")
    return float(match[1]) * _UNITS[match[2]]


def as_folder(word: str) -> Path:
    """A folder among the words of a verb, ~ expanded. Raises: UsageError for an empty name."""
    if not word:
        raise UsageError("the name of a folder is empty; write . for the working directory")
    return expanded(word)


folder_argument = partial(typer.Argument, metavar="DIR", parser=parse_folder)
folder_option = partial(typer.Option, metavar="DIR", parser=parse_folder)
changes_argument = partial(typer.Argument, metavar="KEY=VALUE")

Overrides = Annotated[
    list[str] | None,
    changes_argument(parser=with_home, help="Config keys to change, such as experiment=mnist or optimizer.lr=0.001."),
]
Traceback = Annotated[bool, typer.Option("--traceback", help="Show the Python traceback of an error.")]
Multirun = Annotated[
    bool,
    typer.Option("--multirun", "-m", help="Sweep: KEY=A,B,C makes one run for each value; sweep=NAME runs a preset."),
]
Folder = Annotated[Path, folder_argument(help="The folder of a run.")]
Trust = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PACKAGE", help="Allow code of this package in configs that are read from a folder (repeatable)."
    ),
]
ConfigDir = Annotated[
    Path | None,
    folder_option(help="Folder with your own presets, by new names: DIR/experiment/NAME.yaml, DIR/task/NAME.yaml, …"),
]
Checkpoint = Annotated[
    Literal["latest", "best"] | None,
    typer.Option(help="Weights to use. Default: those that the run tested."),
]
FailFast = Annotated[bool, typer.Option("--fail-fast", help="In a sweep: start no further job after a failure.")]
