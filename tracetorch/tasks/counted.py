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
    """The loss of a stretch of time."""

    loss: Tensor
    signal: Tensor  # dL/d output of each step, (time, batch, outputs)
    rows: int  # number of targets


def counted_loss(loss: Loss, output: Tensor, batch: CountedBatch, start: int, window: int | None) -> CountedLoss | None:
    """Return the loss of the outputs that count, and its derivative at every step.

    At steps, the loss is the mean over all steps with a target. Else it is that of each sample's mean output over the
    steps that count; a sample without any in this stretch does not take part.

    Args:
        output: at each step of the stretch, (time, batch, outputs).
        start: number of the first step of the stretch.
        window: the steps at the end of the stretch that are read, for one target per sample; None: all.
    Returns: None if nothing counts in this stretch.
    """
    counted = batch.counted[start : start + len(output)]
    if batch.at_steps:
        if not bool(counted.any()):
            return None
        value, of_rows = loss(output[counted], batch.target[start : start + len(output)][counted])
        signal = torch.zeros_like(output)
        signal[counted] = of_rows.to(signal.dtype)
        return CountedLoss(value, signal, len(of_rows))
    mean, weight, takes_part = mean_output(output, counted, window)
    if not bool(takes_part.any()):
        return None
    value, of_rows = loss(mean[takes_part], batch.target[takes_part])
    signal = torch.zeros_like(mean)
    signal[takes_part] = of_rows.to(signal.dtype)
    return CountedLoss(value, weight * signal, len(of_rows))


def mean_output(output: Tensor, counted: Tensor, window: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return each sample's mean output over the counted steps at the end, (batch, outputs).

    Also returns the weight of each step in it, (time, batch, 1), and whether any step counts, bool (batch,).
    """
    is_read = counted.clone()
    if window is not None:
        is_read[: max(0, len(output) - window)] = False
    number = is_read.sum(dim=0)
    weight = (is_read / number.clamp(min=1))[..., None].to(output.dtype)
    return (weight * output).sum(dim=0), weight, number > 0
