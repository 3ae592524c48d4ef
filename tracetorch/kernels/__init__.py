"""The inner loops over time, and the draws. Everything else calls these functions, and knows no device.

Each has a reference in plain torch, which runs on any device and in any dtype, and a compiled version for CPUs that
gives the same numbers, to the bit. Which one runs is decided here, by the device of the tensors.
"""

from __future__ import annotations

import logging
from functools import cache
from types import ModuleType

import torch
from torch import Tensor

from tracetorch.kernels import counter, reference
from tracetorch.kernels.counter import draw

__all__ = ["draw", "draw_below", "li_scan", "lif_scan", "names", "trace_scan"]


def lif_scan(currents: Tensor, membrane: Tensor, decay: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
    """Leaky integrate-and-fire neurons over a chunk of time; see `reference.lif_scan`."""
    return _scans(currents).lif_scan(currents, membrane, decay, threshold)


def li_scan(currents: Tensor, membrane: Tensor, decay: Tensor) -> tuple[Tensor, Tensor]:
    """Leaky integrators over a chunk of time; see `reference.li_scan`."""
    return _scans(currents).li_scan(currents, membrane, decay)


def trace_scan(xs: Tensor, trace: Tensor, decay: Tensor) -> Tensor:
    """Input traces over a chunk of time; see `reference.trace_scan`."""
    return _scans(xs).trace_scan(xs, trace, decay)


def draw_below(probability: Tensor, seed: int, steps: range, samples: Tensor) -> Tensor:
    """True with the given probability: `draw(...) < probability`, without making the uniform numbers.

    Args:
        probability: in [0, 1], (batch, channels) or (time, batch, channels); resolved to 2⁻²⁴.
        seed, steps, samples: as in `draw`.
    Returns: (time, batch, channels), bool. Probability 0 is never and 1 is always True.
    """
    compiled = _compiled() if samples.device.type == "cpu" else None
    return (compiled or counter).draw_below(counter.limit_of(probability), seed, steps, samples)


def names() -> dict[str, str]:
    """Which kernels run on which device, in words."""
    return {"cpu": "numba" if _compiled() else "torch (install numba for speed)", "other devices": "torch"}


def _scans(xs: Tensor) -> ModuleType:
    fits = xs.device.type == "cpu" and xs.dtype in (torch.float32, torch.float64)
    return (_compiled() if fits else None) or reference


@cache
def _compiled() -> ModuleType | None:
    try:
        from tracetorch.kernels import cpu  # noqa: PLC0415 (numba takes half a second to load)
    except ImportError as error:
        logging.getLogger("tracetorch").warning("numba is missing (%s): the slower torch kernels run instead", error)
        return None
    return cpu
