"""Mean squared error."""

from __future__ import annotations

from torch import Tensor

from tracetorch.loss.target import as_distribution


def mse(output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Squared distance to the target.

        L = mean over the batch of mean over the outputs of (y − q)²,    signal = 2(y − q) / (batch · outputs)

    Args:
        output: y, any real numbers (batch, outputs).
        target: values q (batch, outputs), or indices (batch,), which stand for one-hot rows.
    Returns: loss, in squared units of the output; signal, (batch, outputs).
    Gradient: exact.
    """
    error = output - as_distribution(target, output)
    return error.square().mean(), 2 * error.detach() / max(1, error.numel())
