"""`tracetorch run`: compose, train, record; or a sweep of such runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tracetorch.cli import project
from tracetorch.cli.errors import DONE, FAILED, UsageError, complain, shorten
from tracetorch.cli.shared_arguments import ConfigDir, FailFast, Multirun, Overrides, Traceback, Trust, folder_option
from tracetorch.cli.terminal import say

From = Annotated[
    Path | None,
    folder_option("--from", help="Repeat the run of this folder in a new one; report the first difference."),
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
        raise typer.Exit(_repeat(source, overrides or [], trust or [], traceback))
    if trust and config_dir is None and not multirun and project.current() is None:
        raise UsageError("--trust is for configs from a folder: tracetorch run --from DIR --trust PACKAGE")
    if fail_fast and not multirun:
        raise UsageError("--fail-fast is for sweeps: tracetorch run -m --fail-fast seed=0,1,2")
    if multirun:
        from tracetorch.cli.sweep.run_sweep import run_sweep

        raise typer.Exit(run_sweep(overrides or [], config_dir, trust or [], fail_fast=fail_fast))
    raise typer.Exit(_single(overrides or [], config_dir, trust or [], traceback))


def _single(overrides: list[str], config_dir: Path | None, trust: list[str], show_traceback: bool) -> int:
    """Run one experiment. Returns: the exit code. Raises: UsageError, with nothing left on disk."""
    from tracetorch.cli.adapter import compose, note_of, typed_values
    from tracetorch.cli.check import check_new, check_own
    from tracetorch.cli.display import Display
    from tracetorch.cli.execute import execute

    composed = compose(overrides, config_dir, calls_own=True)
    check_own(composed.config, typed_values(overrides), config_dir, trust)
    check_new(composed.config)
    notes = filter(None, [note_of(composed.choices, config_dir), *composed.notes])
    display = Display(composed.experiment, "\n".join(notes))
    outcome = execute(composed, overrides, display=display)
    return display.conclude(outcome, show_traceback)


def _repeat(folder: Path, overrides: list[str], trust: list[str], show_traceback: bool) -> int:
    """Repeat a run in a new folder, and compare both runs. Returns: the exit code; 1 if the results differ."""
    from tracetorch.cli.folders import check_training, find_run

    for line in overrides:
        if line.lstrip("+~").partition("=")[0].partition(".")[0] not in ("output", "device", "threads"):
            advice = "only output, device and threads can change; to change other keys, start a new run"
            raise UsageError(f"'{shorten(line)}': --from repeats a run: {advice}")
    root = next((line for line in overrides if line.startswith("output.root=")), "output.root=outputs")
    other_overrides = [line for line in overrides if not line.startswith("output.root=")]
    new_folder = [] if any(line.startswith("output.dir=") for line in other_overrides) else ["output.dir=null"]
    found = find_run(folder, trust, [root, *new_folder, *other_overrides])  # a file may not choose the output folder
    check_training(found)

    from tracetorch.cli.display import Display
    from tracetorch.cli.execute import execute
    from tracetorch.runs.provenance import first_difference, provenance_changes

    display = Display(found.composed.experiment)
    outcome = execute(found.composed, overrides, display=display)
    code = display.conclude(outcome, show_traceback)
    if code != DONE:
        return code
    is_completed = found.state.status == "completed"
    try:
        difference = first_difference(found.folder, outcome.run.folder, unfinished=not is_completed)
        changes = provenance_changes(found.state.facts, outcome.run.folder.facts())
        changes += ["the first run got another length after its start"] * ("earlier_lengths" in found.state.facts)
        count = len(found.folder.records())
    except (OSError, ValueError) as error:
        complain(f"the two runs cannot be compared: {error}", error, show_traceback)
        return FAILED
    if not difference:
        whole = f"{folder}: all {count} records and all weights"
        part = f"{folder}, as far as it ran: {count} records; the first run was {found.state.status}"
        say(f"identical to {whole if is_completed else part}")
        return DONE
    cause = f"Different: {'; '.join(changes)}." if changes else "Versions, device and threads are the same."
    complain(f"not identical: {difference}. {cause}")
    return FAILED
