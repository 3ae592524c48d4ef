"""A layer over a chunk of time on a CPU, in one pass: input, trace, currents, membranes, outputs; sample by sample.

Where few channels fire, a sample's spikes are drawn (or listed), added to the trace and weighed by touching only the
weights of who fired; its currents go straight into its neurons, and never leave the cache. Where many do, one dense
matrix product makes the currents, and the pass begins after it.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numba import njit
from torch import Tensor

from tracetorch.kernels import reference
from tracetorch.kernels import sink as sinks
from tracetorch.kernels.counter import Draws
from tracetorch.kernels.cpu.arrays import nothing, per, traces_of
from tracetorch.kernels.cpu.draw import draw_events, draw_spikes, source_of
from tracetorch.kernels.cpu.events import add_events, add_step, gather, list_events, room
from tracetorch.kernels.cpu.neurons import KINDS, LI, LIF, LIS, Neurons, Onward, Outlet, run_through
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
    sink.fired = sum(_scan(drive, LIF, membrane, decay, threshold, sink))


def li_scan(drive: Drive, membrane: Tensor, decay: Tensor, sink: Sink) -> None:
    """See `reference.li_scan`."""
    _scan(drive, LI, membrane, decay, decay, sink)


def lis_scan(drive: Drive, membrane: Tensor, decay: Tensor, sink: Sink) -> None:
    """See `reference.lis_scan`."""
    _scan(drive, LIS, membrane, decay, decay, sink)


def currents(drive: Drive) -> Tensor:
    """See `reference.currents`."""
    xs = drive.xs
    if drive.weight is None:
        return xs  # type: ignore[return-value]
    if isinstance(xs, Draws):
        xs = draw_spikes(xs, traces_of(drive.trace, drive.dtype), drive.precision)
    elif drive.trace is not None:
        trace_scan(xs, drive.trace)
    return reference.weigh(xs, drive)


def goes_on(below: Tensor, above: Tensor) -> bool:
    """See `kernels.goes_on`."""
    return above.shape[0] <= FEW and below.shape[0] >= WIDE


def trace_scan(xs: Tensor, trace: Trace) -> None:
    """See `reference.trace_scan`."""
    spread(_trace, xs.shape[1], xs.numel(), xs.contiguous(), traces_of(trace, trace.values.dtype))


def _scan(drive: Drive, kind: int, membrane: Tensor, decay: Tensor, threshold: Tensor, sink: Sink) -> list[int]:
    size, dtype, xs = drive.size, drive.dtype, drive.xs
    neurons = Neurons(kind, membrane.numpy(), per(decay, size[2]), per(threshold, size[2]))
    ends = (neurons, _outlet(sink, dtype), _onward(sink.onward, dtype))
    narrow = 1.0 if isinstance(xs, Draws) else min(1.0, size[2] / WIDE)
    if drive.weight is None or _share(drive) > DENSE_FROM[drive.precision] * narrow:
        made = currents(drive).contiguous()
        return spread(_from_currents, size[1], made.numel(), made, *ends)
    # The weights of one input next to each other: .1 to .2 ms for 784 × 256, once a chunk.
    weight = drive.weight.detach().t()
    weight = weight.contiguous() if drive.columns is None else drive.columns.copy_(weight)
    rows = (weight if drive.precision == dtype else weight.to(drive.precision).to(dtype)).numpy()
    bias = np.zeros(size[2], rows.dtype) if drive.bias is None else drive.bias.detach().contiguous().numpy()
    rest = (traces_of(drive.trace, dtype), rows, bias, *ends)
    work = size[0] * size[1] * len(rows)
    if isinstance(xs, Draws):
        return spread(_from_draws, size[1], work, source_of(xs), size[0], *rest)
    return spread(_from_spikes, size[1], work, xs.contiguous(), *rest)


def _outlet(sink: Sink, dtype: torch.dtype) -> Outlet:
    outputs = nothing(dtype)[0] if sink.outputs is None else sink.outputs.numpy()
    total = nothing(torch.float64)[1] if sink.total is None else sink.total.numpy()
    return Outlet(outputs, total, sink.first, traces_of(sink.trace, dtype))


def _onward(onward: sinks.Onward | None, dtype: torch.dtype) -> Onward:
    if onward is None:
        flat = torch.empty(0, dtype=dtype)
        onward = sinks.Onward("li", torch.empty(0, 0, dtype=dtype), flat, flat[None], (flat,), Sink())
    neuron, weight, bias, membrane, (decay, *threshold), sink = onward
    constants = per(decay, len(weight)), per(threshold[0] if threshold else decay, len(weight))
    start = weight.new_zeros(len(weight)) if bias is None else bias
    neurons = Neurons(KINDS[neuron], membrane.numpy(), *constants)
    weights = weight.detach().contiguous().numpy()
    return Onward(weights, start.detach().contiguous().numpy(), neurons, _outlet(sink, dtype))


def _share(drive: Drive) -> float:
    """Which share of the input fires; infinite, if it is no spikes."""
    xs = drive.xs
    if isinstance(xs, Draws):
        return xs.share
    fired = drive.fired
    if fired is None:
        counts = spread(_count, xs.shape[1], xs.numel(), xs.contiguous())
        fired = -1 if min(counts) < 0 else sum(counts)
    return fired / max(1, xs.numel()) if fired >= 0 else math.inf


@njit(cache=True, nogil=True)
def _from_draws(first, last, source, steps, traces, rows, bias, neurons, outlet, onward):  # type: ignore[no-untyped-def]
    # One event more than all: who may fire is written before it is known whether it does.
    events, ends, usual = room(steps, rows.shape[0])
    currents, start = np.empty((steps, 1, rows.shape[1]), rows.dtype), np.empty((1, 1, rows.shape[1]), rows.dtype)
    fired = 0
    for sample in range(first, last):
        draw_events(source, sample, events, ends, usual)
        add_events(traces, sample, events, ends, usual)
        gather(rows, bias, events, ends, usual, start, currents)
        fired += run_through(neurons, currents, 0, sample, outlet, onward)
    return fired


@njit(cache=True, nogil=True)
def _from_spikes(first, last, spikes, traces, rows, bias, neurons, outlet, onward):  # type: ignore[no-untyped-def]
    steps = spikes.shape[0]
    events, ends, usual = room(steps, rows.shape[0])
    currents, start = np.empty((steps, 1, rows.shape[1]), rows.dtype), np.empty((1, 1, rows.shape[1]), rows.dtype)
    fired = 0
    for sample in range(first, last):
        list_events(spikes, sample, events, ends)
        add_events(traces, sample, events, ends, usual)
        gather(rows, bias, events, ends, usual, start, currents)
        fired += run_through(neurons, currents, 0, sample, outlet, onward)
    return fired


@njit(cache=True, nogil=True)
def _from_currents(first, last, currents, neurons, outlet, onward):  # type: ignore[no-untyped-def]
    fired = 0
    for sample in range(first, last):
        fired += run_through(neurons, currents, sample, sample, outlet, onward)
    return fired


@njit(cache=True, nogil=True)
def _trace(first, last, xs, traces):  # type: ignore[no-untyped-def]
    values, decays, seconds, second_decays = traces
    for sample in range(first, last):
        for step in range(xs.shape[0]):
            add_step(values, decays, seconds, second_decays, sample, xs, step, sample)


@njit(cache=True, nogil=True)
def _count(first, last, xs):  # type: ignore[no-untyped-def]
    """How many are 1; or −1, if anything is neither 0 nor 1."""
    count = 0
    for step in range(xs.shape[0]):
        for sample in range(first, last):
            odd = 0
            for channel in range(xs.shape[2]):
                x = xs[step, sample, channel]
                count += x == 1
                odd += (x != 0) & (x != 1)
            if odd:
                return -1
    return count
