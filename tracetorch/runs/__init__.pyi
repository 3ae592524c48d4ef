from .checkpoint import load_checkpoint, save_checkpoint
from .folder import RunFolder
from .identity import group_of, id_of
from .lock import BusyError
from .run import Run

__all__ = [
    "BusyError",
    "Run",
    "RunFolder",
    "group_of",
    "id_of",
    "load_checkpoint",
    "save_checkpoint",
]
