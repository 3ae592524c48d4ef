"""`tracetorch show`: the composed config, or a sweep's plan; runs nothing."""

from __future__ import annotations

from pathlib import Path

from tracetorch.cli.errors import UsageError
from tracetorch.cli.shared_arguments import ConfigDir, Multirun, Overrides, Traceback, Trust
from tracetorch.cli.terminal import say
from tracetorch.files import read_json


def command(
    *,
    overrides: Overrides = None,
    multirun: Multirun = False,
    config_dir: ConfigDir = None,
    trust: Trust = None,
    traceback: Traceback = False,
) -> None:
    """Show the composed config or, with -m, the jobs of a sweep. Trains nothing."""
    if multirun:
        _plan(overrides or [], config_dir, trust or [])
        return
    from tracetorch.cli import project
    from tracetorch.cli.adapter import compose, note_of, typed_values
    from tracetorch.cli.check import check_new, check_own

    composed = compose(overrides or [], config_dir, calls_own=bool(trust))  # else nothing of the user's is imported
    own = project.current()
    if trust and config_dir is None and own is None:
        raise UsageError("--trust is for configs from a folder: tracetorch show --config-dir DIR --trust PACKAGE")
    if trust or (own is not None and config_dir is None):
        check_own(composed.config, typed_values(overrides or []), config_dir, trust or (), imports=bool(trust))
    check_new(composed.config)
    notes = filter(None, [note_of(composed.choices, config_dir), *composed.notes])
    say(
        f"# experiment: {composed.experiment}",
        *(f"# {line}" for note in notes for line in note.split("\n")),
        *composed.yaml.removesuffix("\n").split("\n"),
    )


def _plan(typed: list[str], config_dir: Path | None, trust: list[str]) -> None:
    """Print the jobs of a sweep. A job that equals a completed run is followed by the folder of that run."""
    from tracetorch.cli.sweep.plan import plan

    planned = plan(typed, config_dir, trust, imports=bool(trust))
    folder = planned.path or planned.root / planned.experiment / "sweeps" / "<time>-<id>"
    completed = _completed_runs([planned.root, *([planned.path] if planned.path else [])])
    width = max(len(job.name) for job in planned.jobs)
    say(*(f"# {note}" for note in planned.notes), f"# {planned.experiment}: {planned.count} → {folder}")
    for job in planned.jobs:
        say(f"{job.name:<{width}}  {f'done in {completed[job.id]}' if job.id in completed else 'to do'}")


def _completed_runs(roots: list[Path]) -> dict[str, Path]:
    """Folders of the completed runs below `roots`, by the id of their config."""
    from tracetorch.runs.lock import REMOVING

    found = {}
    patterns = ("*/run.json", "*/*/run.json", "*/sweeps/*/*/run.json")
    for path in (path for root in roots for pattern in patterns for path in root.glob(pattern)):
        if any(part.startswith(REMOVING) for part in path.parts):
            continue
        try:
            content = read_json(path)
        except (OSError, ValueError):
            continue
        if isinstance(content, dict) and content.get("status") == "completed":
            found[str(content.get("id"))] = path.parent
    return found
