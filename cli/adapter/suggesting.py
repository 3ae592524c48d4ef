"""Choices that suit a user's own data, below what is typed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from tracetorch.cli.adapter.making import make
from tracetorch.cli.check import check

if TYPE_CHECKING:
    from tracetorch.tasks.file import Suggestion

FILE = "tracetorch.tasks.File"


def suggestions(config: dict[str, Any], typed: Collection[str]) -> list[Suggestion]:
    """Return what suits the data of a `File` task and is not typed; nothing for other tasks, or if a preset is typed.

    The data are read for it; the task of the run then finds them in a cache.

    Args: config: composed of what is typed alone. typed: the typed keys and groups.
    Raises: UsageError for data that cannot be read.
    """
    task = config.get("task")
    if not isinstance(task, dict) or task.get("_target_") != FILE or "experiment" in typed:
        return []
    check(config)
    from tracetorch.tasks.file import Suggestion, suggest

    found = [
        Suggestion("experiment", "file", ""),
        *suggest(make(task, "task"), str(config["rule"].get("_target_", "")).rpartition(".")[2]),
    ]
    values = [key for key in typed if key != "task"]  # task=file is typed, and what it leaves open is chosen
    return [each for each in found if not any(_covers(key, each.key) for key in values)]


def _covers(typed: str, key: str) -> bool:
    """Whether a typed key sets a key: the same one, or a part that contains it."""
    return typed == key or key.startswith(f"{typed}.")


def in_words(suggested: Sequence[Suggestion]) -> str:
    """Return the choices as a sentence, such as "chosen for these data: loss=mse (values)"."""
    named = [f"{each.key}={each.value}" + (f" ({each.why})" if each.why else "") for each in suggested[1:]]
    return f"chosen for these data: {', '.join(named)}"
