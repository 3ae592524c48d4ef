"""`tracetorch list`: the choices of every config group."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from pathlib import Path
from typing import Annotated

import typer

from tracetorch.cli.errors import UsageError, did_you_mean, shorten
from tracetorch.cli.shared_arguments import ConfigDir, Traceback
from tracetorch.cli.terminal import say
from tracetorch.files import MOST_CONFIG_BYTES, read_text

_USAGE = {"sweep": "tracetorch run -m sweep=NAME", "search": "tracetorch tune search=NAME"}


def command(
    group: Annotated[str | None, typer.Argument(metavar="GROUP", help="Only this group, such as experiment.")] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, for scripts.")] = False,
    config_dir: ConfigDir = None,
    traceback: Traceback = False,
) -> None:
    """List all choices of each config group with one line each; GROUP=NAME on the command line selects one."""
    from tracetorch.cli.adapter import GROUPS, PRESETS, options, preset_file

    known = (*GROUPS, *PRESETS)
    if group is not None and group not in known:
        raise UsageError(f"unknown group '{shorten(group)}'.{did_you_mean(group, known)} Groups: {', '.join(known)}.")
    choices_by_group = {
        name: {choice: purpose(preset_file(name, choice, config_dir)) for choice in options(name, config_dir)}
        for name in ([group] if group else known)
    }
    if as_json:
        say(*json.dumps(choices_by_group, indent=2, ensure_ascii=False).split("\n"))
        return
    for name, choices in choices_by_group.items():
        say(f"{name}{f'  ({_USAGE[name]})' if name in _USAGE else ''}")
        width = max(map(len, choices), default=0)
        for choice, text in choices.items():
            say(*_wrapped(f"  {choice:<{width}}  ", text))


def _wrapped(head: str, text: str) -> list[str]:
    """A description, wrapped to the width of the terminal; one line if the output is not a terminal."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    if width < len(head) + 20:
        return [f"{head}{text}"]
    below = " " * len(head)
    lines = textwrap.wrap(text, width, initial_indent=head, subsequent_indent=below, break_on_hyphens=False)
    return lines or [head.rstrip()]


def purpose(path: Path) -> str:
    """The first comment of a YAML file other than @package; "" if it has none."""
    try:
        lines = read_text(path, MOST_CONFIG_BYTES).removeprefix("\ufeff").splitlines()
    except (OSError, ValueError):  # the verb that uses the file reports the reason
        return f"{shorten(path)} cannot be read"
    return next((line[1:].strip() for line in lines if line.startswith("#") and "@package" not in line), "")
