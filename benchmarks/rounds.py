"""Taking turns: every round runs each contender once, so that whatever slows the machine slows all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import torch

from common import memory

NO_MEMORY = ("allocate", "out of memory")
"""How torch says that there is no more; on a CPU it has no exception of its own for it."""


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Seconds that the work takes, to its end on the device."""
    _wait(device)
    began = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - began


def turns(
    works: Mapping[str, Callable[[int], object]],
    rounds: int,
    device: torch.device,
    most: Mapping[str, int] | None = None,
) -> dict[str, list[float]]:
    """Seconds of each work in each round; who begins changes from round to round.

    Args:
        works: take the number of the round.
        most: in how many rounds a work takes part; all, if not said.
    """
    names, seconds = list(works), {name: list[float]() for name in works}
    for number in range(rounds):
        first = number % max(1, len(names))
        for name in names[first:] + names[:first]:
            if number < (most or {}).get(name, rounds):
                seconds[name].append(timed(partial(works[name], number), device))
    return seconds


@dataclass
class Forecast:
    """What a longer sequence will cost a contender, from those before it: says no before the machine has to.

    Time grows with the steps. So does memory, at the rate between the last two lengths, if there are two.

    Args:
        budget: seconds that the contender may take for one length.
    """

    budget: float
    seen: list[tuple[int, float, int | None]] = field(default_factory=list)  # steps, seconds, bytes

    def note(self, steps: int, seconds: float, taken: int | None) -> None:
        """What a length took. A length noted before is replaced."""
        self.seen = sorted([entry for entry in self.seen if entry[0] != steps] + [(steps, seconds, taken)])

    def seconds(self, steps: int) -> float:
        """Of one run of so many steps."""
        last, taken, _ = self.seen[-1]
        return taken * max(1.0, steps / last)

    def memory(self, steps: int) -> int | None:
        """Bytes of one run of so many steps; None if it was never measured."""
        known = [(length, taken) for length, _, taken in self.seen if taken is not None]
        if not known:
            return None
        last, most = known[-1]
        if len(known) == 1 or steps <= last:
            return int(most * max(1.0, steps / last))
        before, less = known[-2]
        return int(most + max(0, most - less) / (last - before) * (steps - last))

    def refusal(self, steps: int, runs: int, room: int | None) -> str:
        """Why so many runs of so many steps in so many bytes of memory are not to be tried; empty if they are."""
        taken, seconds = self.memory(steps), runs * self.seconds(steps)
        if room is not None and taken is not None and taken > room:
            return f"would take {taken / 2**30:.1f} GiB, the limit is {room / 2**30:.1f} GiB"
        if seconds > self.budget:
            return f"would take {seconds:.0f} s, the budget is {self.budget:.0f} s"
        return ""


class Peak:
    """The highest memory since `start`, above what was taken then. On a CPU Linux keeps it for the whole process."""

    def __init__(self, device: torch.device):
        self.device, self._before = device, 0

    def start(self) -> None:
        """Forget the old peak."""
        if self.device.type == "cuda":
            _wait(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
            self._before = torch.cuda.memory_allocated(self.device)
        else:
            try:
                with open("/proc/self/clear_refs", "w", encoding="ascii") as refs:  # noqa: PTH123  # no file to replace
                    refs.write("5")  # resets the peak of the resident memory to its present value
            except OSError:
                return
            self._before = memory("VmRSS") or 0

    def read(self) -> int | None:
        """Bytes; None where the system does not say."""
        if self.device.type == "cuda":
            _wait(self.device)
            return torch.cuda.max_memory_allocated(self.device) - self._before
        highest = memory("VmHWM") if self._before else None
        return None if highest is None else max(0, highest - self._before)


def out_of_memory(error: Exception) -> bool:
    """Whether this error says that there was no more memory."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in NO_MEMORY)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
