"""The reference in plain torch, on any device and in any dtype: the steps of `functional`, one after another.

Every state is updated in place: it belongs to the caller.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import linear

from tracetorch import functional as F
from tracetorch.kernels import counter
from tracetorch.kernels.counter import Draws
from tracetorch.kernels.drive import Drive
from tracetorch.kernels.sink import Sink
from tracetorch.kernels.trace import Trace


def lif_scan(drive: Drive, membrane: Tensor, decay: Tensor, threshold: Tensor, sink: Sink) -> None:
    """`functional.lif_step` over a chunk.

    Args:
        drive: what the currents come from.
        membrane: (batch, features), before the chunk; after it, on return.
        decay, threshold: a number or (features,).
        sink: takes the spikes.
    """
    for step, current in enumerate(currents(drive)):
        spikes, after = F.lif_step(current, membrane, decay, threshold)
        membrane.copy_(after)
        sink.take(step, spikes)


def li_scan(drive: Drive, membrane: Tensor, decay: Tensor, sink: Sink) -> None:
    """`functional.li_step` over a chunk; `sink` takes the membranes. Args: as `lif_scan`."""
    for step, current in enumerate(currents(drive)):
        membrane.copy_(F.li_step(current, membrane, decay))
        sink.take(step, membrane)


def lis_scan(drive: Drive, membrane: Tensor, decay: Tensor, sink: Sink) -> None:
    """`functional.li_step` over a chunk; `sink` takes the softmax of the membranes. Args: as `lif_scan`."""
    for step, current in enumerate(currents(drive)):
        membrane.copy_(F.li_step(current, membrane, decay))
        sink.take(step, torch.softmax(membrane, dim=-1))


def currents(drive: Drive) -> Tensor:
    """The input added to its trace, if that is still to be done, and weighed: (time, batch, neurons)."""
    xs = spikes(drive.xs) if isinstance(drive.xs, Draws) else drive.xs
    if drive.weight is None:
        return xs
    if drive.trace is not None:
        trace_scan(xs, drive.trace)
    return weigh(xs, drive)


def trace_scan(xs: Tensor, trace: Trace) -> None:
    """`functional.trace_step` over a chunk, (time, batch, inputs); the trace is updated."""
    for x in xs:
        trace.take(x)


def spikes(draws: Draws) -> Tensor:
    """Draw them: 0 and 1, (time, batch, channels)."""
    return counter.draw_below(draws).to(draws.dtype)


def weigh(xs: Tensor, drive: Drive) -> Tensor:
    """Currents of `xs` through the synapse of `drive`: one matrix product over time × batch rows."""
    weight, bias, precision = drive.weight, drive.bias, drive.precision
    assert weight is not None
    if xs.dtype == torch.bool:
        xs = xs.view(torch.uint8)  # the same bytes; on a CPU, from bool it would take eight times as long
    if precision == weight.dtype:
        return linear(xs.to(precision), weight, bias)
    rows, columns = xs.flatten(0, 1).to(precision), weight.to(precision).t()
    # On a GPU the float32 sums of bfloat16 factors can be had as they are.
    as_summed = xs.device.type == "cuda" and precision == torch.bfloat16
    product = torch.mm(rows, columns, torch.float32) if as_summed else torch.mm(rows, columns)
    product = product.to(weight.dtype).view(*xs.shape[:2], -1)
    return product if bias is None else product.add_(bias)
