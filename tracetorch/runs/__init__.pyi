from .checkpoint import load_checkpoint, save_checkpoint
from .folder import RunFolder
from .health import HealthWatch, TrainingError, check_health
from .identity import group_of, id_of
from .lock import BusyError
from .run import Run

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
