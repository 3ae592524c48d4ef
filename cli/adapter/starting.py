"""The hidden layers of the run that `init_from` names; typed settings have precedence."""

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


def from_source(config: dict[str, Any], typed: Mapping[str, Any], *, imports: bool) -> tuple[dict[str, Any], str]:
    """Return settings of the source run's hidden layers that are not typed, and a note on those that this changes.

    A config that cannot be read is skipped: the weights then fit or are refused.

    Args:
        config: composed of what is typed alone.
        typed: the typed values by key or group.
        imports: whether a package of the project is imported to see what it defines.
    """
    path, own = config.get("init_from"), config.get("network")
    if not isinstance(path, str) or not isinstance(own, dict) or isinstance(typed.get("network"), dict):
        return {}, ""
    source = _network_of(path)
    if source.get("_target_") != own.get("_target_"):
        return {}, ""
    found: dict[str, Any] = {}
    note, hidden = "", source.get("hidden")
    if HIDDEN not in typed and _is_sizes(hidden):
        found[HIDDEN] = hidden
    if "hidden" in (config.get("init_parts") or ()) and NEURON not in typed:
        neuron, note = _neuron(source.get("neuron"), own.get("neuron"), typed, Path(path), imports)
        found |= neuron
    changed = {key: value for key, value in found.items() if value_at(config, key) != value}
    taken = ", ".join(f"{key}={quote_value(value)}" for key, value in changed.items())
    return found, "\n".join(filter(None, [f"as in {shorten(path)}: {taken}" if taken else "", note]))


def _network_of(path: str) -> dict[str, Any]:
    """Return the part `network` of a run's config; {} if it cannot be read."""
    given = expanded(path)
    folder = given.parent.parent if given.suffix == ".pt" else given
    with suppress(UsageError):
        network = current(read_yaml(folder / "config.yaml")).get("network")
        return network if isinstance(network, dict) else {}
    return {}


def _is_sizes(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(size, int) for size in value)


def _neuron(source: Any, own: Any, typed: Collection[str], origin: Path, imports: bool) -> tuple[dict[str, Any], str]:
    """Return the keys of a neuron to take, or the neuron as a whole if it is of another kind; and a note."""
    if not isinstance(source, dict) or not isinstance(own, dict):
        return {}, ""
    settings = {key: value for key, value in source.items() if key not in _LEARNING}
    is_other = _kind(source) != _kind(own)
    if is_other and any(key.startswith(f"{NEURON}.") for key in typed):
        return {}, ""
    if not all(name.isidentifier() for _, node in nodes(source) for name in node):  # they become text of an override
        return {}, ""
    try:
        check_trusted({NEURON: source}, origin, project.trusted(origin), imports=imports)
    except UsageError as error:
        return {}, f"{error}, or type {NEURON}={{_target_: …}}"
    if is_other:
        return {NEURON: source}, ""
    return {f"{NEURON}.{key}": settings[key] for key in settings if key in own and f"{NEURON}.{key}" not in typed}, ""


def _kind(neuron: dict[str, Any]) -> tuple[Any, Any]:
    return neuron.get("_target_"), value_at(neuron, "neuron._target_")
