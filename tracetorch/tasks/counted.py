"""Losses of batches in which some steps count and others do not: samples of different lengths, and targets at steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from tracetorch.tasks.task import CountedBatch

Loss = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(output, target) to (loss, signal)."""


class CountedLoss(NamedTuple):
    """The loss of a stretch of steps."""

    loss: Tensor
    signal: Tensor  # dL/d output of each step, (time, batch, outputs)
    rows: int  # number of targets
    counted: Tensor  # bool, (time, batch): the steps that are read


def counted_loss(loss: Loss, output: Tensor, batch: CountedBatch, start: int, window: int | None) -> CountedLoss | None:
    """Return the loss of the outputs that count in a stretch of steps, and its derivative at every step.

    With targets at steps, the loss is the mean over the steps with a target. With one target for each sample, it is the
    loss of the sample's mean output over the steps that count; samples without such a step are left out.

    Args:
        output: at each step of the stretch, (time, batch, outputs).
        start: number of the first step of the stretch.
        window: number of steps at the end of the stretch that are read, for one target per sample; None: all.
    Returns: the loss; None if no step counts.
    """
    counted = batch.counted[start : start + len(output)]
    if batch.at_steps:
        if not bool(counted.any()):
            return None
        value, of_rows = loss(output[counted], batch.target[start : start + len(output)][counted])
        signal = torch.zeros_like(output)
        signal[counted] = of_rows.to(signal.dtype)
        return CountedLoss(value, signal, len(of_rows), counted)
    mean, weight, takes_part = mean_output(output, counted, window)
    if not bool(takes_part.any()):
        return None
    value, of_rows = loss(mean[takes_part], batch.target[takes_part])
    signal = torch.zeros_like(mean)
    signal[takes_part] = of_rows.to(signal.dtype)
    return CountedLoss(value, weight * signal, len(of_rows), weight[..., 0] > 0)


def mean_output(output: Tensor, counted: Tensor, window: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return each sample's mean output over the steps that count, (batch, outputs).

    Args: counted: bool (time, batch). window: number of last steps that are read; None: all.
    Returns: the mean; the weight of each step in it, (time, batch, 1); whether any step counts, bool (batch,).
    """
    is_read = counted.clone()
    if window is not None:
        is_read[: max(0, len(output) - window)] = False
    number = is_read.sum(dim=0)
    weight = (is_read / number.clamp(min=1))[..., None].to(output.dtype)
    return (weight * output).sum(dim=0), weight, number > 0
