"""Completions for an argument or an option, chosen by its name in the help.

So a new verb with a DIR completes folders without a word about it here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tracetorch.cli.completion.offer import Offer
from tracetorch.files import expanded

Helper = Callable[[Any, Any, str], Iterable[Offer]]
"""Offers words for a parameter, given it, click's context (which knows what has been typed) and the incomplete word."""


def helper(param: Any) -> Helper | None:
    """What offers words for a parameter of a verb; None where click completes it, or where nothing can."""
    return _HELPERS.get(_named(param))


def _named(param: Any) -> str:
    return (param.metavar or param.name.upper()).rstrip(".")


def _changes(param: Any, context: Any, incomplete: str) -> Iterable[Offer]:
    from tracetorch.cli.adapter import GROUPS, load
    from tracetorch.cli.completion.changes import changes, chosen

    if folder := _folder(context):  # of a run, whose parts were chosen when it began
        return changes(incomplete, lambda: load(folder / "config.yaml").config, (), False)
    sweep = bool(context.params.get("multirun"))
    groups = (*GROUPS, "sweep") if sweep else GROUPS
    return changes(incomplete, lambda: chosen(context.params.get(param.name) or (), sweep), groups, sweep)


def _keys(param: Any, context: Any, incomplete: str) -> Iterable[Offer]:
    from tracetorch.cli.completion.changes import chosen, keys

    return keys(incomplete, chosen((), False), ending="")


def _folders(param: Any, context: Any, incomplete: str) -> Iterable[Offer]:
    return [Offer("folder", incomplete)]


def _groups(param: Any, context: Any, incomplete: str) -> Iterable[Offer]:
    from tracetorch.cli.adapter import GROUPS, PRESETS

    return [Offer("word", group) for group in (*GROUPS, *PRESETS)]


def _shells(param: Any, context: Any, incomplete: str) -> Iterable[Offer]:
    from tracetorch.cli.completion.scripts import SCRIPTS

    return [Offer("word", shell) for shell in SCRIPTS]


def _folder(context: Any) -> Path | None:
    """The folder of a run that was typed for the DIR of a verb; options name other folders, but for --from."""
    asking = [p for p in context.command.params if p.param_type_name == "argument" or "--from" in p.opts]
    typed = [context.params.get(param.name) for param in asking if _named(param) == "DIR"]
    return next((expanded(folder) for folder in typed if isinstance(folder, str | Path)), None)


_HELPERS: dict[str, Helper] = {
    "KEY=VALUE": _changes,
    "KEY": _keys,
    "DIR": _folders,
    "GROUP": _groups,
    "SHELL": _shells,
}
