"""A run in progress: what the time loop tells, and what is kept of it."""

from __future__ import annotations

import os
import secrets
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import torch

from tracetorch.files import remove_remains
from tracetorch.nn import Sequential
from tracetorch.runs import environment
from tracetorch.runs.checkpoint import load_checkpoint, restore_random, save_checkpoint
from tracetorch.runs.folder import RunFolder
from tracetorch.runs.identity import facts_of
from tracetorch.runs.interrupt import Interrupt
from tracetorch.runs.lock import Lock
from tracetorch.runs.memory import TrainingMemory, costs, peak_memory_bytes
from tracetorch.runs.records import to_csv
from tracetorch.runs.state import state_of

Listener = Callable[[str, dict[str, Any]], str | None]
"""Called with what happens ("start", "progress", "record", "end") and its values; the command line shows it.

What it answers to a "record", if anything, is why the run should end early: after the present update, as interrupted.
"""


class Resumable(Protocol):
    """What a time loop keeps, and a checkpoint with it; torch's optimizers and schedules are such."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> Any: ...


class Run:
    """A run: not on disk until it is entered, whole on disk whenever it ends.

    Args:
        config: the resolved config, plain dicts and lists.
        files: further files for the folder, by name, such as {"config.yaml": …}.
        root, exactly: see `RunFolder.reserve`.
        below: the folder in `root` that it goes to; that of its experiment, if None.
        again: go on in this folder, from its latest checkpoint, instead of in a new one.
        experiment: its name, for the folder and for run.json.
        listener: told of everything that happens.
    Raises: BusyError if another process is at work in the folder `again`.
    Example: `with run: run.record({"update": 1, "loss": .7}); run.summary["accuracy"] = .98`
    """

    folder: RunFolder

    def __init__(
        self,
        config: dict[str, Any],
        *,
        experiment: str,
        root: Path,
        below: str | None = None,
        exactly: Path | None = None,
        again: RunFolder | None = None,
        files: dict[str, str] | None = None,
        listener: Listener | None = None,
    ):
        self.config, self.experiment, self._files = config, experiment, files or {}
        self._root, self._below, self._exactly = root, below or experiment, exactly
        self._listener = listener or (lambda event, values: None)
        self._again, self._lock = again, Lock(again.path) if again else None
        self._interrupt = Interrupt()
        self.device = torch.device("cpu")
        self.summary: dict[str, Any] = {}
        self.timings: dict[str, float] = {}
        self.planned_updates: int | None = None
        self.status = "new"
        self._gave_up, self._unwanted = False, ""
        self._kept_records, self._restored, self._wall_before = 0, 0, 0.0
        self._run_id: str | None = None
        self._memory: TrainingMemory | None = None

    @property
    def interrupted(self) -> bool:
        """Whether somebody wishes the run to stop; the loop should end after the present update."""
        return self._interrupt.stop or bool(self._unwanted)

    def give_up(self) -> None:
        """Say that the run ends early, as was wished; a wish that comes after the last update ends nothing."""
        self._gave_up = True

    def restore(self, net: Sequential, optimizer: torch.optim.Optimizer, **parts: Resumable) -> int:
        """Go back to the latest checkpoint, if this run goes on in a folder that has one. To be called before entering.

        Args: parts: as they were given to `save`.
        Returns: how many updates were done by then; 0 for a new run.
        Raises: ValueError if the checkpoint is damaged or of another network.
        """
        path = self._again.checkpoint("latest") if self._again else None
        if path is None or not path.exists():
            return 0
        found = load_checkpoint(path, net, optimizer)
        try:
            for name, part in parts.items():
                part.load_state_dict(found["parts"][name])
            restore_random(found["random"])
            self.timings, self._wall_before = dict(found["timings"]), found["wall_seconds"]
            self._kept_records, self._restored, self._run_id = found["records"], found["update"], found.get("run_id")
        except KeyError as error:
            raise ValueError(f"{path} belongs to another kind of run: it has no {error}") from error
        except Exception as error:  # a part raises whatever a state of another kind makes it raise
            why = str(error) if isinstance(error, ValueError) else type(error).__name__
            raise ValueError(f"{path} belongs to another kind of run ({why})") from error
        return self._restored

    def save(
        self, name: str, net: Sequential, optimizer: torch.optim.Optimizer, update: int, **parts: Resumable
    ) -> None:
        """Write a checkpoint: "latest", from which `restore` goes on, or "best"."""
        states = {part: value.state_dict() for part, value in parts.items()}
        counters = {"update": update, "records": self._kept_records, "parts": states}
        clock = {"timings": dict(self.timings), "wall_seconds": self._wall_seconds()}
        counters["run_id"] = self._facts["run_id"]
        self.folder.sync_records()  # a checkpoint that survives a power cut counts on the records before it
        save_checkpoint(self.folder.checkpoint(name), net, optimizer, **counters, **clock)
        self._saved = time.perf_counter()

    def seconds_since_save(self) -> float:
        """How much of the work would be lost by now."""
        return time.perf_counter() - self._saved

    def __enter__(self) -> Run:
        self._started = self._saved = time.perf_counter()
        lost = None
        if self._again:
            self.folder = self._again
            lost = self.folder.keep_records(self._kept_records, self._restored)
            remove_remains(self.folder.path)
            remove_remains(self.folder.checkpoint("latest").parent)
            for name, content in self._files.items():  # it may have been stopped before they were there
                if not (self.folder.path / name).exists():
                    self.folder.write_text(name, content)
            (self.folder.path / "error.txt").unlink(missing_ok=True)
            self._begin()
        else:
            self._reserve()
        self._interrupt.__enter__()
        where = {"folder": self.folder.path, "device": self._facts["device"], **({"lost": lost} if lost else {})}
        self._listener("start", {**where, "again": self._again is not None})
        return self

    def _reserve(self) -> None:
        self.folder = RunFolder.reserve(self._root, self._below, facts_of(self.config)["id"], self._exactly)
        try:
            self._lock = Lock(self.folder.path)
            for name, content in self._files.items():
                self.folder.write_text(name, content)
            self._begin()
        except BaseException:
            self.release()
            self.folder.remove()
            raise

    def _begin(self) -> None:
        """Write what is known before the first update."""
        before = {}
        if self._again:
            before = state_of(self.folder.path).facts  # of a broken run.json nothing: it is written anew
        self._facts = {
            "experiment": self.experiment,
            **facts_of(self.config),
            "run_id": before.get("run_id") or self._run_id or secrets.token_hex(8),
            "device": environment.device_name(self.device),
            "planned_updates": self.planned_updates,
            "started": before.get("started") or environment.now(),
            "resumed": [*(before.get("resumed") or []), *([environment.now()] if self._again else [])],
            "pid": os.getpid(),
            "versions": environment.versions(),
            "git": environment.git_revision(),
            "settings": environment.settings(),
            "config": self.config,  # what the checkpoints are of, whatever becomes of config.yaml
        }
        self._settle("running")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._interrupt.__exit__()
        training = costs(self.summary.get("updates"), self.timings.get("train_seconds"), self._memory)
        self.summary |= {**training, "peak_memory_bytes": peak_memory_bytes(self.device)}
        self.summary["wall_seconds"] = self._wall_seconds()
        try:
            if kind is None:
                if self._gave_up:
                    self._settle("interrupted", self._unwanted or None)
                else:
                    self._settle("completed")
                return
            self.status = "interrupted" if issubclass(kind, KeyboardInterrupt) else "failed"
            with suppress(OSError):  # where nothing can be written any more, the first error is the one to tell
                if self.status == "failed":
                    self.folder.write_text("error.txt", "".join(traceback.format_exception(kind, error, trace)))
                self._settle(self.status, None if self.status != "failed" else f"{kind.__name__}: {error}")
        except OSError:
            self.status = "failed"
            raise
        finally:
            self.release()
            self._listener("end", {"status": self.status})

    def release(self) -> None:
        """Let other processes have the folder. To be called by who does not enter a run that goes on."""
        if self._lock:
            self._lock.release()

    def progress(self, done: int, total: int | None, **values: float) -> None:
        """Say how far the run is, `total` being None if it has no end; shown, not kept."""
        self._listener("progress", {"done": done, "total": total, **values})

    def record(self, values: dict[str, Any]) -> None:
        """Keep one line of numbers, and show it."""
        self.folder.append_record(values)
        self._kept_records += 1
        self._unwanted = self._listener("record", values) or self._unwanted

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the time that the body takes to `timings[name]`, in seconds."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.timings[name] = self.timings.get(name, 0.0) + time.perf_counter() - start

    @contextmanager
    def training(self) -> Iterator[None]:
        """Around an update: its time goes into `timings["train_seconds"]`, what memory it takes into the summary."""
        self._memory = self._memory or TrainingMemory(self.device)
        with self._memory, self.timed("train_seconds"):
            yield

    def _wall_seconds(self) -> float:
        return self._wall_before + time.perf_counter() - self._started

    def _settle(self, status: str, error: str | None = None) -> None:
        """Write run.json, and metrics.csv once the run is over."""
        self.status = status
        facts = {"status": status, **self._facts, "summary": self.summary, "timings": self.timings, "error": error}
        self.folder.write_json("run.json", facts)
        if status != "running":
            self.folder.write_text("metrics.csv", to_csv(self.folder.records()))
