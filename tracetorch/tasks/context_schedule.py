"""Times at regular intervals with jitter, so that they cannot be predicted by counting."""

from __future__ import annotations

from functools import lru_cache

import torch

from tracetorch import backends
from tracetorch.encode import mix_seed
from tracetorch.tasks.task import at_least


class ContextSchedule:
    """Contexts of about equal length: context c begins at c·every, earlier or later by up to half of `jitter`.

        start(c) = round(every·(c + jitter·(u_c − ½))),    u_c uniform in [0, 1);    start(0) = 0

    Every moment is a function of the seed and its number alone, so nothing has to be remembered.

    Args:
        every: from one moment to the next, on average.
        jitter: in [0, 1); by which part of that they vary.
        seed: of the jitter.
    Raises: ValueError for values that make no schedule.
    Example:
        >>> ContextSchedule(100, jitter=0.0).switches(250)
        [100, 200]
    """

    def __init__(self, every: int, jitter: float = 0.2, seed: int = 0):
        at_least("every", every, 1)
        if not 0 <= jitter < 1:
            raise ValueError(f"jitter must be at least 0 and below 1, got {jitter:g}")
        self.every, self.jitter, self.seed = every, jitter, seed

    def start(self, context: int) -> int:
        """When the context with this number begins."""
        if context <= 0:
            return 0
        shift = self.jitter * (_second(self.seed, context) - 0.5) if self.jitter else 0.0
        return round(self.every * (context + shift))

    def context(self, number: int) -> int:
        """In which context this moment is."""
        context = number // self.every + 1
        while context and self.start(context) > number:
            context -= 1
        return context

    def switches(self, number: int) -> list[int]:
        """When contexts began, the first excepted, up to and with this moment."""
        return [self.start(context) for context in range(1, self.context(number) + 1)]

    def draw(self, context: int, count: int) -> torch.Tensor:
        """So many uniform numbers in [0, 1) that belong to this context; the second is that of its beginning."""
        return _draw(self.seed, context, count)


def _draw(seed: int, context: int, count: int) -> torch.Tensor:
    return backends.uniform(mix_seed(seed), range(1), torch.tensor([context]), count)[0, 0]


@lru_cache(maxsize=64)  # a world asks at every action in which context it is
def _second(seed: int, context: int) -> float:
    return float(_draw(seed, context, 2)[1])
