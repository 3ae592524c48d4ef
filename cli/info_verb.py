"""`tracetorch info`: facts about this installation, or about a run, a sweep or a study."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from tracetorch.cli.errors import UsageError, quote
from tracetorch.cli.shared_arguments import Traceback, folder_argument
from tracetorch.cli.terminal import say
from tracetorch.printable import printable

Folder = Annotated[Path | None, folder_argument(metavar="[DIR]", help="The folder of a run, a sweep or a study.")]


def command(folder: Folder = None, traceback: Traceback = False) -> None:
    """Show versions, devices, kernels and caches; with DIR, the facts of that run, sweep or study."""
    rows = list(_of_folder(folder) if folder else _of_installation())
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        say(f"{name:<{width}}  {value}")


def _of_folder(folder: Path) -> Iterator[tuple[str, str]]:
    from tracetorch.cli.folders import holds
    from tracetorch.runs.folder import state_of

    for name, rows_of in (("sweep.json", _of_sweep), ("study.json", _of_study)):
        if holds(folder, name):
            yield from rows_of(folder)
            return
    if not holds(folder, "run.json"):
        names = "run.json, sweep.json or study.json"
        raise UsageError(f"{folder} is not the folder of a run, a sweep or a study: it has no {names}")
    state = state_of(folder)
    if state.status in ("broken", "unreadable"):
        raise UsageError(state.error)
    yield "status", f"{state.status}: {printable(state.error)}" if state.error else state.status
    yield from _flat({name: value for name, value in state.facts.items() if name not in ("status", "error", "config")})


def _of_sweep(folder: Path) -> Iterator[tuple[str, str]]:
    from tracetorch.cli.sweep.plan import read_plan
    from tracetorch.runs.folder import state_of
    from tracetorch.runs.lock import is_locked

    plan = read_plan(folder)
    counts = Counter(state_of(folder / job.name).status for job in plan.jobs)
    is_completed = counts["completed"] == len(plan.jobs)
    is_running = is_locked(folder) or counts["running"] > 0
    command = f"tracetorch {'compare' if is_completed else 'resume'} {quote(folder)}"
    yield "sweep", plan.experiment
    yield "typed", printable(shlex.join(plan.typed))
    yield "status", "running" if is_running else "completed" if is_completed else "not completed"
    yield "jobs", ", ".join(f"{n} {'not run' if status == 'absent' else status}" for status, n in counts.items())
    if not is_running:
        yield "to compare" if is_completed else "to continue", command


def _of_study(folder: Path) -> Iterator[tuple[str, str]]:
    from tracetorch.cli.tuning.study_folder import best_of, read_study, run_command
    from tracetorch.runs.folder import state_of

    settings = read_study(folder)
    counts: Counter[str] = Counter()
    for path in sorted(folder.glob("[0-9]*_*")):
        if path.is_dir():
            state = state_of(path)
            is_pruned = state.status == "interrupted" and state.error.startswith("pruned")
            counts["pruned" if is_pruned else state.status] += 1
    num_ended = sum(counts[status] for status in ("completed", "pruned", "failed"))
    is_running, most = counts["running"] > 0, settings.search.trials
    search = settings.search
    yield "study", settings.experiment
    yield "typed", printable(shlex.join(settings.typed))
    yield "search", printable(f"{search.direction} {search.metric} over {', '.join(search.space)}")
    yield "status", "running" if is_running else "completed" if num_ended >= most else "not completed"
    yield "trials", f"{', '.join(f'{n} {status}' for status, n in counts.items()) or 'none'} of {most}"
    if best := best_of(folder):
        yield "best", printable(best)
        yield "to run it", f"{run_command(folder)} seed=1"
    if not is_running and num_ended < most:
        yield "to continue", f"tracetorch tune --study {quote(folder)}"


def _flat(facts: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Flatten nested facts; their names become dotted."""
    for name, value in facts.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{printable(name)}.")
        elif value not in (None, [], ""):
            shown = ", ".join(map(str, value)) if isinstance(value, list) else value
            yield f"{prefix}{printable(name)}", printable(shown)


def _of_installation() -> Iterator[tuple[str, str]]:
    import pooch
    import torch

    from tracetorch import backends
    from tracetorch.cli import project
    from tracetorch.cli.adapter import conf_dir
    from tracetorch.runs import provenance

    facts = dict(provenance.versions())
    git = provenance.git_revision()
    if git:
        facts["revision"] = git["revision"] + (" with changes" if git["dirty"] else "")
    gpus = [provenance.device_name(torch.device("cuda", index)) for index in range(torch.cuda.device_count())]
    facts["devices"] = ", ".join(["cpu", *gpus, *(["mps"] if torch.backends.mps.is_available() else [])])
    facts["threads"] = str(torch.get_num_threads())
    facts["kernels"] = ", ".join(f"{kernel} on {device}" for device, kernel in backends.names().items())
    facts["configs"] = str(conf_dir())
    if own := project.current():
        names = ", ".join(own.packages) or "none"
        facts["project"] = f"{printable(own.file)} (packages: {printable(names)})"
    facts["data cache"] = str(pooch.os_cache("tracetorch"))
    yield from facts.items()
