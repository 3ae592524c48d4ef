"""Losses with a target: indices or distributions."""

import torch
from torch import Tensor

from tracetorch.modes import check_number, check_tensor


def as_distribution(target: Tensor, output: Tensor) -> Tensor:
    """Return indices (batch,) as one-hot rows; keep values of the output's shape. Raises: TypeError, ValueError."""
    check_tensor(output, "the output that a loss takes")
    check_tensor(target, "the target of a loss")
    if not output.is_floating_point() or not output.ndim:
        shape = tuple(output.shape)
        raise ValueError(f"a loss takes real numbers of shape (batch, outputs), got {output.dtype} of shape {shape}")
    if target.shape == output.shape and target.is_floating_point():
        return target.to(output)
    if target.shape != output.shape[:-1] or target.is_floating_point():
        rows, outputs = tuple(output.shape[:-1]), output.shape[-1]
        wanted = f"whole numbers of shape {rows} or values of shape {(*rows, outputs)}"
        raise ValueError(f"a target is {wanted}, got {target.dtype} of shape {tuple(target.shape)}")
    low, high = (int(end) for end in target.aminmax()) if target.numel() else (0, 0)
    if not 0 <= low <= high < output.shape[-1]:
        raise ValueError(f"targets name outputs 0 to {output.shape[-1] - 1}, got {low} to {high}")
    return torch.zeros_like(output).scatter_(-1, target.to(output.device, torch.int64).unsqueeze(-1), 1.0)


def cross_entropy(output: Tensor, target: Tensor, *, floor: float = 1e-3) -> tuple[Tensor, Tensor]:
    """Cross-entropy of probabilities.

        L = mean over the batch of −Σ q·log((p + ε) / (1 + ε)),    signal = −q / (p + ε) / batch

    Args:
        output: p, probabilities (batch, classes), for example of `LIS`, or their mean over steps.
        target: class indices (batch,), or distributions q (batch, classes).
        floor: ε, which limits the signal to 1/ε for a class of probability 0.
    Returns: loss, a number in nats, 0 for a perfect answer; signal, (batch, classes).
    Raises: ValueError for outputs below 0 or a floor outside (0, 1).
    Gradient: exact.
    """
    check_number(floor, "floor")
    if not 0 < floor < 1:
        raise ValueError(f"floor must lie between 0 and 1 (both excluded), got {floor:g}")
    q = as_distribution(target, output)
    if bool((output < 0).any()):
        got = f"{float(output.detach().min()):g}; for a LI readout use cross_entropy_with_logits"
        raise ValueError(f"cross_entropy takes probabilities, such as a LIS readout gives, got {got}")
    raised = output + floor
    loss = -(q * torch.log(raised / (1 + floor))).sum(dim=-1).mean()
    return loss, -q / raised.detach() / output.shape[:-1].numel()


def cross_entropy_with_logits(output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the softmax of the output.

        L = mean over the batch of −Σ q·log softmax(z),    signal = (softmax(z)·Σq − q) / batch

    Args:
        output: z, any real numbers (batch, classes), for example of `LI`.
        target: class indices (batch,), or distributions q (batch, classes).
    Returns: loss, a number in nats; signal, (batch, classes).
    Gradient: exact.
    """
    q = as_distribution(target, output)
    loss = -(q * torch.log_softmax(output, dim=-1)).sum(dim=-1).mean()
    signal = torch.softmax(output.detach(), dim=-1) * q.sum(dim=-1, keepdim=True) - q
    return loss, signal / output.shape[:-1].numel()


def mse(output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Mean squared error.

        L = mean over the batch of mean over the outputs of (y − q)²,    signal = 2(y − q) / (batch · outputs)

    Args:
        output: y, any real numbers (batch, outputs).
        target: values q (batch, outputs), or indices (batch,), which stand for one-hot rows.
    Returns: loss, in squared units of the output; signal, (batch, outputs).
    Gradient: exact.
    """
    error = output - as_distribution(target, output)
    return error.square().mean(), 2 * error.detach() / error.numel()
