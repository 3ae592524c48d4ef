"""`tracetorch completion`: scripts that complete verbs, options, folders, config keys and values in a shell."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tracetorch.cli.errors import UsageError, did_you_mean, shorten
from tracetorch.cli.shared_arguments import Traceback
from tracetorch.cli.terminal import say

SHELLS = ("bash", "zsh", "fish")
Shell = Annotated[str, typer.Argument(metavar="SHELL", help="One of bash, zsh, fish.", autocompletion=lambda: SHELLS)]


def command(shell: Shell, traceback: Traceback = False) -> None:
    """Print the completion script for a shell; its first lines say where to put it."""
    if shell not in SHELLS:
        close, known = did_you_mean(shell, SHELLS), ", ".join(SHELLS)
        raise UsageError(f"no completion for '{shorten(shell)}'.{close} There are: {known}.")
    say(*Path(__file__).parent.joinpath("completion", f"complete.{shell}").read_text(encoding="utf-8").splitlines())
