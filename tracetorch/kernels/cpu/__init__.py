"""The kernels for a CPU, compiled by numba and kept in its cache on disk."""

from __future__ import annotations

import torch
from torch import Tensor

from tracetorch.kernels.counter import Draws
from tracetorch.kernels.cpu import freshness, waiting
from tracetorch.kernels.cpu.arrays import traces_of
from tracetorch.kernels.cpu.draw import draw_spikes
from tracetorch.kernels.cpu.scan import currents, goes_on, li_scan, lif_scan, lis_scan, trace_scan
from tracetorch.kernels.cpu.step import stepper

__all__ = ["currents", "goes_on", "li_scan", "lif_scan", "lis_scan", "spikes", "stepper", "trace_scan"]

freshness.stamp()
waiting.start()


def spikes(draws: Draws) -> Tensor:
    """See `reference.spikes`."""
    return draw_spikes(draws, traces_of(None, torch.float32), draws.dtype)
