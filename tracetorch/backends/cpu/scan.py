"""A layer over a chunk of time on a CPU, in one pass: input, trace, currents, membranes, outputs; sample by sample.

Where few channels fire, a sample's spikes are drawn (or listed), added to the trace and weighed by the weights of
active channels only; its currents go straight into its neurons, and never leave the cache. Where many do, one matrix
product makes the currents, and the pass begins after it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tracetorch.backends import reference
from tracetorch.backends.arguments import OutputSpec, SynapticInput, TraceBuffers
from tracetorch.backends.cpu import compiled
from tracetorch.backends.cpu.arrays import bits_of, lazy_spikes_of, neurons_of, outputs_of, readout_of, traces_of
from tracetorch.backends.cpu.threads import parallel_for
from tracetorch.backends.dispatch import is_sparse
from tracetorch.backends.rng import LazySpikes


def lif_scan(synaptic: SynapticInput, membrane: Tensor, decay: Tensor, threshold: Tensor, out: OutputSpec) -> None:
    """See `reference.lif_scan`."""
    out.fired = _scan("lif", synaptic, membrane, (decay, threshold), out)


def li_scan(synaptic: SynapticInput, membrane: Tensor, decay: Tensor, out: OutputSpec) -> None:
    """See `reference.li_scan`."""
    _scan("li", synaptic, membrane, (decay,), out)


def lis_scan(synaptic: SynapticInput, membrane: Tensor, decay: Tensor, out: OutputSpec) -> None:
    """See `reference.lis_scan`."""
    _scan("lis", synaptic, membrane, (decay,), out)


def currents(synaptic: SynapticInput) -> Tensor:
    """See `reference.currents`."""
    xs = synaptic.xs
    if synaptic.weight is None:
        return xs  # type: ignore[return-value]
    if isinstance(xs, LazySpikes):
        xs = _generate(xs, synaptic.trace, synaptic.dtype, synaptic.precision)
    elif synaptic.trace is not None:
        trace_scan(xs, synaptic.trace)
    return reference.weigh(xs, synaptic)


def trace_scan(xs: Tensor, trace: TraceBuffers) -> None:
    """See `reference.trace_scan`."""
    parallel_for(compiled.scan_trace, xs.shape[1], xs.numel(), xs.contiguous(), traces_of(trace, trace.values.dtype))


def spikes(lazy: LazySpikes) -> Tensor:
    """See `reference.spikes`."""
    return _generate(lazy, None, torch.float32, lazy.dtype)


def _generate(lazy: LazySpikes, trace: TraceBuffers | None, dtype: torch.dtype, spike_dtype: torch.dtype) -> Tensor:
    """Spikes, (time, batch, channels), which are added to the input trace while each row is at hand."""
    spikes = torch.empty(lazy.size, dtype=spike_dtype)
    values = bits_of(torch.tensor([0, 1], dtype=spike_dtype))
    arguments = lazy_spikes_of(lazy), traces_of(trace, dtype), values, bits_of(spikes)
    parallel_for(compiled.generate_spikes, lazy.size[1], spikes.numel(), *arguments)
    return spikes


def _scan(
    neuron: str, synaptic: SynapticInput, membrane: Tensor, constants: tuple[Tensor, ...], out: OutputSpec
) -> int:
    dtype = synaptic.dtype
    ends = neurons_of(neuron, membrane, constants), outputs_of(out, dtype), readout_of(out.readout, dtype)
    return scan_layer(synaptic, *ends)


def scan_layer(synaptic: SynapticInput, *ends: NamedTuple) -> int:
    """A layer over a chunk. Args: ends: its neurons, their outputs and the readout, as arrays. Returns: spikes."""
    (steps, batch, count), dtype, xs = synaptic.size, synaptic.dtype, synaptic.xs
    drawn = isinstance(xs, LazySpikes)
    if synaptic.weight is None or not is_sparse(_share(synaptic), count, synaptic.precision, drawn=drawn):
        made = currents(synaptic).contiguous()
        return sum(parallel_for(compiled.scan_currents, batch, made.numel(), made, *ends))
    # The weights of one input next to each other: .1 to .2 ms for 784 × 256, once in `net.run`.
    weight, columns = synaptic.weight.detach(), synaptic.columns
    weight = weight.t().contiguous() if columns is None else columns.of(weight)
    rows = (weight if synaptic.precision == dtype else weight.to(synaptic.precision).to(dtype)).numpy()
    bias = np.zeros(count, rows.dtype) if synaptic.bias is None else synaptic.bias.detach().contiguous().numpy()
    rest = (traces_of(synaptic.trace, dtype), rows, bias, *ends)
    work = steps * batch * len(rows)
    if isinstance(xs, LazySpikes):
        return sum(parallel_for(compiled.scan_lazy_spikes, batch, work, lazy_spikes_of(xs), steps, *rest))
    return sum(parallel_for(compiled.scan_spikes, batch, work, xs.contiguous(), *rest))


def _share(synaptic: SynapticInput) -> float:
    """Which share of the input fires; infinite, if it is no spikes."""
    xs = synaptic.xs
    if isinstance(xs, LazySpikes):
        return xs.share
    fired = synaptic.fired
    if fired is None:
        counts = parallel_for(compiled.count_ones, xs.shape[1], xs.numel(), xs.contiguous())
        fired = -1 if min(counts) < 0 else sum(counts)
    return fired / max(1, xs.numel()) if fired >= 0 else math.inf
