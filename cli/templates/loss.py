"""Own part: a loss that grows linearly with large errors.

A loss is a function of output and target that returns the loss and the signal, its derivative with respect to the
output. A loss for rewards is a subclass of `tracetorch.loss.RewardLoss` instead.
"""

import torch
from torch import Tensor

from tracetorch.loss.target import as_distribution


def own_function(output: Tensor, target: Tensor, *, width: float = 1.0) -> tuple[Tensor, Tensor]:
    """Huber loss: the mean of e²/2 for errors |e| below the width, of width·(|e| − width/2) for others.

    Args:
        output: (batch, outputs).
        target: values (batch, outputs), or class indices (batch,), which stand for one-hot rows.
        width: of the quadratic part, above 0.
    Returns: the loss, a number; the signal, (batch, outputs).
    Raises: ValueError for a width that is not above 0.
    """
    if not width > 0:
        raise ValueError(f"width must be above 0, got {width:g}")
    error = output - as_distribution(target, output)
    size = error.abs()
    loss = torch.where(size < width, error.square() / 2, width * (size - width / 2)).mean()
    return loss, error.detach().clamp(-width, width) / max(1, error.numel())
