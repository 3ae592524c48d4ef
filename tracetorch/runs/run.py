"""A run in progress: it stores what the training loop reports."""

from __future__ import annotations

import math
import os
import secrets
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol

import torch

from tracetorch.files import remove_remains, writing
from tracetorch.loggers import LoggedRun
from tracetorch.memory import TrainingMemory, costs, peak_memory_bytes
from tracetorch.nn import Sequential
from tracetorch.renamed import PARTS, present
from tracetorch.runs import provenance
from tracetorch.runs.checkpoint import load_checkpoint, restore_random, save_checkpoint
from tracetorch.runs.cleanup import remove_unfinished_evaluations
from tracetorch.runs.ending import Interrupt, Stopped, named
from tracetorch.runs.folder import RunFolder, state_of
from tracetorch.runs.identity import facts_of
from tracetorch.runs.lock import Lock
from tracetorch.runs.records import plain, to_csv

Listener = Callable[[str, dict[str, Any]], str | None]
"""Called with an event ("start", "progress", "phase", "record", "end") and its values.

If it returns text for a "record", the run ends as interrupted after the present update, with that text as the reason.
A listener that fails is called again only for the "end".
"""


class Resumable(Protocol):
    """A part whose state is in a checkpoint, such as torch's optimizers and schedules."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> Any: ...


_DRAWING_SECONDS = 4.0  # approximate time to draw a run's figures, for any length of training: 3 to 5 s on 2 cores
_OPTIONAL_PARTS = {"rule", "clipping"}  # parts that checkpoints of earlier versions may lack


class Run:
    """A run: without files before it is entered, complete on disk when it ends.

    `_start` and `_end` consist of steps that can be repeated, so a run that was killed between two of them can be
    resumed. run.json is the last file to be written.

    Args:
        config: the resolved config, plain dicts and lists.
        files: further files for the folder, by name, such as {"config.yaml": …}, in the order in which to write them.
        root, path: see `RunFolder.reserve`.
        subfolder: the folder in `root` for this run; if None, the name of the experiment.
        resume_from: a folder in which to continue from its latest checkpoint, instead of a new folder.
        new_length: whether a run that continues, which may be completed, gets another length. Its config.yaml is then
            replaced by that of `files`, and run.json records the length and the summary so far.
        base: the folder of relative paths; None: the present working directory, which a part may change later.
        experiment: name of the experiment, for the folder and for run.json.
        kind: "training" can be resumed; "evaluation" is repeated instead.
        listener: called at every event.
    Raises: BusyError if another process is at work in the folder `resume_from`; files.WriteError if it cannot be
        locked.
    Example: `with run: run.record({"update": 1, "loss": .7}); run.summary["accuracy"] = .98`
    """

    folder: RunFolder

    def __init__(
        self,
        config: dict[str, Any],
        *,
        experiment: str,
        root: str | Path,
        subfolder: str | None = None,
        path: str | Path | None = None,
        resume_from: RunFolder | None = None,
        new_length: bool = False,
        base: str | Path | None = None,
        files: dict[str, str] | None = None,
        kind: Literal["training", "evaluation"] = "training",
        listener: Listener | None = None,
    ):
        self.config, self.experiment, self.kind, self._files = config, experiment, kind, files or {}
        given_path = resume_from.path if resume_from else Path(path or root)
        self._base = Path(base or Path.cwd())
        self._is_relative = not given_path.is_absolute()
        self._root, self._subfolder = self._base / root, subfolder or experiment
        self._path = self._base / path if path else None
        self._resume_from = RunFolder(self._base / resume_from.path) if resume_from else None
        self.has_new_length = new_length
        self._lock = None
        if self._resume_from:
            with writing():
                self._lock = Lock(self._resume_from.path)
        self._listener, self._is_listening = listener, listener is not None
        self._interrupt = Interrupt()
        self.device = torch.device("cpu")
        self.summary: dict[str, Any] = {}
        self.timings: dict[str, float] = {}
        self.warnings: list[str] = []
        self.init: dict[str, Any] = {}  # the trained network from which the run starts, for run.json
        self.notes: list[str] = []  # sentences to show at the start
        self.planned_updates: int | None = None
        self.sizes: tuple[int, int] | None = None  # numbers of inputs and outputs of the network
        self.eval_every: int | None = None  # updates between two evaluations, to estimate the time left
        self.status = "new"
        self._gave_up, self._stop_reason = False, ""
        self._kept_records, self._kept_bytes, self._restored = 0, 0, 0
        self._wall_before, self._evaluated_before = 0.0, 0.0
        self._run_id: str | None = None
        self._lost: dict[str, Any] | None = None
        self._memory: TrainingMemory | None = None

    @property
    def shown(self) -> Path:
        """The run's folder; relative to `base` if the user typed a relative path."""
        path = self.folder.path
        return path.relative_to(self._base) if self._is_relative and path.is_relative_to(self._base) else path

    @property
    def logged(self) -> LoggedRun:
        """The facts of the run that loggers receive, once it has started."""
        folder = self.folder.path
        return LoggedRun(self.config, self.experiment, folder, self._facts["run_id"], self._restored)

    @property
    def is_resumed(self) -> bool:
        """Whether the run continues in the folder of an earlier run."""
        return self._resume_from is not None

    @property
    def asked_to_stop(self) -> bool:
        """Whether a signal asked the run to stop."""
        return self._interrupt.stop

    @property
    def interrupted(self) -> bool:
        """Whether the run is to stop after the present update, by a signal or by its listener."""
        return self.asked_to_stop or bool(self._stop_reason)

    @property
    def has_checkpoint(self) -> bool:
        """Whether the run continues from a checkpoint."""
        return self._resume_from is not None and self._resume_from.checkpoint("latest").exists()

    def give_up(self) -> None:
        """Mark a run that ends on request before all updates are done."""
        self._gave_up = True

    @contextmanager
    def repeatable(self) -> Iterator[None]:
        """Wrap the work after the last checkpoint: a signal ends it immediately, and `resume` repeats it."""
        with self._interrupt.at_once():
            yield

    def restore(self, net: Sequential, optimizer: torch.optim.Optimizer, **parts: Resumable) -> int:
        """Restore the latest checkpoint of the folder to resume, if there is one. Call it before entering the run.

        Args: parts: the parts that were given to `save`.
        Returns: the number of updates done before the checkpoint; 0 if there is none.
        Raises: ValueError if the checkpoint is damaged or of another network.
        """
        path = self._resume_from.checkpoint("latest") if self._resume_from else None
        if path is None or not path.exists():
            return 0
        found = load_checkpoint(path, net, optimizer)
        try:
            states = present(PARTS, found["parts"])
            for name, part in parts.items():
                if name in states or name not in _OPTIONAL_PARTS:
                    part.load_state_dict(states[name])
            restore_random(found["random"])
            self.timings = dict(found["timings"])
            self._evaluated_before = self.timings.get("evaluate_seconds", 0.0)
            self._wall_before = max(found["wall_seconds"], self._recorded_seconds(path.parent.parent))
            self._kept_records, self._restored, self._run_id = found["records"], found["update"], found.get("run_id")
        except KeyError as error:
            raise ValueError(f"{path} belongs to another kind of run: it has no {error}") from error
        except Exception as error:  # a part may raise anything for a state of another kind
            why = str(error) if isinstance(error, ValueError) else type(error).__name__
            raise ValueError(f"{path} belongs to another kind of run ({why})") from error
        return self._restored

    @staticmethod
    def _recorded_seconds(folder: Path) -> float:
        """The time in a run.json of an earlier session: also for the test and figures, after the last checkpoint."""
        summary = state_of(folder).facts.get("summary")
        seconds = summary.get("wall_seconds") if isinstance(summary, dict) else None
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < math.inf:
            return 0.0
        return float(seconds)

    def save(
        self, name: str, net: Sequential, optimizer: torch.optim.Optimizer, update: int, **parts: Resumable
    ) -> None:
        """Write a checkpoint: "latest", from which `restore` continues, or "best"."""
        counters = {
            "update": update,
            "records": self._kept_records,
            "parts": {part: value.state_dict() for part, value in parts.items()},
            "run_id": self._facts["run_id"],
            "timings": dict(self.timings),
            "wall_seconds": self._wall_seconds(),
            **({} if self.sizes is None else {"sizes": list(self.sizes)}),
        }
        with writing():
            self.folder.sync_records()  # a checkpoint that survives a power cut needs the records before it
            save_checkpoint(self.folder.checkpoint(name), net, optimizer, **counters)
        self._saved = time.perf_counter()

    def seconds_since_save(self) -> float:
        """Age of the last checkpoint."""
        return time.perf_counter() - self._saved

    def __enter__(self) -> Run:
        self._started = self._saved = time.perf_counter()
        self._interrupt.__enter__()
        try:
            self._start()
            facts = {"folder": self.shown, "device": self._facts["device"], "lost": self._lost}
            self._notify("start", {**facts, "resumed": self.is_resumed, "notes": self.notes})
        except BaseException as error:
            if self.status == "running":
                self.__exit__(type(error), error, error.__traceback__)
            else:
                self.release()
                self._interrupt.__exit__()
            raise
        return self

    def _start(self) -> None:
        """Write the first files, run.json last; a new run that fails before that leaves no file."""
        if self._resume_from:
            self.folder = self._resume_from
            with writing():
                if self.has_new_length and "config.yaml" in self._files:
                    self.folder.write_text("config.yaml", self._files["config.yaml"])
                    self._write_facts("running")  # no longer completed, before a record is removed
                self._remove_unsaved()
                self._write_missing()
                self._write_facts("running")
            return
        if self.kind == "evaluation":
            remove_unfinished_evaluations(self._root)
        with writing():
            self.folder = RunFolder.reserve(self._root, self._subfolder, facts_of(self.config)["id"], self._path)
            self._lock = self.folder.take()
        try:
            with writing():
                self._write_missing()
                self._write_facts("running")
        except BaseException:
            self.release()
            with suppress(OSError):
                self.folder.remove()
            raise

    def _remove_unsaved(self) -> None:
        """Remove the records after the checkpoint, and unfinished files of a killed process."""
        self._lost = self.folder.keep_records(self._kept_records, self._restored)
        self._kept_bytes = self._bytes_of_records()
        remove_remains(self.folder.path)
        remove_remains(self.folder.checkpoint("latest").parent)
        (self.folder.path / "error.txt").unlink(missing_ok=True)

    def _write_missing(self) -> None:
        for name, content in self._files.items():
            if not (self.folder.path / name).exists():
                self.folder.write_text(name, content)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """End the run, with or without an error; suppress the exception of a signal that ended `repeatable`."""
        try:
            if error is not None and not isinstance(error, KeyboardInterrupt):
                self._fail(error)
            elif error is not None or self._gave_up:
                self._end("interrupted", self._stop_reason or None)
            else:
                self._end("completed")
        finally:
            self.release()
            self._interrupt.__exit__()
            self._notify("end", {"status": self.status})
        return isinstance(error, Stopped)

    def _end(self, status: str, reason: str | None = None) -> None:
        """Write the last files. Raises: errors in writing them, after which the run counts as failed."""
        try:
            if status == "completed":  # an interrupted run may be in the middle of a record
                self._check_records()
            self._measure()
            self._write_missing()
            self._write_table()
            self._write_facts(status, reason)
        except Exception as error:
            self._fail(error)
            raise

    def _fail(self, error: BaseException) -> None:
        """Write the last files and the traceback as far as possible; only the first error is reported."""
        self.status = "failed"
        with suppress(Exception):
            self.folder.write_text("error.txt", "".join(traceback.format_exception(error)))
        with suppress(Exception):
            self._measure()
        with suppress(Exception):
            self._write_table()
        with suppress(Exception):
            self._write_facts("failed", named(error))

    def release(self) -> None:
        """Unlock the folder. Call it for a resumed run that is not entered."""
        if self._lock:
            self._lock.release()

    def _measure(self) -> None:
        training = costs(self.summary.get("updates"), self.timings.get("train_seconds"), self._memory)
        self.summary |= {**training, "peak_memory_bytes": peak_memory_bytes(self.device)}
        self.summary = plain(self.summary | {"wall_seconds": self._wall_seconds()})

    def _write_table(self) -> None:
        self.folder.write_text("metrics.csv", to_csv(self.folder.records()))

    def _write_facts(self, status: str, error: str | None = None) -> None:
        """Write run.json; facts that do not change during a run are computed once."""
        if self.status == "new":
            self._facts = self._first_facts()
        later = {"summary": self.summary, "timings": self.timings, "warnings": self.warnings, "error": error}
        self.folder.write_json("run.json", {"status": status, **self._facts, **later})
        self.status = status

    def _first_facts(self) -> dict[str, Any]:
        before = state_of(self.folder.path).facts if self._resume_from else {}  # {} if run.json is broken
        return {
            "kind": self.kind,
            "experiment": self.experiment,
            **facts_of(self.config),
            "run_id": before.get("run_id") or self._run_id or secrets.token_hex(8),
            "device": provenance.device_name(self.device),
            "planned_updates": self.planned_updates,
            "started": before.get("started") or provenance.now(),
            "resumed": [*(before.get("resumed") or []), *([provenance.now()] if self._resume_from else [])],
            **self._lengths(before),
            **({"init": init} if (init := self.init or before.get("init")) else {}),
            "pid": os.getpid(),
            "versions": provenance.versions(),
            "git": provenance.git_revision(),
            "settings": provenance.settings(),
            "config": self.config,  # the config of the checkpoints, even if config.yaml is changed
        }

    def _lengths(self, before: dict[str, Any]) -> dict[str, Any]:
        """The earlier lengths of the run, each with the summary at its end, for run.json; {} if there are none."""
        lengths = before.get("earlier_lengths") or []
        if self.has_new_length:
            lengths = [*lengths, {name: before.get(name) for name in ("planned_updates", "summary")}]
        return {"earlier_lengths": lengths} if lengths else {}

    def progress(self, done: int, total: int | None, **values: float) -> None:
        """Report progress to the listener; nothing is stored. Args: total: None for a run without an end."""
        self._notify("progress", {"done": done, "total": total, "left": self._seconds_left(done, total), **values})

    def _seconds_left(self, done: int, total: int | None) -> float | None:
        """Estimate the time until the run is tested and drawn; None without an end. A test counts as an evaluation."""
        if total is None:
            return None
        evaluating = self.timings.get("evaluate_seconds", 0.0)
        training = self._session_seconds() - (evaluating - self._evaluated_before)
        left = training / max(1, done - self._restored) * (total - done)
        before = (done - 1) // self.eval_every if self.eval_every else 0
        if self.eval_every and before:
            left += evaluating / before * (math.ceil(total / self.eval_every) - before + 1)
        return left + (_DRAWING_SECONDS if (self.config.get("train") or {}).get("figures") else 0.0)

    def record(self, values: dict[str, Any]) -> None:
        """Append a record to metrics.jsonl and report it to the listener. Raises: RuntimeError if the file changed."""
        self._check_records()
        self.folder.append_record(values)
        self._kept_records, self._kept_bytes = self._kept_records + 1, self._bytes_of_records()
        self._stop_reason = self._notify("record", values) or self._stop_reason

    def _check_records(self) -> None:
        size = self._bytes_of_records()
        if size != self._kept_bytes:
            path = self.folder.path / "metrics.jsonl"
            raise RuntimeError(f"{path} was changed during the run: it has {size} bytes instead of {self._kept_bytes}")

    def _bytes_of_records(self) -> int:
        try:
            return (self.folder.path / "metrics.jsonl").stat().st_size
        except FileNotFoundError:
            return 0

    def warn(self, sentence: str) -> None:
        """Store a warning for the user in run.json; it is shown at the end."""
        self.warnings.append(sentence)

    def _notify(self, event: str, values: dict[str, Any]) -> str | None:
        """Report an event to the listener. Returns: its answer."""
        if self._listener is None or not (self._is_listening or event == "end"):
            return None
        try:
            return self._listener(event, values)
        except (Exception, SystemExit):  # for example, rich exits if the pipe behind stdout is closed
            self._is_listening = False
            return None

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the duration of the body in seconds to `timings[name]`, and report its start to the listener."""
        if name != "train_seconds":  # "progress" reports it
            self._notify("phase", {"name": name})
        start = time.perf_counter()
        try:
            yield
        finally:
            self.timings[name] = self.timings.get(name, 0.0) + time.perf_counter() - start

    @contextmanager
    def training(self) -> Iterator[None]:
        """Measure the time of an update, `timings["train_seconds"]`, and its memory, for the summary."""
        self._memory = self._memory or TrainingMemory(self.device)
        with self._memory, self.timed("train_seconds"):
            yield

    def _wall_seconds(self) -> float:
        """The duration of all sessions so far."""
        return self._wall_before + self._session_seconds()

    def _session_seconds(self) -> float:
        return time.perf_counter() - self._started
