"""Interleaved rounds: each round runs each contender once, so that changes of the machine affect all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import torch

from common import memory

NO_MEMORY = ("allocate", "out of memory")
"""Words of torch's messages when memory runs out; on a CPU, torch has no special exception for it."""


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of the work, until the device has finished it."""
    _wait(device)
    start = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - start


def interleave(
    workloads: Mapping[str, Callable[[int], object]],
    rounds: int,
    device: torch.device,
    most: Mapping[str, int] | None = None,
) -> dict[str, list[float]]:
    """Return the seconds of each workload in each round; the order changes from round to round.

    Args:
        workloads: functions of the number of the round.
        most: the largest number of rounds of a workload; without an entry, all.
    """
    names, seconds = list(workloads), {name: list[float]() for name in workloads}
    for number in range(rounds):
        first = number % max(1, len(names))
        for name in names[first:] + names[:first]:
            if number < (most or {}).get(name, rounds):
                seconds[name].append(timed(partial(workloads[name], number), device))
    return seconds


@dataclass
class Forecast:
    """Predicts the cost of a longer sequence for a contender from shorter ones, to refuse it if it is too large.

    Time is taken as proportional to the steps; memory as linear through the last two lengths, or proportional to one.

    Args:
        budget: seconds that the contender may take per length.
    """

    budget: float
    measured: list[tuple[int, float, int | None]] = field(default_factory=list)  # steps, seconds, bytes

    def note(self, steps: int, seconds: float, extra_bytes: int | None) -> None:
        """Store the cost of a length, in place of an earlier one."""
        self.measured = sorted(
            [entry for entry in self.measured if entry[0] != steps] + [(steps, seconds, extra_bytes)]
        )

    def seconds(self, steps: int) -> float:
        """Predict the seconds of one run of so many steps."""
        last, seconds, _ = self.measured[-1]
        return seconds * max(1.0, steps / last)

    def memory(self, steps: int) -> int | None:
        """Predict the bytes of one run of so many steps; None if memory was never measured."""
        known = [(length, extra_bytes) for length, _, extra_bytes in self.measured if extra_bytes is not None]
        if not known:
            return None
        last, most = known[-1]
        if len(known) == 1 or steps <= last:
            return int(most * max(1.0, steps / last))
        before, less = known[-2]
        return int(most + max(0, most - less) / (last - before) * (steps - last))

    def refusal(self, steps: int, runs: int, room: int | None) -> str:
        """Why to refuse so many runs of so many steps within `room` bytes; "" if they can be tried."""
        extra_bytes, seconds = self.memory(steps), runs * self.seconds(steps)
        if room is not None and extra_bytes is not None and extra_bytes > room:
            return f"would take {extra_bytes / 2**30:.1f} GiB, the limit is {room / 2**30:.1f} GiB"
        if seconds > self.budget:
            return f"would take {seconds:.0f} s, the budget is {self.budget:.0f} s"
        return ""


class Peak:
    """The peak memory since `start`, minus the memory then; on a CPU, that of the process, from Linux's /proc."""

    def __init__(self, device: torch.device):
        self.device, self._before = device, 0

    def start(self) -> None:
        """Reset the peak."""
        if self.device.type == "cuda":
            _wait(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
            self._before = torch.cuda.memory_allocated(self.device)
        else:
            try:
                with open("/proc/self/clear_refs", "w", encoding="ascii") as refs:  # noqa: PTH123  # not a regular file
                    refs.write("5")  # resets the peak of the resident memory to its present value
            except OSError:
                return
            self._before = memory("VmRSS") or 0

    def read(self) -> int | None:
        """Bytes; None if the system does not report them."""
        if self.device.type == "cuda":
            _wait(self.device)
            return torch.cuda.max_memory_allocated(self.device) - self._before
        peak = memory("VmHWM") if self._before else None
        return None if peak is None else max(0, peak - self._before)


def out_of_memory(error: Exception) -> bool:
    """Whether an error reports that memory ran out."""
    return isinstance(error, MemoryError) or any(phrase in str(error) for phrase in NO_MEMORY)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
