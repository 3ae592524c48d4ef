"""Targets as indices or as distributions, read one way."""

from __future__ import annotations

import torch
from torch import Tensor

from tracetorch.modes import check_tensor


def as_distribution(target: Tensor, output: Tensor) -> Tensor:
    """Indices (batch,) become one-hot rows; anything of the output's shape stays what it is.

    Raises: TypeError for what is not a tensor; ValueError for any other shape, or an index that names no output.
    """
    check_tensor(output, "the output that a loss judges")
    check_tensor(target, "the target of a loss")
    if not output.is_floating_point() or not output.ndim:
        shape = tuple(output.shape)
        raise ValueError(f"a loss judges real numbers of shape (batch, outputs), got {output.dtype} of shape {shape}")
    if target.shape == output.shape and target.is_floating_point():
        return target.to(output)
    if target.shape != output.shape[:-1] or target.is_floating_point():
        rows, outputs = tuple(output.shape[:-1]), output.shape[-1]
        raise ValueError(
            f"a target is whole numbers of shape {rows} or values of shape {(*rows, outputs)}, "
            f"got {target.dtype} of shape {tuple(target.shape)}"
        )
    low, high = (int(end) for end in target.aminmax()) if target.numel() else (0, 0)
    if not 0 <= low <= high < output.shape[-1]:
        raise ValueError(f"targets name outputs 0 to {output.shape[-1] - 1}, got {low} to {high}")
    return torch.zeros_like(output).scatter_(-1, target.to(output.device, torch.int64).unsqueeze(-1), 1.0)
