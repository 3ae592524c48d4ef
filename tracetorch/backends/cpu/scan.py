"""A layer over a chunk of time on a CPU, in one pass: input, trace, currents, membranes, outputs; sample by sample.

Where few channels fire, a sample's spikes are drawn (or listed) and added to the trace, and only the weights of active
channels are added up; the currents go straight into the neurons, and never leave the cache. Where many channels fire,
one matrix product computes the currents before the pass.
"""

import math
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from tracetorch.backends import reference, rng
from tracetorch.backends.arguments import FusedReadout, OutputSpec, SlopeSums, SynapticInput, TraceBuffers
from tracetorch.backends.cpu import compiled
from tracetorch.backends.cpu.compiled import (
    KINDS,
    LazySpikeArrays,
    NeuronArrays,
    OutputArrays,
    ReadoutArrays,
    SlopeArrays,
    TraceArrays,
)
from tracetorch.backends.cpu.threads import parallel_for
from tracetorch.backends.dispatch import is_sparse
from tracetorch.backends.rng import LazySpikes


def per_neuron(value: Tensor, count: int) -> np.ndarray:
    """A constant as one number for each neuron, contiguous, as the kernels index it."""
    if value.ndim == 0:
        return np.full(count, value.detach().numpy())
    return value.detach().expand(count).contiguous().numpy()


def neurons_of(neuron: str, membrane: Tensor, constants: tuple[Tensor, ...]) -> NeuronArrays:
    """Kind, membrane and constants of a layer as NumPy views; the kernel updates the membrane in place."""
    decay, threshold, count = constants[0], constants[-1], membrane.shape[1]
    return NeuronArrays(KINDS[neuron], membrane.numpy(), per_neuron(decay, count), per_neuron(threshold, count))


def traces_of(trace: TraceBuffers | TraceArrays | None, dtype: torch.dtype) -> TraceArrays:
    """Trace, sensitivities and sums as NumPy views, (traces, batch, inputs); zero-size arrays without a trace."""
    if isinstance(trace, TraceArrays):
        return trace
    if trace is None:
        return _no_trace(dtype)
    first = _rows(trace.values if trace.values.ndim == 3 else trace.values[None], trace.decay)
    second, sums, stretch = empty_arrays(dtype), empty_arrays(dtype)[0], _NO_STRETCH
    if trace.sensitivity is not None and trace.sensitivity_decay is not None:
        second = _rows(trace.sensitivity, trace.sensitivity_decay)
    if trace.sums is not None and trace.stretch is not None:
        sums, stretch = trace.sums.numpy(), trace.stretch.numpy()
    return TraceArrays(*first, *second, sums, stretch)


@cache
def _no_trace(dtype: torch.dtype) -> TraceArrays:
    return TraceArrays(*empty_arrays(dtype), *empty_arrays(dtype), empty_arrays(dtype)[0], _NO_STRETCH)


_NO_STRETCH = np.empty(0, np.int64)


def _rows(values: Tensor, decay: Tensor) -> tuple[np.ndarray, np.ndarray]:
    if decay.ndim == 0:
        return values.numpy(), np.full((len(values), values.shape[2]), decay.detach().numpy())
    return values.numpy(), decay.detach().expand(len(values), 1, values.shape[2])[:, 0].contiguous().numpy()


@cache
def empty_arrays(dtype: torch.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Empty arrays of three dimensions and of two."""
    return torch.empty(0, 0, 0, dtype=dtype).numpy(), torch.empty(0, 0, dtype=dtype).numpy()


def outputs_of(out: OutputSpec, dtype: torch.dtype) -> OutputArrays:
    """The buffers for the outputs as NumPy views; zero-size arrays for unused ones."""
    outputs = empty_arrays(dtype)[0] if out.outputs is None else out.outputs.numpy()
    total = empty_arrays(torch.float64)[1] if out.total is None else out.total.numpy()
    return OutputArrays(outputs, total, out.first, traces_of(out.trace, dtype), slopes_of(out.slopes, dtype))


def slopes_of(slopes: SlopeSums | None, dtype: torch.dtype) -> SlopeArrays:
    """Sums over stretches as NumPy views; zero-size arrays without them."""
    if slopes is None:
        return no_slopes(dtype)
    kind, width, height = surrogate_of(slopes.surrogate, slopes.sums)
    stretch = _NO_STRETCH if slopes.stretch is None else slopes.stretch.numpy()
    return SlopeArrays(kind, width, height, stretch, slopes.sums.numpy())


@cache
def no_slopes(dtype: torch.dtype) -> SlopeArrays:
    """Empty arrays in place of sums."""
    sums = torch.empty(0, 0, 0, 0, dtype=dtype).numpy()
    return SlopeArrays(0, sums.dtype.type(0), sums.dtype.type(0), _NO_STRETCH, sums)


def readout_of(readout: FusedReadout | None, dtype: torch.dtype) -> ReadoutArrays:
    """A fused readout as NumPy views; zero-size arrays without one."""
    if readout is None:
        return _no_readout(dtype)
    neuron, weight, bias, membrane, constants, out = readout
    bias = weight.new_zeros(len(weight)) if bias is None else bias
    weights, biases = (tensor.detach().contiguous().numpy() for tensor in (weight, bias))
    return ReadoutArrays(weights, biases, neurons_of(neuron, membrane, constants), outputs_of(out, dtype))


@cache
def _no_readout(dtype: torch.dtype) -> ReadoutArrays:
    flat = torch.empty(0, dtype=dtype)
    return readout_of(FusedReadout("li", flat[None, :0].t(), flat, flat[None], (flat,), OutputSpec()), dtype)


def lazy_spikes_of(lazy: LazySpikes) -> LazySpikeArrays:
    """Limits, samples and seed of spikes that the kernel draws itself."""
    if lazy.steps.step != 1:
        raise ValueError(f"draws are made for consecutive steps, got {lazy.steps}")
    limits = (lazy.limit if lazy.limit.ndim == 3 else lazy.limit[None]).contiguous().numpy()
    samples = lazy.samples.to(torch.int64).contiguous().numpy()
    return LazySpikeArrays(limits, samples, rng.signed(rng.mix_seed(lazy.seed), 64), lazy.steps.start)


def bits_of(tensor: Tensor) -> Tensor:
    """The same memory in a dtype that numba has: bfloat16 and float16 as the integers of their bits."""
    return tensor.view(torch.int16) if tensor.dtype in (torch.bfloat16, torch.float16) else tensor


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
    """Spikes, (time, batch, channels), added to the input trace in the same pass."""
    spikes = torch.empty(lazy.size, dtype=spike_dtype)
    values = bits_of(torch.tensor([0, 1], dtype=spike_dtype))
    arguments = lazy_spikes_of(lazy), traces_of(trace, dtype), values, bits_of(spikes)
    parallel_for(compiled.generate_spikes, lazy.size[1], spikes.numel(), *arguments)
    return spikes


def scan_neurons(
    neuron: str, synaptic: SynapticInput, membrane: Tensor, constants: tuple[Tensor, ...], out: OutputSpec
) -> None:
    """See `reference.scan_neurons`. It also counts the spikes."""
    dtype = synaptic.dtype
    arrays = neurons_of(neuron, membrane, constants), outputs_of(out, dtype), readout_of(out.readout, dtype)
    fired = scan_layer(synaptic, *arrays)
    out.fired = fired if neuron in reference.SPIKING else None


def times_slopes(
    values: Tensor, raised: Tensor, threshold: Tensor, surrogate: Any, leak: Tensor, after: Tensor
) -> None:
    """See `dispatch.times_slopes`."""
    neurons = raised.shape[2]
    arguments = raised, per_neuron(threshold, neurons), *surrogate_of(surrogate, raised), per_neuron(leak, neurons)
    parallel_for(compiled.times_slopes, raised.shape[1], raised.numel(), *arguments, after, values)


def surrogate_of(surrogate: Any, like: Tensor) -> tuple[int, Any, Any]:
    """Kind, width and height of a compiled derivative, or of none. Args: like: of the dtype of the slopes."""
    number = like.numpy().dtype.type
    if surrogate is None:
        return compiled.NO_SURROGATE, number(1), number(1)
    name, width, height = surrogate.compiled
    return compiled.SURROGATES[name], number(width), number(height)


def scan_layer(synaptic: SynapticInput, *arrays: NamedTuple) -> int:
    """Run a layer over a chunk. Args: arrays: its neurons, outputs and readout. Returns: number of spikes."""
    (steps, batch, count), dtype, xs = synaptic.size, synaptic.dtype, synaptic.xs
    is_lazy = isinstance(xs, LazySpikes)
    if synaptic.weight is None or not is_sparse(_active_share(synaptic), count, synaptic.precision, drawn=is_lazy):
        values = currents(synaptic).contiguous()
        return sum(parallel_for(compiled.scan_currents, batch, values.numel(), values, *arrays))
    # Transposed, so that the weights of one input are adjacent: .1 to .2 ms for 784 × 256, once in `net.run`.
    weight, columns = synaptic.weight.detach(), synaptic.columns
    weight = weight.t().contiguous() if columns is None else columns.of(weight)
    rows = (weight if synaptic.precision == dtype else weight.to(synaptic.precision).to(dtype)).numpy()
    bias = np.zeros(count, rows.dtype) if synaptic.bias is None else synaptic.bias.detach().contiguous().numpy()
    rest = (traces_of(synaptic.trace, dtype), rows, bias, *arrays)
    work = steps * batch * len(rows)
    if isinstance(xs, LazySpikes):
        return sum(parallel_for(compiled.scan_lazy_spikes, batch, work, lazy_spikes_of(xs), steps, *rest))
    return sum(parallel_for(compiled.scan_spikes, batch, work, xs.contiguous(), *rest))


def _active_share(synaptic: SynapticInput) -> float:
    """The share of active inputs; infinite for input other than spikes."""
    xs = synaptic.xs
    if isinstance(xs, LazySpikes):
        return xs.share
    fired = synaptic.fired
    if fired is None:
        counts = parallel_for(compiled.count_ones, xs.shape[1], xs.numel(), xs.contiguous())
        fired = -1 if min(counts) < 0 else sum(counts)
    return fired / max(1, xs.numel()) if fired >= 0 else math.inf
