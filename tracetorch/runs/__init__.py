"""The run folder: plain files that say what was run, how it went and what came of it.

What needs torch loads when it is first used, so that folders can be read without it.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tracetorch.runs.checkpoint import load_checkpoint, save_checkpoint
    from tracetorch.runs.folder import RunFolder
    from tracetorch.runs.health import HealthWatch, TrainingError, check_health
    from tracetorch.runs.identity import group_of, id_of
    from tracetorch.runs.lock import BusyError
    from tracetorch.runs.run import Run

__all__ = [
    "BusyError",
    "HealthWatch",
    "Run",
    "RunFolder",
    "TrainingError",
    "check_health",
    "group_of",
    "id_of",
    "load_checkpoint",
    "save_checkpoint",
]

_MODULES = {
    "BusyError": "lock",
    "HealthWatch": "health",
    "Run": "run",
    "RunFolder": "folder",
    "TrainingError": "health",
    "check_health": "health",
    "group_of": "identity",
    "id_of": "identity",
    "load_checkpoint": "checkpoint",
    "save_checkpoint": "checkpoint",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
