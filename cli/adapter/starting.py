"""The hidden layers of the run that `init_from` names, below what is typed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tracetorch.cli import project
from tracetorch.cli.adapter.overrides import quote_value
from tracetorch.cli.adapter.reading import read_yaml
from tracetorch.cli.check import SPECIAL, check_trusted, nodes
from tracetorch.cli.errors import UsageError, shorten
from tracetorch.cli.suggest import value_at
from tracetorch.files import expanded
from tracetorch.renamed import current

HIDDEN, NEURON = "network.hidden", "network.neuron"
_LEARNING = ("trainable", "decay_gradient", "trace_bank", "rate_map", *SPECIAL)
"""Keys of a neuron that say how it learns: they are those of the new run."""


def starting(config: dict[str, Any], typed: Mapping[str, Any], *, imports: bool) -> tuple[dict[str, Any], str]:
    """Return what the hidden layers of the source run have and is not typed; and a note on what differs here.

    A run whose config cannot be read has no say here: its weights fit or are refused.

    Args:
        config: composed of what is typed alone.
        typed: the typed values by key or group.
        imports: whether a package of the project is imported to see what it defines.
    """
    source, given = config.get("init_from"), config.get("network")
    if not isinstance(source, str) or not isinstance(given, dict) or isinstance(typed.get("network"), dict):
        return {}, ""
    there = _network_of(source)
    if there.get("_target_") != given.get("_target_"):
        return {}, ""
    found: dict[str, Any] = {}
    note, hidden = "", there.get("hidden")
    if HIDDEN not in typed and _is_sizes(hidden):
        found[HIDDEN] = hidden
    if "hidden" in (config.get("init_parts") or ()) and NEURON not in typed:
        neuron, note = _neuron(there.get("neuron"), given.get("neuron"), typed, Path(source), imports)
        found |= neuron
    changed = {key: value for key, value in found.items() if value_at(config, key) != value}
    taken = ", ".join(f"{key}={quote_value(value)}" for key, value in changed.items())
    return found, "\n".join(filter(None, [f"as in {shorten(source)}: {taken}" if taken else "", note]))


def _network_of(source: str) -> dict[str, Any]:
    """Return the part `network` of a run's config; {} if it cannot be read."""
    path = expanded(source)
    folder = path.parent.parent if path.suffix == ".pt" else path
    with suppress(UsageError):
        network = current(read_yaml(folder / "config.yaml")).get("network")
        return network if isinstance(network, dict) else {}
    return {}


def _is_sizes(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(size, int) for size in value)


def _neuron(there: Any, given: Any, typed: Collection[str], origin: Path, imports: bool) -> tuple[dict[str, Any], str]:
    """Return the keys of a neuron to take, or the neuron as a whole if it is of another kind; and a note."""
    if not isinstance(there, dict) or not isinstance(given, dict):
        return {}, ""
    own = {key: value for key, value in there.items() if key not in _LEARNING}
    is_other = _kind(there) != _kind(given)
    if is_other and any(key.startswith(f"{NEURON}.") for key in typed):
        return {}, ""
    if not all(name.isidentifier() for _, node in nodes(there) for name in node):  # they become text of an override
        return {}, ""
    try:
        check_trusted({NEURON: there}, origin, project.trusted(origin), imports=imports)
    except UsageError as error:
        return {}, f"{error}, or type {NEURON}={{_target_: …}}"
    if is_other:
        return {NEURON: there}, ""
    return {f"{NEURON}.{key}": own[key] for key in own if key in given and f"{NEURON}.{key}" not in typed}, ""


def _kind(neuron: dict[str, Any]) -> tuple[Any, Any]:
    return neuron.get("_target_"), value_at(neuron, "neuron._target_")
