"""Choices that suit a user's own data; typed settings have precedence."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tracetorch.cli.adapter.making import locate, make, naming
from tracetorch.cli.adapter.overrides import GROUPS
from tracetorch.cli.check import check, check_trusted
from tracetorch.cli.errors import UsageError
from tracetorch.cli.suggest import has_key
from tracetorch.files import expanded

if TYPE_CHECKING:
    from tracetorch.tasks.file import Suggestion

FILE, DATASET = "tracetorch.tasks.File", "tracetorch.tasks.Dataset"
PRESET = "file"  # the experiment for data of the user's own


class DataSuggestions(NamedTuple):
    """A description of a user's data, and the choices that suit them."""

    task: Any  # that was made to find them; None if the data do not exist
    data: str  # lines; "" if the data do not exist
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


def suggestions(
    config: dict[str, Any],
    typed: Mapping[str, Any],
    targets: set[tuple[str, str]] | None = None,
    packages: Collection[str] = (),
) -> DataSuggestions | None:
    """Return the choices that suit a `File` task, or a dataset of the user's own, without those that are typed.

    This reads the data.

    Args:
        config: composed of the typed overrides.
        typed: their values, by key or group.
        targets: typed values that may be called, see `adapter.typed_values`; None: call no part of the user's own.
        packages: packages that may also be called.
    Returns: None for another task, one that may not be made, a typed dataset, or an experiment other than "file".
    Raises: UsageError for data that cannot be read; not for data that do not exist.
    """
    node = config.get("task")
    if not isinstance(node, dict) or typed.get("experiment", PRESET) != PRESET:
        return None
    is_file = node.get("_target_") == FILE
    if not is_file and (targets is None or "train" in typed or not is_own(node)):
        return None
    check(config)
    if not is_file and not _may_make(node, targets or set(), packages):
        return None
    from tracetorch.tasks.file import Suggestion, suggest
    from tracetorch.tasks.sampled import SampledTask

    task, data, found = None, "", [] if "experiment" in typed else [Suggestion("experiment", PRESET, "")]
    if not is_file or expanded(node["path"]).exists():  # otherwise the run says so when it makes its task
        task = make(node, "task")
        if not isinstance(task, SampledTask):
            return None
        rule = str(config["rule"].get("_target_", "")).rpartition(".")[2] if "rule" in typed else ""
        hidden = typed.get("network.hidden", [256])  # as in the preset
        length = _passes(typed, task.batches_per_pass)
        data = "\n".join([task.description(), *task.remarks])
        found += suggest(task, rule, hidden, length)
    return DataSuggestions(
        task,
        data,
        [each for each in found if each.key not in typed and (each.key in GROUPS or has_key(config, each.key))],
    )


def own_name(experiment: str, config: dict[str, Any]) -> str:
    """Return the experiment's name with that of the data: `file_recordings` for recordings.zip, `MyDataset`."""
    node = config.get("task")
    if not isinstance(node, dict):
        return experiment
    if experiment.startswith(f"{PRESET}-") and is_own(node):
        train = node.get("train")
        named = isinstance(train, dict) and str(train.get("_target_")).rpartition(".")[2]
        return named or experiment.removeprefix(f"{PRESET}-")
    if experiment != PRESET or node.get("_target_") != FILE:
        return experiment
    stem = Path(str(node.get("path"))).expanduser().absolute().stem
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "_", stem)[:40].strip("_.-")
    return f"{experiment}_{plain}" if plain else experiment


def is_own(task: dict[str, Any]) -> bool:
    """Whether the task of a config may hold a dataset of the user's own."""
    target = str(task.get("_target_"))
    return target == DATASET or not target.startswith("tracetorch.")


def _may_make(task: dict[str, Any], targets: set[tuple[str, str]], packages: Collection[str]) -> bool:
    """Whether a task of the user's own may be called, and may have a dataset."""
    from tracetorch.tasks.sampled import SampledTask

    try:
        check_trusted({"task": task}, Path("task"), packages, targets)
        with naming("task"):
            found = locate(task.get("_target_"))
    except UsageError:  # the run says so
        return False
    return not isinstance(found, type) or issubclass(found, SampledTask)


def _passes(typed: Mapping[str, Any], batches: int | None) -> float | None:
    """Return the passes over the data that are typed; None if no length is."""
    passes, updates = typed.get("train.passes"), typed.get("train.updates")
    for number, unit in ((passes, 1), (updates, batches or 1)):
        if isinstance(number, int | float) and not isinstance(number, bool) and number > 0:
            return number / unit
    return None
