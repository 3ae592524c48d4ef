"""How the learning rate changes over a run."""

from __future__ import annotations

from typing import Literal

import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LRScheduler

Schedule = Literal["none", "linear", "cosine"]


def learning_rate_schedule(optimizer: torch.optim.Optimizer, schedule: Schedule, total: int | None) -> LRScheduler:
    """From an optimizer's learning rate to 0 at the end, along a line or half a cosine; or constant.

    Args: total: updates in all; None if the run has no end.
    Raises: ValueError for a decrease towards an end that does not exist.
    """
    if schedule == "none":
        return LambdaLR(optimizer, lambda update: 1.0)
    if total is None:
        raise ValueError(
            f"train.schedule={schedule} lowers the step size until the end, and this run has none: give train.updates "
            "or train.steps, or train.schedule=none"
        )
    if schedule == "cosine":
        return CosineAnnealingLR(optimizer, total)
    return LambdaLR(optimizer, lambda update: 1 - update / total)
