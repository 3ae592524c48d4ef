"""`tracetorch list`: what there is to choose from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tracetorch.cli.arguments import Traceback
from tracetorch.cli.errors import UsageError, did_you_mean
from tracetorch.cli.terminal import say


def command(
    group: Annotated[str | None, typer.Argument(help="Only this config group, such as experiment.")] = None,
    traceback: Traceback = False,
) -> None:
    """List the experiments, tasks, networks, rules, losses, sweeps and searches there are, a line each."""
    from tracetorch.cli.adapter import GROUPS, PRESETS, conf_dir, options

    known = (*GROUPS, *PRESETS)
    if group is not None and group not in known:
        raise UsageError(f"there is no group '{group}'.{did_you_mean(group, known)} There are: {', '.join(known)}.")
    for name in [group] if group else known:
        choices = options(name)
        width = max(map(len, choices))
        say(name)
        for choice in choices:
            say(f"  {choice:<{width}}  {purpose(conf_dir() / name / f'{choice}.yaml')}")


def purpose(path: Path) -> str:
    """What a YAML file says it is: its first comment that is no directive."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return next((line[1:].strip() for line in lines if line.startswith("#") and "@package" not in line), "")
