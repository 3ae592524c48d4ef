"""Choices that suit a user's own data; typed settings have precedence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from tracetorch.cli.adapter.making import make
from tracetorch.cli.adapter.overrides import GROUPS
from tracetorch.cli.check import check
from tracetorch.cli.suggest import has
from tracetorch.files import expanded

if TYPE_CHECKING:
    from tracetorch.tasks.file import Suggestion

FILE = "tracetorch.tasks.File"


class DataSuggestions(NamedTuple):
    """A description of a user's data, and the choices that suit them."""

    data: str  # a sentence; "" if the data do not exist
    choices: list[Suggestion]

    def as_typed(self) -> list[str]:
        """Return the choices as overrides."""
        return [f"{each.key}={each.value}" for each in self.choices]

    def in_words(self) -> str:
        """Return a line on the data, and a line such as "chosen for these data: loss=mse (values)"."""
        named = [
            f"{each.key}={each.value}" + (f" ({each.why})" if each.why else "")
            for each in self.choices
            if each.key != "experiment"
        ]
        chosen = f"chosen for these data: {', '.join(named)}" if named else ""
        return "\n".join(filter(None, [self.data, chosen]))


def suggestions(config: dict[str, Any], typed: Mapping[str, Any]) -> DataSuggestions | None:
    """Return the choices that suit the data of a `File` task, without those that are typed.

    The data are read for this; the task of the run then finds them in a cache.

    Args: config: composed of the typed overrides. typed: their values, by key or group.
    Returns: None for another task, or if another experiment than "file" is typed.
    Raises: UsageError for data that cannot be read; not for data that do not exist.
    """
    node = config.get("task")
    if not isinstance(node, dict) or node.get("_target_") != FILE or typed.get("experiment", "file") != "file":
        return None
    check(config)
    from tracetorch.tasks.file import Suggestion, suggest

    data, found = "", [] if "experiment" in typed else [Suggestion("experiment", "file", "")]
    if expanded(node["path"]).exists():  # otherwise the run says so when it makes its task
        task = make(node, "task")
        rule = str(config["rule"].get("_target_", "")).rpartition(".")[2] if "rule" in typed else ""
        hidden = config["network"].get("hidden") if "network.hidden" in typed else [256]  # as in the preset
        data, found = task.description(), found + suggest(task, rule, hidden)
    return DataSuggestions(
        data, [each for each in found if each.key not in typed and (each.key in GROUPS or has(config, each.key))]
    )
