"""From tensors to the arrays that matplotlib draws, with a clear word about a wrong shape."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor


def as_array(value: Tensor, name: str, *axes: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """A tensor on any device, of any dtype, as an array of float64.

    Args:
        value: the tensor.
        name: what to call it in an error.
        axes: the names of its axes, such as "time", "neurons".
    Raises: ValueError if it has other axes, or nothing along one of them.
    """
    tensor = torch.as_tensor(value).detach()
    if tensor.ndim != len(axes) or tensor.numel() == 0:
        wanted = ", ".join(axes) + ("," if len(axes) == 1 else "")
        raise ValueError(f"{name} must have shape ({wanted}) with something along each axis, got {tuple(tensor.shape)}")
    return tensor.cpu().double().numpy()


def as_trials(**columns: Tensor) -> list[np.ndarray[Any, np.dtype[np.float64]]]:
    """Columns of one table, each (trials,) and finite.

    Raises: ValueError if one has another shape or length than the first, or a value that is no finite number.
    """
    arrays = {name: as_array(value, name, "trials") for name, value in columns.items()}
    (first, array), *others = arrays.items()
    for name, other in others:
        if len(other) != len(array):
            raise ValueError(f"{first} and {name} must be of the same trials, got {len(array)} and {len(other)}")
    for name, values in arrays.items():
        if not np.isfinite(values).all():
            raise ValueError(f"{name} must be finite in every trial, got {(~np.isfinite(values)).sum()} that are not")
    return list(arrays.values())
