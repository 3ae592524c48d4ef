"""`tracetorch run`: compose, train, record; or a sweep of such runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tracetorch.cli.errors import UsageError
from tracetorch.cli.shared_arguments import ConfigDir, FailFast, Multirun, Overrides, Traceback, Trust, parse_folder

From = Annotated[
    Path | None,
    typer.Option(
        "--from",
        metavar="DIR",
        parser=parse_folder,
        help="Repeat the run of this folder in a new one; report the first difference.",
    ),
]


def command(
    overrides: Overrides = None,
    *,
    multirun: Multirun = False,
    fail_fast: FailFast = False,
    source: From = None,
    config_dir: ConfigDir = None,
    trust: Trust = None,
    traceback: Traceback = False,
) -> None:
    """Train a network, test it and record everything. Default experiment: Poisson clicks."""
    if source is not None and multirun:
        raise UsageError("--from repeats one run and -m makes many: leave one of them out")
    if config_dir is not None and source is not None:
        raise UsageError("--config-dir does not apply to --from: leave one of them out")
    if source is not None:
        from tracetorch.cli.reproduce import reproduce

        raise typer.Exit(reproduce(source, overrides or [], trust or [], traceback))
    if trust and config_dir is None and not multirun:
        raise UsageError("--trust is for configs from a folder: tracetorch run --from DIR --trust PACKAGE")
    if fail_fast and not multirun:
        raise UsageError("--fail-fast is for sweeps: tracetorch run -m --fail-fast seed=0,1,2")
    if multirun:
        from tracetorch.cli.sweep.run_sweep import run_sweep

        raise typer.Exit(run_sweep(overrides or [], config_dir, trust or [], fail_fast=fail_fast))
    raise typer.Exit(_single(overrides or [], config_dir, trust or [], traceback))


def _single(overrides: list[str], config_dir: Path | None, trust: list[str], show_traceback: bool) -> int:
    """One run. Returns: the exit code. Raises: UsageError, with nothing left on disk."""
    from tracetorch.cli.adapter import compose, note_of
    from tracetorch.cli.check import check_new, check_trusted
    from tracetorch.cli.display import Display
    from tracetorch.cli.execute import execute

    composed = compose(overrides, config_dir)
    if config_dir is not None:
        check_trusted(composed.config, config_dir, trust)
    check_new(composed.config)
    display = Display(composed.experiment, note_of(composed.choices, config_dir))
    outcome = execute(composed, overrides, display=display)
    return display.conclude(outcome, show_traceback)
