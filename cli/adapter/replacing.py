"""Replaces a part of a config by another choice, without those of its keys that the new part does not take."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from tracetorch.cli.adapter.presets import Keys, default_choice
from tracetorch.cli.check import SPECIAL
from tracetorch.cli.errors import shorten
from tracetorch.cli.signatures import accepts, requires


def typed_targets(overrides: Iterable[Override]) -> dict[str, str]:
    """The typed targets, by the key of their part: from `task._target_=…`, or from `task={_target_: …}`."""
    targets = {}
    for override in overrides:
        value = None if override.is_delete() else override.value()
        stem, _, last = override.key_or_group.rpartition(".")
        if last == "_target_" and stem and isinstance(value, str):
            targets[stem] = value
        elif isinstance(value, dict) and isinstance(value.get("_target_"), str):
            targets[override.key_or_group] = value["_target_"]
    return targets


def replace_target(config: DictConfig, key: str, target: str, preset: Keys) -> list[str]:
    """Replace the part at a key by one with another target, in place.

    The new part keeps a key of the old one if it takes the key, and if the preset sets it, its value is a part, it is
    the seed, or the new part requires it.

    Args: preset: the keys that the preset sets.
    Returns: the keys of the preset that were removed.
    """
    node = OmegaConf.select(config, key)
    if not isinstance(node, DictConfig) or _raw(node).get("_target_") in (None, target):
        return []
    keys: Any = preset
    for name in key.split("."):
        keys = keys.get(name) if isinstance(keys, dict) else None
    keys = keys or {}
    stays: dict[str, Any] = {"_target_": target}
    for name, value in _raw(node).items():
        is_part = isinstance(value, dict) and "_target_" in value
        is_wanted = name in keys or is_part or name == "seed" or requires(target, name)
        if name == "_partial_" or (is_wanted and accepts(target, name)):
            stays[name] = value
    OmegaConf.update(config, key, stays, merge=False)
    return [f"{key}.{name}" for name in keys if name not in stays and name not in SPECIAL]


def replace_choice(parent: DictConfig, own: Any, path: str, keys: Keys) -> list[str]:
    """Remove, in place, keys that the preset sets but a part chosen from a group, or a part inside it, does not take.

    Args:
        parent: the mapping that contains the part.
        own: the part in the file of the choice.
        path: dotted key of the part.
        keys: the keys that the preset sets in the part.
    Returns: the removed keys.
    """
    name = path.rpartition(".")[2]
    node = parent.get(name)
    if not isinstance(node, DictConfig):
        return []
    own = own if isinstance(own, dict) else {}
    if "_target_" in keys and own:  # the preset has a whole part here, of another choice
        parent[name] = own
        return [f"{path}.{key}" for key in keys if key not in SPECIAL and key not in own]
    target, removed = _raw(node).get("_target_"), []
    for key, inner in keys.items():
        if key in SPECIAL or key not in node or (key in own and inner is None):
            continue
        value = _raw(node)[key]
        is_incomplete = isinstance(value, dict) and "_target_" not in value  # for a part that the choice lacks
        if target is not None and key not in own and (is_incomplete or not accepts(target, key)):
            del node[key]
            removed.append(f"{path}.{key}")
        elif inner is not None:
            removed += replace_choice(node, own.get(key), f"{path}.{key}", inner)
    return removed


def left_out(experiment: str, keys: list[str], part: str) -> list[str]:
    """A list with a sentence on keys of a preset that a part does not take; [] without keys."""
    if not keys:
        return []
    is_default = experiment == default_choice("experiment")
    origin = f"the default experiment ({experiment})" if is_default else f"experiment={shorten(experiment)}"
    verb = "it is" if len(keys) == 1 else "they are"
    return [f"{origin} sets {', '.join(map(shorten, keys))}, which {part} does not take: {verb} left out"]


def _raw(node: DictConfig) -> dict[str, Any]:
    """The values of a node, references unresolved."""
    content = OmegaConf.to_container(node, resolve=False)
    assert isinstance(content, dict)
    return {str(name): value for name, value in content.items()}
