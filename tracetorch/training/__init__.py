"""Training: the loop, its steps, and the statistics that they keep during a run."""

from tracetorch.training.health import HealthWatch, TrainingError, check_health

__all__ = ["HealthWatch", "TrainingError", "check_health"]
