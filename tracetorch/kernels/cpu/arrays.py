"""Tensors as the compiled code takes them."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tracetorch.kernels.trace import Trace


def per(value: Tensor, count: int) -> np.ndarray:
    """A number for each of so many neurons."""
    if value.ndim == 0:
        return np.full(count, value.detach().numpy())
    return value.detach().expand(count).contiguous().numpy()


class Traces(NamedTuple):
    """A `Trace` as the compiled code takes it, the same memory; without one, loops over none do nothing."""

    values: np.ndarray  # (traces, batch, features)
    decays: np.ndarray  # (traces, features)
    seconds: np.ndarray  # (seconds, batch, features)
    second_decays: np.ndarray  # (seconds, features)


def traces_of(trace: Trace | None, dtype: torch.dtype) -> Traces:
    """Args: dtype: of the empty arrays, if there is no trace."""
    if trace is None:
        return Traces(*nothing(dtype), *nothing(dtype))
    first = _rows(trace.values if trace.values.ndim == 3 else trace.values[None], trace.decay)
    if trace.second is None or trace.second_decay is None:
        return Traces(*first, *nothing(dtype))
    return Traces(*first, *_rows(trace.second, trace.second_decay))


@cache
def nothing(dtype: torch.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Where there is none: empty arrays of three dimensions and of two."""
    return torch.empty(0, 0, 0, dtype=dtype).numpy(), torch.empty(0, 0, dtype=dtype).numpy()


def _rows(values: Tensor, decay: Tensor) -> tuple[np.ndarray, np.ndarray]:
    if decay.ndim == 0:
        return values.numpy(), np.full((len(values), values.shape[2]), decay.detach().numpy())
    return values.numpy(), decay.detach().expand(len(values), 1, values.shape[2])[:, 0].contiguous().numpy()


def bits_of(tensor: Tensor) -> Tensor:
    """The same memory in a dtype that the compiler knows: bfloat16 and float16 as the whole numbers of their bits."""
    return tensor.view(torch.int16) if tensor.dtype in (torch.bfloat16, torch.float16) else tensor
