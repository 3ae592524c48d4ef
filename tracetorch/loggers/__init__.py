"""Loggers: copies of a run's records for other programs, next to the files of the run folder."""

from tracetorch.loggers.base import LoggedRun, Logger, Loggers
from tracetorch.loggers.mlflow_logger import MLflow
from tracetorch.loggers.tensorboard_logger import TensorBoard
from tracetorch.loggers.wandb_logger import WandB

__all__ = ["LoggedRun", "Logger", "Loggers", "MLflow", "TensorBoard", "WandB"]
