"""When feedback is given in a lifetime, and what becomes of the rewards in between."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tracetorch import backends
from tracetorch.encode import mix_seed
from tracetorch.training.progress import check_alike

_FEEDBACK = 2  # what the seed is for, besides the weights (0) and the actions (1)


class FeedbackSchedule:
    """Feedback after a decision with probability 1/every, in all environments at once.

    Args: every: decisions per feedback, on average; 1: after each. seed: of the draws.
    Raises: ValueError if `every` is below 1 or not finite.
    Memory: none; a draw is a function of the seed and the decision's number.
    Example:
        >>> schedule = FeedbackSchedule(4, seed=0)
        >>> sum(schedule.is_due(number) for number in range(1, 4001))
        997
    """

    def __init__(self, every: float, seed: int):
        if not 1 <= every < float("inf"):
            raise ValueError(f"train.teach_every must be at least 1 and finite, got {every:g}")
        self.every, self._seed = every, mix_seed(seed, _FEEDBACK)

    def is_due(self, number: int) -> bool:
        """Whether feedback follows the decision with this number."""
        if self.every == 1:
            return True
        drawn = backends.uniform(self._seed, range(number, number + 1), torch.zeros(1, dtype=torch.int64), 1)
        return float(drawn) < 1 / self.every


class RewardAccumulator:
    """Mean of the rewards since the last feedback, so that a baseline and a step size fit any `every`.

    Args: num_envs: number of environments.
    Memory: one number per environment.
    """

    def __init__(self, num_envs: int):
        self._sum, self._count = torch.zeros(num_envs), 0

    def add(self, reward: Tensor) -> None:
        """Add a reward, (num_envs,)."""
        self._sum, self._count = self._sum.to(reward) + reward, self._count + 1

    def take(self) -> Tensor:
        """The mean of the rewards since the last call, (num_envs,)."""
        mean = self._sum / self._count
        self._sum, self._count = torch.zeros_like(self._sum), 0
        return mean

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers and tensors, for a checkpoint."""
        return {"sum": self._sum.clone(), "count": self._count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from there. Raises: KeyError, ValueError for the state of something else."""
        check_alike(self.state_dict(), state)
        self._sum, self._count = state["sum"].clone(), state["count"]
