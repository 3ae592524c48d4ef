"""Times at regular intervals with jitter, so that they cannot be predicted by counting."""

from __future__ import annotations

from functools import lru_cache

import torch

from tracetorch import backends
from tracetorch.encode import mix_seed
from tracetorch.tasks.task import at_least


class Schedule:
    """Phases of about equal length: phase p begins at p·every, earlier or later by up to half of `jitter`.

        start(p) = round(every·(p + jitter·(u_p − ½))),    u_p uniform in [0, 1);    start(0) = 0

    Every moment is a function of the seed and its number alone, so nothing has to be remembered.

    Args:
        every: from one moment to the next, on average.
        jitter: in [0, 1); by which part of that they vary.
        seed: of the jitter.
    Raises: ValueError for values that make no schedule.
    Example:
        >>> Schedule(100, jitter=0.0).switches(250)
        [100, 200]
    """

    def __init__(self, every: int, jitter: float = 0.2, seed: int = 0):
        at_least("every", every, 1)
        if not 0 <= jitter < 1:
            raise ValueError(f"jitter must be at least 0 and below 1, got {jitter:g}")
        self.every, self.jitter, self.seed = every, jitter, seed

    def start(self, phase: int) -> int:
        """When the phase with this number begins."""
        if phase <= 0:
            return 0
        shift = self.jitter * (_second(self.seed, phase) - 0.5) if self.jitter else 0.0
        return round(self.every * (phase + shift))

    def phase(self, number: int) -> int:
        """In which phase this moment is."""
        phase = number // self.every + 1
        while phase and self.start(phase) > number:
            phase -= 1
        return phase

    def switches(self, number: int) -> list[int]:
        """When phases began, the first excepted, up to and with this moment."""
        return [self.start(phase) for phase in range(1, self.phase(number) + 1)]

    def draw(self, phase: int, count: int) -> torch.Tensor:
        """So many uniform numbers in [0, 1) that belong to this phase; the second is that of its beginning."""
        return _draw(self.seed, phase, count)


def _draw(seed: int, phase: int, count: int) -> torch.Tensor:
    return backends.uniform(mix_seed(seed), range(1), torch.tensor([phase]), count)[0, 0]


@lru_cache(maxsize=64)  # a world asks at every action in which phase it is
def _second(seed: int, phase: int) -> float:
    return float(_draw(seed, phase, 2)[1])
