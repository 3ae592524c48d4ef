"""Memory of a process: its peak, and what training adds to it."""

from __future__ import annotations

import ctypes
import gc
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

_STATUS, _REFERENCES = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_FIRST_UPDATES = 100  # each of them is measured
_MIN_INTERVAL = 0.02  # seconds from one measurement to the next, after them
_SLACK = 2**20  # normal change of a process's memory between two updates, in bytes
_earlier_peaks: dict[torch.device, int] = {}  # the highest peaks that were reset


def peak_memory_bytes(device: torch.device) -> int | None:
    """Peak memory in use: torch's on a GPU, else that of this process. None if the system does not report it."""
    peak = _peak(device)
    return None if peak is None else max(peak, _earlier_peaks.get(device, 0))


class TrainingMemory:
    """Peak memory of updates, above the memory before the first one: of the process or, on a GPU, of torch.

    Enter it for each update: `with memory: train(batch)`; then read `memory.most`, None if it is unknown.
    After the first 100 updates, at most one in 20 ms is measured, because a measurement takes .1 ms.
    Free memory is first returned to the system (glibc's `malloc_trim`): an update that reuses it would seem to need
    none.
    """

    def __init__(self, device: torch.device):
        self.most: int | None = None
        self._device = device
        gc.collect()
        _trim()
        is_known = device.type == "cuda" or _REFERENCES.exists()  # else the peak cannot be reset
        self._before = self._after = memory_bytes(device) if is_known else None
        self._peak: int | None = None  # after the last update that was measured
        self._count, self._measured_at, self._is_measured = 0, 0.0, True

    def __enter__(self) -> TrainingMemory:
        self._count += 1
        now = time.perf_counter()
        self._is_measured = self._count <= _FIRST_UPDATES or now - self._measured_at > _MIN_INTERVAL
        if self._before is None or self._after is None or not self._is_measured:
            return self
        self._measured_at = now
        peak, used = _peak_and_now(self._device)
        if used > self._after + _SLACK:  # other code ran since the last update
            _trim()
        if peak != self._peak and not _reset_peak(self._device):
            self._before = None
        return self

    def __exit__(self, *error: object) -> None:
        if self._before is None or not self._is_measured:
            return
        self._peak, self._after = _peak_and_now(self._device)
        self.most = max(self.most or 0, self._peak - self._before)


def memory_bytes(device: torch.device) -> int | None:
    """Memory in use: of the process or, on a GPU, of torch. None if the system does not report it."""
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else _entry("VmRSS")


def memory_through(records: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """First, last and largest "memory_bytes" of records as in `metrics.jsonl`."""
    used = [record["memory_bytes"] for record in records if record.get("memory_bytes") is not None]
    if not used:
        return {}
    return {"memory_first_bytes": used[0], "memory_last_bytes": used[-1], "memory_most_bytes": max(used)}


def costs(updates: int | None, seconds: float | None, memory: TrainingMemory | None) -> dict[str, float]:
    """Time for each update, and peak memory of training; unknown values are left out."""
    known: dict[str, float] = {}
    if updates and seconds is not None:
        known["update_seconds"] = seconds / updates
    if memory is not None and memory.most is not None:
        known["training_memory_bytes"] = memory.most
    return known


def _peak(device: torch.device) -> int | None:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    own = _entry("VmHWM")
    if own is not None:  # on Linux, `ru_maxrss` of a process starts at the peak of its parent
        return own
    if resource is None:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # other systems count in KiB


def _peak_and_now(device: torch.device) -> tuple[int, int]:
    """Peak memory and memory in use, read together; 0 for one that the system does not report."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device), torch.cuda.memory_allocated(device)
    table = _table()
    return _entry("VmHWM", table) or 0, _entry("VmRSS", table) or 0


def _reset_peak(device: torch.device) -> bool:
    """Reset the peak to the memory in use. Returns: whether the system allows it."""
    _earlier_peaks[device] = max(_peak(device) or 0, _earlier_peaks.get(device, 0))
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return True
    try:
        _REFERENCES.write_bytes(b"5")
    except OSError:
        return False
    return True


def _trim() -> None:
    """Return free pages to the system, if the allocator is glibc's."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _table() -> bytes:
    """Linux's table of a process's memory; empty on other systems."""
    try:
        return _STATUS.read_bytes()
    except OSError:
        return b""


def _entry(name: str, table: bytes | None = None) -> int | None:
    """An entry of Linux's table, in bytes; None if it is missing."""
    found = (_table() if table is None else table).partition(f"{name}:".encode())[2].split(maxsplit=1)
    return 1024 * int(found[0]) if found else None
