"""A layer over a chunk of time on a CPU, in one pass: input, trace, currents, membranes, outputs; sample by sample.

Where few channels fire, a sample's spikes are drawn (or listed), added to the trace and weighed by touching only the
weights of who fired; its currents go straight into its neurons, and never leave the cache. Where many do, one dense
matrix product makes the currents, and the pass begins after it.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from tracetorch.kernels import reference
from tracetorch.kernels.counter import Draws
from tracetorch.kernels.cpu import compiled
from tracetorch.kernels.cpu.arrays import bits_of, draws_of, neurons_of, outputs_of, readout_of, traces_of
from tracetorch.kernels.cpu.threads import spread
from tracetorch.kernels.drive import Drive
from tracetorch.kernels.sink import Sink
from tracetorch.kernels.trace import Trace

DENSE_FROM = {torch.float32: 0.27, torch.float64: 0.27, torch.bfloat16: 0.12}
"""From which share of active inputs on a dense product is faster than adding up the weights of who fired, by the dtype
of the product; measured by benchmarks/sparsity.py."""

WIDE = 192
"""With fewer neurons than this it is sooner: to list who fired costs the same, however few weights are then added up.
Not so for spikes that are yet to be drawn: drawing lists them anyway."""

FEW = 32
"""At most so many neurons are driven within the scan of the layer below, if that has `WIDE` or more. Between two scans
its spikes would go as floats from the cache of one core to that of the other, which takes longer than the readout."""


def lif_scan(drive: Drive, membrane: Tensor, decay: Tensor, threshold: Tensor, sink: Sink) -> None:
    """See `reference.lif_scan`."""
    sink.fired = sum(_scan("lif", drive, membrane, (decay, threshold), sink))


def li_scan(drive: Drive, membrane: Tensor, decay: Tensor, sink: Sink) -> None:
    """See `reference.li_scan`."""
    _scan("li", drive, membrane, (decay,), sink)


def lis_scan(drive: Drive, membrane: Tensor, decay: Tensor, sink: Sink) -> None:
    """See `reference.lis_scan`."""
    _scan("lis", drive, membrane, (decay,), sink)


def currents(drive: Drive) -> Tensor:
    """See `reference.currents`."""
    xs = drive.xs
    if drive.weight is None:
        return xs  # type: ignore[return-value]
    if isinstance(xs, Draws):
        xs = _draw(xs, drive.trace, drive.dtype, drive.precision)
    elif drive.trace is not None:
        trace_scan(xs, drive.trace)
    return reference.weigh(xs, drive)


def goes_on(below: Tensor, above: Tensor) -> bool:
    """See `kernels.goes_on`."""
    return above.shape[0] <= FEW and below.shape[0] >= WIDE


def trace_scan(xs: Tensor, trace: Trace) -> None:
    """See `reference.trace_scan`."""
    spread(compiled.scan_trace, xs.shape[1], xs.numel(), xs.contiguous(), traces_of(trace, trace.values.dtype))


def spikes(draws: Draws) -> Tensor:
    """See `reference.spikes`."""
    return _draw(draws, None, torch.float32, draws.dtype)


def _draw(draws: Draws, trace: Trace | None, dtype: torch.dtype, spike_dtype: torch.dtype) -> Tensor:
    """Spikes, (time, batch, channels), which are added to the input trace while each row is at hand."""
    spikes = torch.empty(draws.size, dtype=spike_dtype)
    values = bits_of(torch.tensor([0, 1], dtype=spike_dtype))
    arguments = draws_of(draws), traces_of(trace, dtype), values, bits_of(spikes)
    spread(compiled.draw_spikes, draws.size[1], spikes.numel(), *arguments)
    return spikes


def _scan(neuron: str, drive: Drive, membrane: Tensor, constants: tuple[Tensor, ...], sink: Sink) -> list[int]:
    (steps, batch, count), dtype, xs = drive.size, drive.dtype, drive.xs
    ends = (neurons_of(neuron, membrane, constants), outputs_of(sink, dtype), readout_of(sink.onward, dtype))
    narrow = 1.0 if isinstance(xs, Draws) else min(1.0, count / WIDE)
    if drive.weight is None or _share(drive) > DENSE_FROM[drive.precision] * narrow:
        made = currents(drive).contiguous()
        return spread(compiled.scan_currents, batch, made.numel(), made, *ends)
    # The weights of one input next to each other: .1 to .2 ms for 784 × 256, once a chunk.
    weight = drive.weight.detach().t()
    weight = weight.contiguous() if drive.columns is None else drive.columns.copy_(weight)
    rows = (weight if drive.precision == dtype else weight.to(drive.precision).to(dtype)).numpy()
    bias = np.zeros(count, rows.dtype) if drive.bias is None else drive.bias.detach().contiguous().numpy()
    rest = (traces_of(drive.trace, dtype), rows, bias, *ends)
    work = steps * batch * len(rows)
    if isinstance(xs, Draws):
        return spread(compiled.scan_draws, batch, work, draws_of(xs), steps, *rest)
    return spread(compiled.scan_spikes, batch, work, xs.contiguous(), *rest)


def _share(drive: Drive) -> float:
    """Which share of the input fires; infinite, if it is no spikes."""
    xs = drive.xs
    if isinstance(xs, Draws):
        return xs.share
    fired = drive.fired
    if fired is None:
        counts = spread(compiled.count_ones, xs.shape[1], xs.numel(), xs.contiguous())
        fired = -1 if min(counts) < 0 else sum(counts)
    return fired / max(1, xs.numel()) if fired >= 0 else math.inf
