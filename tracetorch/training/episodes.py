"""Rewards of a run: the return of each episode that ended, and the mean of recent rewards."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tracetorch.training.progress import check_alike

LATE = 5000
"""Number of the last rewards whose mean a run reports at its end."""


class Episodes:
    """Returns of the episodes that ended since the last record, and recent rewards, over all lanes.

    Args: lanes: how many there are.
    Memory: `LATE`/lanes numbers, and one for each lane; independent of time.
    """

    def __init__(self, lanes: int):
        self.count, self._mean, self._sum, self._ended = 0, 0.0, 0.0, 0
        self._open = torch.zeros(lanes, dtype=torch.float64)
        self._late = torch.zeros(max(1, LATE // lanes), dtype=torch.float64)
        self._acts = 0

    def add(self, reward: Tensor, done: Tensor) -> None:
        """Take note of an action in each lane. Args: reward, done (whether the episode is): (lanes,)."""
        reward, done = reward.cpu().double(), done.cpu()
        self._late[self._acts % len(self._late)] = reward.mean()
        self._acts += 1
        self._open += reward
        if ended := int(done.sum()):
            self._sum, self._ended = self._sum + float(self._open[done].sum()), self._ended + ended
            self.count += ended
            self._open.masked_fill_(done, 0)

    def drop(self) -> None:
        """Forget the episodes under way: they were lost, and never end."""
        self._open.zero_()

    @property
    def mean(self) -> float:
        """Mean return of the episodes that ended since `take`; if none did, what it was before; 0 at the start."""
        return self._sum / self._ended if self._ended else self._mean

    @property
    def late(self) -> float:
        """Mean of the last rewards, `LATE` of them once there were so many."""
        return float(self._late[: max(1, self._acts)].mean())

    def take(self) -> dict[str, float]:
        """For a record: the mean return, and how many episodes ended in all; the mean restarts."""
        self._mean, self._sum, self._ended = self.mean, 0.0, 0
        return {"return": self._mean, "episodes": self.count}

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers and tensors, for a checkpoint."""
        return {name: v.clone() if isinstance(v, Tensor) else v for name, v in vars(self).items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there. Raises: KeyError, ValueError if it is the state of something else."""
        check_alike(self.state_dict(), state)
        for name in vars(self):
            setattr(self, name, state[name])
