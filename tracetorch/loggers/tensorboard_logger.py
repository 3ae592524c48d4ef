"""A logger that writes event files for TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tracetorch.loggers.base import LoggedRun, Logger, flat, numbers, split_of
from tracetorch.optional import library


class TensorBoard(Logger):
    """Writes event files in the run's folder `tensorboard`; `tensorboard --logdir outputs` shows all runs.

    A record of the split "train" becomes the curves `train/loss`, `train/accuracy`, … over the updates; the config and
    the summary become texts. `resume` logs the points after the checkpoint again; TensorBoard hides the old ones.

    Args: flush_seconds: time between two writes to disk, seconds.
    Raises: MissingLibraryError without tensorboard.
    """

    def __init__(self, *, flush_seconds: int = 30):
        library("tensorboard", "tensorboard")
        self._make = library("torch.utils.tensorboard", "tensorboard").SummaryWriter
        self.flush_seconds = flush_seconds

    def start(self, run: LoggedRun) -> None:
        purge = run.update + 1 if run.update else None
        folder = str(run.folder / "tensorboard")
        self._writer = self._make(folder, purge_step=purge, flush_secs=self.flush_seconds)
        self._writer.add_text("config", _as_markdown(run.config), run.update)

    def log(self, record: Mapping[str, Any]) -> None:
        for name, value in numbers(record):
            self._writer.add_scalar(f"{split_of(record)}/{name}", value, record.get("update"))

    def finish(self, summary: Mapping[str, Any], status: str) -> None:
        self._writer.add_text("summary", _as_markdown({"status": status, **summary}), summary.get("updates"))
        self._writer.close()


def _as_markdown(values: Mapping[str, Any]) -> str:
    """Return a Markdown table of the dotted keys and their values."""
    rows = [f"| {name} | {value} |" for name, value in flat(values)]
    return "\n".join(["| key | value |", "| --- | --- |", *rows])
