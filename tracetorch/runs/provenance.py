"""What a run ran on: versions, revision, device, threads."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import tracetorch
from tracetorch import backends

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
    here = start or Path(tracetorch.__file__).parent

    def git(*words: str) -> str:
        command = ["git", "-C", str(here), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()

    try:
        tracked = git("ls-files", "--error-unmatch", "__init__.py") if start is None else "yes"
        return {"revision": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))} if tracked else None
    except (OSError, subprocess.SubprocessError):
        return None


def now() -> str:
    """The time, with its zone, to the second."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def device_name(device: torch.device) -> str:
    """A device in words, such as "cpu" or "cuda:0 (NVIDIA H100)"."""
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


def settings() -> dict[str, Any]:
    """Threads and determinism: what else can change the last bits of a result."""
    return {
        "threads": torch.get_num_threads(),
        "kernels": backends.names(),
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "default_dtype": str(torch.get_default_dtype()).removeprefix("torch."),
        "cpus": os.cpu_count(),
    }
