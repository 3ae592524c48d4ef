"""Memory of a process: its peak, and what training adds to it."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

_STATUS, _REFERENCES = "/proc/self/status", Path("/proc/self/clear_refs")
_SLACK = 2**20  # bytes: what a process takes and gives back between two updates anyway
_before_resets: dict[torch.device, int] = {}  # the highest peaks that were reset


def peak_memory_bytes(device: torch.device) -> int | None:
    """The most memory ever in use: what torch allocated on a GPU; else all of this process, Python included.

    Returns: None where the system does not say.
    """
    peak = _peak(device)
    return None if peak is None else max(peak, _before_resets.get(device, 0))


class TrainingMemory:
    """The most memory that training takes above what there is before its first update: of the process; on a GPU, of
    torch's allocations there.

    Enter it for each update, and leave it before anything else is done, such as a test. What is free and was
    kept for later use is given back to the system first (glibc's `malloc_trim`): else an update would find there what
    it needs, and would seem to need nothing.

    Args: device: where the network is.
    Example: `with memory: train(batch)`, for each batch; then `memory.most`, None where the system does not say.
    """

    def __init__(self, device: torch.device):
        self.most: int | None = None
        self._device = device
        gc.collect()
        _give_back()
        self._before = self._after = _now(device)
        self._peak: int | None = None  # after the last update; that of this one, unless something else has raised it

    def __enter__(self) -> TrainingMemory:
        if self._before is None or self._after is None:
            return self
        peak, now = _peak_and_now(self._device)
        if now > self._after + _SLACK:  # something else was done since
            _give_back()
        if peak != self._peak and not _reset_peak(self._device):
            self._before = None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is None:
            return
        self._peak, self._after = _peak_and_now(self._device)
        self.most = max(self.most or 0, self._peak - self._before)


def memory_bytes(device: torch.device) -> int | None:
    """What is in use now: of the process, Python included; on a GPU, by torch. None where the system does not say."""
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else _entry("VmRSS")


def memory_through(records: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """First, last and most of the "memory_bytes" of records as in `metrics.jsonl`; nothing if there are none."""
    used = [record["memory_bytes"] for record in records if record.get("memory_bytes") is not None]
    if not used:
        return {}
    return {"memory_first_bytes": used[0], "memory_last_bytes": used[-1], "memory_most_bytes": max(used)}


def costs(updates: int | None, seconds: float | None, memory: TrainingMemory | None) -> dict[str, float]:
    """What training took: of time for each update, of memory at most; what is not known is left out."""
    known: dict[str, float] = {}
    if updates and seconds is not None:
        known["update_seconds"] = seconds / updates
    if memory is not None and memory.most is not None:
        known["training_memory_bytes"] = memory.most
    return known


def _now(device: torch.device) -> int | None:
    """What is in use; None where the system does not say, or cannot reset the peak."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    return _entry("VmRSS") if _REFERENCES.exists() else None


def _peak(device: torch.device) -> int | None:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    own = _entry("VmHWM")
    if own is not None:  # on Linux, `ru_maxrss` of a process starts at the peak of the one that started it
        return own
    if resource is None:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # the others count in KiB


def _peak_and_now(device: torch.device) -> tuple[int, int]:
    """Both at once, where `_now` is known."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device), torch.cuda.memory_allocated(device)
    table = _table()
    return _entry("VmHWM", table) or 0, _entry("VmRSS", table) or 0


def _reset_peak(device: torch.device) -> bool:
    """Restart the peak from what is in use; that of all times is remembered. Returns: whether it may."""
    _before_resets[device] = max(_peak(device) or 0, _before_resets.get(device, 0))
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return True
    try:
        _REFERENCES.write_bytes(b"5")
    except OSError:
        return False
    return True


def _give_back() -> None:
    """Free pages go back to the system, where the allocator is glibc's."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _table() -> bytes:
    """Linux's table of a process' memory; empty where there is none."""
    try:
        file = os.open(_STATUS, os.O_RDONLY)
    except OSError:
        return b""
    try:
        return os.read(file, 1 << 14)
    finally:
        os.close(file)


def _entry(name: str, table: bytes | None = None) -> int | None:
    """An entry of that table, in bytes."""
    found = (_table() if table is None else table).partition(f"{name}:".encode())[2].split(maxsplit=1)
    return 1024 * int(found[0]) if found else None
