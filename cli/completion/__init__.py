"""`tracetorch completion`: what makes a shell complete verbs, options, folders, config keys and their values."""

from __future__ import annotations

from typing import Annotated

import typer

from tracetorch.cli.arguments import Traceback
from tracetorch.cli.completion.scripts import SCRIPTS
from tracetorch.cli.errors import UsageError, did_you_mean, shorten
from tracetorch.cli.terminal import say

Shell = Annotated[str, typer.Argument(metavar="SHELL", help=f"One of {', '.join(SCRIPTS)}.")]


def command(shell: Shell, traceback: Traceback = False) -> None:
    """Print the completion script for a shell; its first lines say where to put it."""
    if shell not in SCRIPTS:
        known = ", ".join(SCRIPTS)
        raise UsageError(f"no completion for '{shorten(shell)}'.{did_you_mean(shell, SCRIPTS)} There are: {known}.")
    say(*SCRIPTS[shell].removesuffix("\n").split("\n"))
