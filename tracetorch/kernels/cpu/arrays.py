"""Tensors as the compiled code takes them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def per(value: Tensor, count: int) -> np.ndarray:
    """A number for each of so many neurons."""
    return value.detach().expand(count).contiguous().numpy()


def grouped(trace: Tensor | None, decay: Tensor | None, dtype: torch.dtype) -> tuple[np.ndarray, np.ndarray]:
    """A trace as (groups, batch, features), the same memory, and its decays as (groups, features).

    Without a trace there are no groups, and the compiled loop over them does nothing.
    """
    if trace is None or decay is None:
        return torch.empty(0, 0, 0, dtype=dtype).numpy(), torch.empty(0, 0, dtype=dtype).numpy()
    traces = trace if trace.ndim == 3 else trace[None]
    decays = decay.detach().reshape(-1, 1) if trace.ndim == 3 else decay.detach()[None]
    return traces.numpy(), decays.expand(len(traces), trace.shape[-1]).contiguous().numpy()


def bits_of(tensor: Tensor) -> Tensor:
    """The same memory in a dtype that the compiler knows: bfloat16 and float16 as the whole numbers of their bits."""
    return tensor.view(torch.int16) if tensor.dtype in (torch.bfloat16, torch.float16) else tensor
