"""The logger for MLflow."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from tracetorch.loggers.base import LoggedRun, Logger, flat, numbers, split_of
from tracetorch.optional import library

_TAG = "tracetorch.run_id"
_MOST_PARAMETERS = 100  # of one request
_STATUS = {"completed": "FINISHED", "interrupted": "KILLED"}


class MLflow(Logger):
    """A run of MLflow with the name of the run folder; `resume` continues it.

    A record of the split "train" becomes the metrics `train/loss`, `train/accuracy`, … over the updates; the keys of
    the config become parameters. The records go to MLFLOW_TRACKING_URI; without it, to MLflow's default in the working
    directory, which `mlflow ui` reads.

    Args: experiment: name of MLflow's experiment; None: that of the run's experiment.
    Raises: MissingLibraryError without mlflow.
    """

    def __init__(self, *, experiment: str | None = None):
        self._mlflow = library("mlflow", "mlflow")
        self.experiment = experiment

    def start(self, run: LoggedRun) -> None:
        self._client = self._mlflow.MlflowClient()
        name = self.experiment or run.experiment
        known = self._client.get_experiment_by_name(name)
        experiment = known.experiment_id if known else self._client.create_experiment(name)
        earlier = self._client.search_runs([experiment], f"tags.`{_TAG}` = '{run.run_id}'", max_results=1)
        if earlier:
            self._id = earlier[0].info.run_id
            self._client.update_run(self._id, "RUNNING")
            return
        tags = {_TAG: run.run_id, "folder": str(run.folder)}
        self._id = self._client.create_run(experiment, tags=tags, run_name=run.folder.name).info.run_id
        parameter = self._mlflow.entities.Param
        parameters = [parameter(key, str(value)) for key, value in flat(run.config)]
        for at in range(0, len(parameters), _MOST_PARAMETERS):
            self._client.log_batch(self._id, params=parameters[at : at + _MOST_PARAMETERS])

    def log(self, record: Mapping[str, Any]) -> None:
        values = {f"{split_of(record)}/{name}": value for name, value in numbers(record)}
        self._log(values, int(record.get("update") or 0))

    def finish(self, summary: Mapping[str, Any], status: str) -> None:
        self._log(dict(numbers(summary)), int(summary.get("updates") or 0))
        self._client.set_terminated(self._id, _STATUS.get(status, "FAILED"))

    def _log(self, values: Mapping[str, float], update: int) -> None:
        metric, now = self._mlflow.entities.Metric, int(1000 * time.time())
        self._client.log_batch(self._id, metrics=[metric(name, value, now, update) for name, value in values.items()])
