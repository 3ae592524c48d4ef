"""`tracetorch info`: facts of this installation, or of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from tracetorch.cli.arguments import Traceback
from tracetorch.cli.errors import UsageError
from tracetorch.cli.terminal import say
from tracetorch.files import expanded
from tracetorch.printable import printable

Folder = Annotated[
    Path | None, typer.Argument(metavar="[DIR]", parser=expanded, help="The folder of a run or of a sweep.")
]


def command(folder: Folder = None, traceback: Traceback = False) -> None:
    """Show versions, devices, kernels and caches; with DIR, the facts of that run or sweep."""
    rows = list(_of_folder(folder) if folder else _of_installation())
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        say(f"{name:<{width}}  {value}")


def _of_folder(folder: Path) -> Iterator[tuple[str, str]]:
    from tracetorch.cli.folders import holds
    from tracetorch.cli.sweep.plan import FILE, read
    from tracetorch.runs.state import state_of

    if holds(folder, FILE):
        plan = read(folder)
        counts = Counter(state_of(folder / job.name).status for job in plan.jobs)
        yield "sweep", plan.experiment
        yield "typed", printable(" ".join([*plan.typed]))
        yield "jobs", ", ".join(f"{n} {'not run' if status == 'absent' else status}" for status, n in counts.items())
        return
    if not holds(folder, "run.json"):
        raise UsageError(f"{folder} is not the folder of a run or a sweep: it has neither run.json nor sweep.json")
    state = state_of(folder)
    if state.status in ("broken", "unreadable"):
        raise UsageError(state.error)
    yield "status", f"{state.status}: {printable(state.error)}" if state.error else state.status
    yield from _flat({name: value for name, value in state.facts.items() if name not in ("status", "error", "config")})


def _flat(facts: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested facts, one line each, with dotted names."""
    for name, value in facts.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{printable(name)}.")
        elif value not in (None, [], ""):
            shown = ", ".join(map(str, value)) if isinstance(value, list) else value
            yield f"{prefix}{printable(name)}", printable(shown)


def _of_installation() -> Iterator[tuple[str, str]]:
    import pooch
    import torch

    from tracetorch import kernels
    from tracetorch.cli.adapter import conf_dir
    from tracetorch.runs import environment

    facts = dict(environment.versions())
    git = environment.git_revision()
    if git:
        facts["revision"] = git["revision"] + (" with changes" if git["dirty"] else "")
    gpus = [environment.device_name(torch.device("cuda", at)) for at in range(torch.cuda.device_count())]
    facts["devices"] = ", ".join(["cpu", *gpus, *(["mps"] if torch.backends.mps.is_available() else [])])
    facts["threads"] = str(torch.get_num_threads())
    facts["kernels"] = ", ".join(f"{kernel} on {device}" for device, kernel in kernels.names().items())
    facts["configs"] = str(conf_dir())
    facts["data cache"] = str(pooch.os_cache("tracetorch"))
    yield from facts.items()
