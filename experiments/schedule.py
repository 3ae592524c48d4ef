"""How the step size changes over a run."""

from __future__ import annotations

from typing import Literal

import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LRScheduler


def schedule_of(
    stepper: torch.optim.Optimizer, schedule: Literal["none", "linear", "cosine"], total: int | None
) -> LRScheduler:
    """From the step size that an optimizer starts with to 0 at the end, along a line or half a cosine; or no change.

    Args: total: updates in all; None if there is no end.
    Raises: ValueError for a change towards an end that there is not.
    """
    if schedule == "none":
        return LambdaLR(stepper, lambda update: 1.0)
    if total is None:
        raise ValueError(
            f"train.schedule={schedule} lowers the step size towards the end, and there is none: give train.updates or "
            "train.steps, or train.schedule=none"
        )
    if schedule == "cosine":
        return CosineAnnealingLR(stepper, total)
    return LambdaLR(stepper, lambda update: 1 - update / total)
