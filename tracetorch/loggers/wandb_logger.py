"""The logger for Weights & Biases."""

from __future__ import annotations

import netrc
import os
import socket
from collections.abc import Mapping
from typing import Any, Literal

from tracetorch.loggers.base import LoggedRun, Logger, numbers, split_of
from tracetorch.optional import library

_HOST = ("api.wandb.ai", 443)
_CONNECT_SECONDS = 3.0  # longest wait for the server


class WandB(Logger):
    """A run of Weights & Biases with the name of the run folder; `resume` continues it.

    A record of the split "train" becomes `train/loss`, `train/accuracy`, … over `update`. Offline, files are written
    into the folder `wandb` of the run, and `wandb sync` uploads them.

    Args:
        project: name of W&B's project; None: that of the run's experiment.
        mode: "online" or "offline"; None: "online" if there is a login (`wandb login`, WANDB_API_KEY) and a network,
            otherwise "offline". The environment variable WANDB_MODE has precedence.
    Raises: MissingLibraryError without wandb.
    """

    def __init__(self, *, project: str | None = None, mode: Literal["online", "offline"] | None = None):
        self._wandb = library("wandb", "wandb")
        self.project, self.mode = project, mode

    def start(self, run: LoggedRun) -> None:
        mode = os.environ.get("WANDB_MODE") or self.mode or ("online" if self._is_online() else "offline")
        settings = self._wandb.Settings(silent=True, console="off", disable_git=True, disable_code=True)
        self._run = self._wandb.init(
            project=self.project or run.experiment,
            name=run.folder.name,
            id=run.run_id,
            dir=str(run.folder),
            config=run.config,
            resume="allow" if mode == "online" else None,
            mode=mode,
            settings=settings,
        )
        self._run.define_metric("update")
        self._run.define_metric("*", step_metric="update")

    def _is_online(self) -> bool:
        """Whether there is a login and a network."""
        try:
            if not os.environ.get("WANDB_API_KEY") and netrc.netrc().authenticators(_HOST[0]) is None:
                return False
            socket.create_connection(_HOST, timeout=_CONNECT_SECONDS).close()
        except (OSError, netrc.NetrcParseError):  # no netrc file, or no network
            return False
        return True

    def log(self, record: Mapping[str, Any]) -> None:
        values = {f"{split_of(record)}/{name}": value for name, value in numbers(record)}
        self._run.log({"update": record.get("update"), **values})

    def finish(self, summary: Mapping[str, Any], status: str) -> None:
        self._run.summary.update({**dict(numbers(summary)), "status": status})
        self._run.finish(exit_code=0 if status == "completed" else 1)
