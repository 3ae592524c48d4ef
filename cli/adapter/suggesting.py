"""Choices that suit a user's own data, below what is typed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tracetorch.cli.adapter.making import make
from tracetorch.cli.adapter.overrides import GROUPS
from tracetorch.cli.check import check
from tracetorch.cli.suggest import has
from tracetorch.files import expanded

if TYPE_CHECKING:
    from tracetorch.tasks.file import Suggestion

FILE = "tracetorch.tasks.File"


def suggestions(config: dict[str, Any], typed: Mapping[str, Any]) -> list[Suggestion]:
    """Return what suits the data of a `File` task and is not typed; nothing for other tasks, or if a preset is typed.

    The data are read for it; the task of the run then finds them in a cache.

    Args: config: composed of what is typed alone. typed: the typed values by key or group.
    Raises: UsageError for data that cannot be read, unless there are none.
    """
    task = config.get("task")
    if not isinstance(task, dict) or task.get("_target_") != FILE or typed.get("experiment", "file") != "file":
        return []
    check(config)
    from tracetorch.tasks.file import Suggestion, suggest

    found = [] if "experiment" in typed else [Suggestion("experiment", "file", "")]
    if expanded(task["path"]).exists():  # otherwise the run says so when it makes its task
        rule = str(config["rule"].get("_target_", "")).rpartition(".")[2] if "rule" in typed else ""
        hidden = config["network"].get("hidden") if "network.hidden" in typed else [256]  # as in the preset
        found += suggest(make(task, "task"), rule, hidden)
    return [each for each in found if each.key not in typed and (each.key in GROUPS or has(config, each.key))]


def as_typed(suggested: Sequence[Suggestion]) -> list[str]:
    """Return the choices as overrides."""
    return [f"{each.key}={each.value}" for each in suggested]


def in_words(suggested: Sequence[Suggestion]) -> str:
    """Return the choices as a sentence, such as "chosen for these data: loss=mse (values)"."""
    named = [
        f"{each.key}={each.value}" + (f" ({each.why})" if each.why else "")
        for each in suggested
        if each.key != "experiment"
    ]
    return f"chosen for these data: {', '.join(named)}" if named else ""
