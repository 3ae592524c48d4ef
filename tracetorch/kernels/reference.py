"""The reference scans: the steps of `functional`, one after another, over a chunk of time."""

from __future__ import annotations

import torch
from torch import Tensor

from tracetorch import functional as F


def lif_scan(currents: Tensor, membrane: Tensor, decay: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
    """`functional.lif_step` over a chunk.

    Args:
        currents: (time, batch, features).
        membrane: (batch, features), before the chunk.
        decay, threshold: a number or (features,).
    Returns: spikes (time, batch, features) and the membrane after the chunk.
    """
    spikes = torch.empty_like(currents)
    for step, current in enumerate(currents):
        spikes[step], membrane = F.lif_step(current, membrane, decay, threshold)
    return spikes, membrane


def li_scan(currents: Tensor, membrane: Tensor, decay: Tensor) -> tuple[Tensor, Tensor]:
    """`functional.li_step` over a chunk.

    Args: as `lif_scan`, without a threshold.
    Returns: membranes after every step (time, batch, features), and the last of them.
    """
    membranes = torch.empty_like(currents)
    for step, current in enumerate(currents):
        membrane = F.li_step(current, membrane, decay)
        membranes[step] = membrane
    return membranes, membrane


def trace_scan(xs: Tensor, trace: Tensor, decay: Tensor) -> Tensor:
    """`functional.trace_step` over a chunk; only the last trace is kept.

    Args:
        xs: (time, batch, features).
        trace: (batch, features), or (groups, batch, features) with a decay for each group.
        decay: a number, (features,) or (groups, 1, 1).
    Returns: the trace after the chunk, the shape of `trace`.
    """
    for x in xs:
        trace = F.trace_step(x, trace, decay)
    return trace
