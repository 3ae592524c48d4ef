from .health import HealthWatch, TrainingError, check_health

__all__ = ["HealthWatch", "TrainingError", "check_health"]
