"""Training: the loop, its steps, and the statistics that they keep during a run."""

from tracetorch.training.health import HealthWatch, TrainingError, check_health
from tracetorch.training.transfer import freeze, transfer

__all__ = ["HealthWatch", "TrainingError", "check_health", "freeze", "transfer"]
