"""`tracetorch run`: compose, train, record; or a sweep of such runs."""

from __future__ import annotations

from typing import Annotated

import typer

from tracetorch.cli.arguments import Multirun, Overrides, Traceback
from tracetorch.cli.errors import DONE, UsageError, complain

FailFast = Annotated[bool, typer.Option("--fail-fast", help="In a sweep: start nothing more after a failure.")]


def command(
    overrides: Overrides = None, multirun: Multirun = False, fail_fast: FailFast = False, traceback: Traceback = False
) -> None:
    """Train a network and record everything; with no arguments, on the Poisson click test."""
    if fail_fast and not multirun:
        raise UsageError("--fail-fast is for sweeps: tracetorch run -m --fail-fast seed=0,1,2")
    if multirun:
        from tracetorch.cli.sweep import run_sweep

        raise typer.Exit(run_sweep(overrides or [], fail_fast=fail_fast))
    raise typer.Exit(_single(overrides or [], traceback))


def _single(overrides: list[str], show_traceback: bool) -> int:
    """One run. Returns: the exit code. Raises: UsageError, with nothing left on disk."""
    from tracetorch.cli.adapter import compose
    from tracetorch.cli.display import Display
    from tracetorch.cli.execute import execute

    composed = compose(overrides)
    display = Display(composed.experiment)
    outcome = execute(composed, overrides, display=display)
    if outcome.code != DONE:
        complain(outcome.message, outcome.error, show_traceback)
    else:
        display.table(outcome.run, outcome.batch_size)
    return outcome.code
