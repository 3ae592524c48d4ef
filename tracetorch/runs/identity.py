"""Which runs are the same experiment, and which are the same run."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import Any

from tracetorch.runs.records import to_json

_NOT_THE_EXPERIMENT = ("seed", "device", "output")


def group_of(config: Mapping[str, Any]) -> str:
    """Hash of a resolved config without seed, device and paths: what runs share that differ by chance alone."""
    return _hash(_without_chance(config))


def id_of(config: Mapping[str, Any]) -> str:
    """Hash of a resolved config with its seed: what names one run, wherever it lies and on whichever device."""
    return _hash([_without_chance(config), config.get("seed")])


def _without_chance(config: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in config.items() if name not in _NOT_THE_EXPERIMENT}
    return _blank(kept)


def _blank(value: Any) -> Any:
    """The same values, with seeds in parts of the config left out and paths made alike."""
    if isinstance(value, Mapping):
        return {name: _blank(inner) for name, inner in value.items() if name != "seed"}
    if isinstance(value, list | tuple):
        return [_blank(inner) for inner in value]
    return "<path>" if isinstance(value, str) and (os.sep in value or value.startswith(("~", "."))) else value


def _hash(value: Any) -> str:
    ordered = to_json(_sorted(value))
    return hashlib.sha256(ordered.encode()).hexdigest()[:12]


def _sorted(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _sorted(value[name]) for name in sorted(value, key=str)}
    return [_sorted(inner) for inner in value] if isinstance(value, list | tuple) else value
