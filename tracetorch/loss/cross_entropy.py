"""Cross-entropy, on probabilities and on logits."""

from __future__ import annotations

import torch
from torch import Tensor

from tracetorch.loss.target import as_distribution
from tracetorch.modes import check_number


def cross_entropy(output: Tensor, target: Tensor, *, floor: float = 1e-3) -> tuple[Tensor, Tensor]:
    """How surprised a distribution is by its target.

        L = mean over the batch of −Σ q·log((p + ε) / (1 + ε)),    signal = −q / (p + ε) / batch

    Args:
        output: p, probabilities (batch, classes), such as `LIS` gives; a mean over steps is one too.
        target: class indices (batch,), or distributions q (batch, classes).
        floor: ε, what keeps the signal finite for a class that the network holds impossible: at most 1/ε.
    Returns: loss, a number in nats, 0 for a perfect answer; signal, (batch, classes).
    Raises: ValueError for outputs below 0, which are no probabilities, or a floor outside (0, 1).
    Gradient: exact.
    """
    check_number(floor, "floor")
    if not 0 < floor < 1:
        raise ValueError(f"floor must lie between 0 and 1 (both excluded), got {floor:g}")
    q = as_distribution(target, output)
    if bool((output < 0).any()):
        raise ValueError(
            f"cross_entropy takes probabilities, such as a LIS readout gives, got {float(output.detach().min()):g}; "
            "for a LI readout use cross_entropy_with_logits"
        )
    raised = output + floor
    loss = -(q * torch.log(raised / (1 + floor))).sum(dim=-1).mean()
    return loss, -q / raised.detach() / _rows(output)


def cross_entropy_with_logits(output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the softmax of the output.

        L = mean over the batch of −Σ q·log softmax(z),    signal = (softmax(z)·Σq − q) / batch

    Args:
        output: z, any real numbers (batch, classes), such as `LI` gives.
        target: class indices (batch,), or distributions q (batch, classes).
    Returns: loss, a number in nats; signal, (batch, classes).
    Gradient: exact.
    """
    q = as_distribution(target, output)
    loss = -(q * torch.log_softmax(output, dim=-1)).sum(dim=-1).mean()
    signal = torch.softmax(output.detach(), dim=-1) * q.sum(dim=-1, keepdim=True) - q
    return loss, signal / _rows(output)


def _rows(output: Tensor) -> int:
    return max(1, output.shape[:-1].numel())
