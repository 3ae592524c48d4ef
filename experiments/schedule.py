"""How long a run trains, and how the step size changes over it."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LRScheduler


def schedule_of(
    optimizer: torch.optim.Optimizer, schedule: Literal["none", "linear", "cosine"], total: int | None
) -> LRScheduler:
    """From the step size that an optimizer starts with to 0 at the end, along a line or half a cosine; or no change.

    Args: total: updates in all; None if there is no end.
    Raises: ValueError for a change towards an end that there is not.
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


def count_updates(task: object, per_pass: int | None, updates: int | None, passes: float | None) -> int:
    """The updates of a run, from the one of two settings that is given.

    Args: per_pass: updates in one pass over the training data; None if these never end.
    Raises: ValueError if not exactly one is given, or if it makes no update.
    """
    if passes is not None and per_pass is None:
        name = type(task).__name__
        raise ValueError(f"train.passes: the data of {name} never end; give train.updates, and train.passes=null")
    if updates is not None and passes is not None:
        raise ValueError(
            f"train.updates={updates} and train.passes={passes:g} are both set: add train.passes=null to train for "
            f"{updates} updates, or train.updates=null to train for {passes:g} passes"
        )
    if updates is None:
        if passes is None or per_pass is None:
            raise ValueError(
                "train.updates and train.passes are both null: give one of them, such as train.updates=300"
            )
        if not 0 < passes < math.inf:
            raise ValueError(f"train.passes must be above 0 and finite, got {passes:g}")
        updates = round(passes * per_pass)
    if updates < 1:
        raise ValueError(f"train.updates or train.passes must make at least 1 update, got {updates}")
    return updates
