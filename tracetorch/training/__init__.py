"""Training: the loop, its steps, and what they keep of a run while it lasts."""

from tracetorch.training.health import HealthWatch, TrainingError, check_health

__all__ = ["HealthWatch", "TrainingError", "check_health"]
