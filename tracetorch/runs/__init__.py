"""The run folder: plain files that say what was run, how it went and what came of it."""

from tracetorch.runs.checkpoint import load_checkpoint, save_checkpoint
from tracetorch.runs.folder import RunFolder
from tracetorch.runs.health import HealthWatch, TrainingError, check_health
from tracetorch.runs.identity import group_of, id_of
from tracetorch.runs.run import Run

__all__ = [
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
