"""Which runs are the same experiment, and which are the same run."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import Any

from tracetorch.runs.records import to_json

NOT_THE_EXPERIMENT = ("seed", "device", "threads", "output", "diagnostics")

_SHORT = {"truncatedbptt": "tbptt"}
"""Rules whose class is not named as they are."""


def group_of(config: Mapping[str, Any]) -> str:
    """Hash of a resolved config without seeds, machine and paths: what runs share that differ by chance alone.

    Diagnostics change no number of a run but what it costs, as the machine does.
    """
    return hash_of(_without_paths(_experiment(config), seeds=False))


def id_of(config: Mapping[str, Any]) -> str:
    """Hash of a resolved config with its seeds: what names one run, wherever it lies and on whichever device."""
    return hash_of([_without_paths(_experiment(config), seeds=True), config.get("seed")])


def facts_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """What run.json says of a run that follows from its config alone."""
    rule = config.get("rule")
    name = name_of(str(rule.get("_target_", ""))) if isinstance(rule, dict) else rule
    return {
        "id": id_of(config),
        "group": group_of(config),
        "seed": config.get("seed"),
        "rule": name,
    }


def name_of(target: str) -> str:
    """What is made at a `_target_`, in a word: "adam" of "torch.optim.Adam"."""
    name = target.rpartition(".")[2].lower()
    return _SHORT.get(name, name)


def _experiment(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name not in NOT_THE_EXPERIMENT}


def _without_paths(value: Any, *, seeds: bool) -> Any:
    """The same values, but paths made alike, with or without the seeds that parts of a config have of their own."""
    if isinstance(value, Mapping):
        return {name: _without_paths(v, seeds=seeds) for name, v in value.items() if seeds or name != "seed"}
    if isinstance(value, list | tuple):
        return [_without_paths(inner, seeds=seeds) for inner in value]
    return "<path>" if isinstance(value, str) and is_path(value) else value


def is_path(value: str) -> bool:
    """Whether a value of a config names a place rather than a thing."""
    return os.sep in value or value in (".", "..", "~")


def hash_of(value: Any) -> str:
    """A short hash of plain values, in whatever order a mapping has them."""
    ordered = to_json(_sorted(value))
    return hashlib.sha256(ordered.encode()).hexdigest()[:12]


def _sorted(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _sorted(value[name]) for name in sorted(value, key=str)}
    return [_sorted(inner) for inner in value] if isinstance(value, list | tuple) else value
