"""Moments at which something is told: every so often, and nobody can foresee them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tracetorch import backends
from tracetorch.encode import mix_seed
from tracetorch.runs.progress import check_alike

_TOLD = 2  # what the seed is for, beside the weights (0) and the actions (1)


class Moments:
    """Whether something is told after a decision: with probability 1/every, for all lanes alike.

    Args: every: decisions from one moment to the next, on average; 1: each. seed: of the moments.
    Raises: ValueError if `every` is below 1 or not finite.
    Memory: none; a moment is a function of the seed and its number.
    Example:
        >>> moments = Moments(4, seed=0)
        >>> sum(moments.comes(number) for number in range(1, 4001))
        997
    """

    def __init__(self, every: float, seed: int):
        if not 1 <= every < float("inf"):
            raise ValueError(f"train.teach_every must be at least 1 and finite, got {every:g}")
        self.every, self._seed = every, mix_seed(seed, _TOLD)

    def comes(self, number: int) -> bool:
        """Whether it comes after the decision with this number."""
        drawn = backends.draw(self._seed, range(number, number + 1), torch.zeros(1, dtype=torch.int64), 1)
        return float(drawn) < 1 / self.every


class PutBy:
    """Rewards that are not told yet: their mean, so that a baseline and a step size fit however seldom they are told.

    Args: lanes: how many there are.
    Memory: a number for each lane.
    """

    def __init__(self, lanes: int):
        self._sum, self._count = torch.zeros(lanes), 0

    def add(self, reward: Tensor) -> None:
        """Put a reward by, (lanes,)."""
        self._sum, self._count = self._sum.to(reward) + reward, self._count + 1

    def take(self) -> Tensor:
        """The mean of what was put by, (lanes,); then there is nothing any more."""
        told = self._sum / self._count
        self._sum, self._count = torch.zeros_like(self._sum), 0
        return told

    def state_dict(self) -> dict[str, Any]:
        """What is put by, for a checkpoint."""
        return {"sum": self._sum.clone(), "count": self._count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there. Raises: KeyError, ValueError if it is the state of something else."""
        check_alike(self.state_dict(), state)
        self._sum, self._count = state["sum"].clone(), state["count"]
