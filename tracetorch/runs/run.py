"""A run in progress: what the time loop tells, and what is kept of it."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from tracetorch.runs import environment
from tracetorch.runs.folder import RunFolder
from tracetorch.runs.identity import group_of, id_of
from tracetorch.runs.interrupt import Interrupt
from tracetorch.runs.records import to_csv

Listener = Callable[[str, dict[str, Any]], None]
"""Called with what happens ("start", "progress", "record", "end") and its values; the command line shows it."""


class Run:
    """A run: not on disk until it is entered, whole on disk whenever it ends.

    Args:
        config: the resolved config, plain dicts and lists.
        files: further files for the folder, by name, such as {"config.yaml": …}.
        root, exactly: see `RunFolder.reserve`.
        experiment: its name, for the folder and for run.json.
        listener: told of everything that happens.
    Example: `with run: run.record({"update": 1, "loss": .7}); run.summary["accuracy"] = .98`
    """

    folder: RunFolder

    def __init__(
        self,
        config: dict[str, Any],
        *,
        experiment: str,
        root: Path,
        exactly: Path | None = None,
        files: dict[str, str] | None = None,
        listener: Listener | None = None,
    ):
        self.config, self.experiment, self._files = config, experiment, files or {}
        self._root, self._exactly, self._listener = root, exactly, listener or (lambda event, values: None)
        self._interrupt = Interrupt()
        self.device = torch.device("cpu")
        self.summary: dict[str, Any] = {}
        self.timings: dict[str, float] = {}
        self.status = "new"
        self._gave_up = False

    @property
    def interrupted(self) -> bool:
        """Whether somebody wishes the run to stop; the loop should end after the present update."""
        return self._interrupt.stop

    def give_up(self) -> None:
        """Say that the run ends early, as was wished; a wish that comes after the last update ends nothing."""
        self._gave_up = True

    def __enter__(self) -> Run:
        identity = id_of(self.config)
        self.folder = RunFolder.reserve(self._root, self.experiment, identity, self._exactly)
        try:
            self._begin(identity)
        except BaseException:
            self.folder.remove()
            raise
        self._interrupt.__enter__()
        self._listener("start", {"folder": self.folder.path, "device": self._facts["device"]})
        return self

    def _begin(self, identity: str) -> None:
        """Write what is known before the first update."""
        self._started = time.perf_counter()
        rule = self.config.get("rule")
        self._facts = {
            "experiment": self.experiment,
            "id": identity,
            "group": group_of(self.config),
            "seed": self.config.get("seed"),
            "device": environment.device_name(self.device),
            "rule": rule.get("_target_", "").rpartition(".")[2].lower() if isinstance(rule, dict) else rule,
            "started": datetime.now().astimezone().isoformat(timespec="seconds"),
            "pid": os.getpid(),
            "versions": environment.versions(),
            "git": environment.git_revision(),
            "settings": environment.settings(),
        }
        for name, content in self._files.items():
            self.folder.write_text(name, content)
        self._settle("running")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._interrupt.__exit__()
        self.summary["peak_memory_bytes"] = environment.peak_memory_bytes(self.device)
        self.summary["wall_seconds"] = time.perf_counter() - self._started
        if kind is None:
            status = "interrupted" if self._gave_up else "completed"
        else:
            status = "interrupted" if issubclass(kind, KeyboardInterrupt) else "failed"
        if status == "failed":
            self.folder.write_text("error.txt", "".join(traceback.format_exception(kind, error, trace)))
        self._settle(status, None if kind is None or status != "failed" else f"{kind.__name__}: {error}")
        self._listener("end", {"status": status})

    def progress(self, done: int, total: int, **values: float) -> None:
        """Say how far the run is; shown, not kept."""
        self._listener("progress", {"done": done, "total": total, **values})

    def record(self, values: dict[str, Any]) -> None:
        """Keep one line of numbers, and show it."""
        self.folder.append_record(values)
        self._listener("record", values)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the time that the body takes to `timings[name]`, in seconds."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.timings[name] = self.timings.get(name, 0.0) + time.perf_counter() - start

    def _settle(self, status: str, error: str | None = None) -> None:
        """Write run.json, and metrics.csv once the run is over."""
        self.status = status
        facts = {"status": status, **self._facts, "summary": self.summary, "timings": self.timings, "error": error}
        self.folder.write_json("run.json", facts)
        if status != "running":
            self.folder.write_text("metrics.csv", to_csv(self.folder.records()))
