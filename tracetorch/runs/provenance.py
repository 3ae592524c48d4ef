"""Versions, device and settings of a run; and differences between the results of two runs."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import tracetorch
from tracetorch import backends
from tracetorch.runs.checkpoint import read_checkpoint
from tracetorch.runs.folder import RunFolder
from tracetorch.runs.records import COSTS

_PACKAGES = ("torch", "numba", "triton", "numpy", "hydra-core", "omegaconf", "matplotlib")


def versions() -> dict[str, str]:
    """Versions of traceTorch, Python and the packages that a result depends on."""
    found = {"tracetorch": tracetorch.__version__, "python": platform.python_version(), "platform": platform.platform()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing"
    found["torch"] = torch.__version__
    return found


def git_revision(start: Path | None = None) -> dict[str, Any] | None:
    """Revision of the checkout that traceTorch runs from, and whether it has changes; None outside a checkout."""
    folder = start or Path(tracetorch.__file__).parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()

    try:
        if start is None and not git("ls-files", "--error-unmatch", "__init__.py"):
            return None
        return {"revision": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None


def now() -> str:
    """The time, with its zone, to the second."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def device_name(device: torch.device) -> str:
    """A device in words, such as "cpu" or "cuda:0 (NVIDIA H100)"."""
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


def settings() -> dict[str, Any]:
    """Threads, kernels and other settings that can change the last bits of a result."""
    return {
        "threads": torch.get_num_threads(),
        "kernels": backends.names(),
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "default_dtype": str(torch.get_default_dtype()).removeprefix("torch."),
        "cpus": os.cpu_count(),
    }


def first_difference(one: RunFolder, other: RunFolder, *, unfinished: bool = False) -> str:
    """Describe the first difference between the records or weights of two runs, costs excluded; "" if there is none.

    Args: unfinished: whether the first run did not finish, so that only its records are compared.
    Raises: ValueError if the files of a run are broken.
    """
    records, others = ([_timeless(record) for record in folder.records()] for folder in (one, other))
    for left, right in zip(records, others, strict=False):
        for name in {**left, **right}:
            if left.get(name) != right.get(name):
                record = f"update {left.get('update')}, {left.get('split')}"
                return f"{record}: {name} is {left.get(name)} in {one.path} and {right.get(name)} in {other.path}"
    if unfinished and len(records) <= len(others):
        return ""
    if len(records) != len(others):
        return f"{one.path} has {len(records)} records, {other.path} has {len(others)}"
    weights, other_weights = _weights(one.checkpoint("latest")), _weights(other.checkpoint("latest"))
    if weights.keys() != other_weights.keys():
        return "their networks have different parameters"
    for name, value in weights.items():
        other_value = other_weights[name]
        if value.dtype != other_value.dtype or not torch.equal(value, other_value):
            return f"all records agree, but the weights do not: {name}"
    return ""


def provenance_changes(facts: dict[str, Any], others: dict[str, Any]) -> list[str]:
    """Describe differences between the run.json of two runs: versions, settings, revision, device, data."""
    changes = []
    for group in ("versions", "settings", "git", "device"):
        left, right = (_named(group, found.get(group)) for found in (facts, others))
        for name in {**left, **right}:
            if left.get(name) != right.get(name):
                changes.append(f"{name}: {left.get(name)} then, {right.get(name)} now")
    origins = [_named("init", found.get("init")).get("checksum") for found in (facts, others)]
    changes += ["the network of init_from had other weights"] * (origins[0] != origins[1])
    changes += [f"the data of {key} had different content" for key in changed_data(facts, others)]
    return changes


def changed_data(facts: dict[str, Any], others: dict[str, Any]) -> list[str]:
    """The config keys whose data differ in content between two runs, if both recorded hashes."""
    left, right = (_named("data", found.get("data")) for found in (facts, others))
    return [name for name in left if left[name] and right.get(name) and left[name] != right[name]]


def _named(group: str, value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {group: value}


def _timeless(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if not name.endswith(COSTS)}


def _weights(path: Path) -> dict[str, Tensor]:
    weights = read_checkpoint(path).get("net")
    if not isinstance(weights, dict):
        raise ValueError(f"{path} is damaged: it has no weights")
    return {name: value for name, value in weights.items() if isinstance(value, Tensor)}
