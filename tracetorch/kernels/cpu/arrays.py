"""Tensors as the compiled code takes them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tracetorch.kernels.trace import Trace


def per(value: Tensor, count: int) -> np.ndarray:
    """A number for each of so many neurons."""
    return value.detach().expand(count).contiguous().numpy()


class Traces(NamedTuple):
    """A `Trace` as the compiled code takes it, the same memory; without one, loops over none do nothing."""

    values: np.ndarray  # (traces, batch, features)
    decays: np.ndarray  # (traces, features)
    seconds: np.ndarray  # (seconds, batch, features)
    second_decays: np.ndarray  # (seconds, features)


def traces_of(trace: Trace | None, dtype: torch.dtype) -> Traces:
    """Args: dtype: of the empty arrays, if there is no trace."""
    none = torch.empty(0, 0, 0, dtype=dtype), torch.empty(0, 0, dtype=dtype)
    first, second = none, none
    if trace is not None:
        first = _rows(trace.values if trace.values.ndim == 3 else trace.values[None], trace.decay)
        if trace.second is not None and trace.second_decay is not None:
            second = _rows(trace.second, trace.second_decay)
    return Traces(*(tensor.numpy() for tensor in (*first, *second)))


def _rows(values: Tensor, decay: Tensor) -> tuple[Tensor, Tensor]:
    return values, decay.detach().expand(len(values), 1, values.shape[2])[:, 0].contiguous()


def bits_of(tensor: Tensor) -> Tensor:
    """The same memory in a dtype that the compiler knows: bfloat16 and float16 as the whole numbers of their bits."""
    return tensor.view(torch.int16) if tensor.dtype in (torch.bfloat16, torch.float16) else tensor
