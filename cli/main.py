"""`tracetorch`: the verbs, and what happens to an error that nobody caught."""

from __future__ import annotations

import os
import sys

import typer

from tracetorch.cli import info, list, plot, run, show
from tracetorch.cli.errors import FAILED, INTERRUPTED, USAGE, UsageError, complain

app = typer.Typer(
    name="tracetorch",
    help="Train spiking neural networks online, in constant memory, from one command.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for verb in (run, list, show, plot, info):
    app.command(verb.__name__.rpartition(".")[2])(verb.command)


def main() -> None:
    """The entry point: run the verb, turn what went wrong into one sentence and an exit code."""
    show_traceback = "--traceback" in sys.argv
    try:
        app()
    except UsageError as error:
        complain(str(error), error, show_traceback)
        sys.exit(USAGE)
    except KeyboardInterrupt:
        complain("interrupted", None, show_traceback)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # the reader of our output has gone, as in `tracetorch show | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
    except Exception as error:
        complain(f"this should not have happened: {type(error).__name__}: {error}", error, show_traceback)
        sys.exit(FAILED)
