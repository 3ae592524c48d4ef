"""Tensors as the compiled code takes them: the same memory, or none where there is nothing."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor

from tracetorch.backends import rng
from tracetorch.backends.arguments import FusedReadout, OutputSpec, TraceBuffers
from tracetorch.backends.cpu.compiled import (
    KINDS,
    LazySpikeArrays,
    NeuronArrays,
    OutputArrays,
    ReadoutArrays,
    TraceArrays,
)
from tracetorch.backends.rng import LazySpikes


def per_neuron(value: Tensor, count: int) -> np.ndarray:
    """A number for each of so many neurons."""
    if value.ndim == 0:
        return np.full(count, value.detach().numpy())
    return value.detach().expand(count).contiguous().numpy()


def neurons_of(neuron: str, membrane: Tensor, constants: tuple[Tensor, ...]) -> NeuronArrays:
    """Args: as `backends.scan`."""
    decay, threshold, count = constants[0], constants[-1], membrane.shape[1]
    return NeuronArrays(KINDS[neuron], membrane.numpy(), per_neuron(decay, count), per_neuron(threshold, count))


def traces_of(trace: TraceBuffers | TraceArrays | None, dtype: torch.dtype) -> TraceArrays:
    """Args: dtype: of the empty arrays, if there is no trace."""
    if isinstance(trace, TraceArrays):
        return trace
    if trace is None:
        return TraceArrays(*nothing(dtype), *nothing(dtype))
    first = _rows(trace.values if trace.values.ndim == 3 else trace.values[None], trace.decay)
    if trace.sensitivity is None or trace.sensitivity_decay is None:
        return TraceArrays(*first, *nothing(dtype))
    return TraceArrays(*first, *_rows(trace.sensitivity, trace.sensitivity_decay))


def _rows(values: Tensor, decay: Tensor) -> tuple[np.ndarray, np.ndarray]:
    if decay.ndim == 0:
        return values.numpy(), np.full((len(values), values.shape[2]), decay.detach().numpy())
    return values.numpy(), decay.detach().expand(len(values), 1, values.shape[2])[:, 0].contiguous().numpy()


@cache
def nothing(dtype: torch.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Where there is none: empty arrays of three dimensions and of two."""
    return torch.empty(0, 0, 0, dtype=dtype).numpy(), torch.empty(0, 0, dtype=dtype).numpy()


def outputs_of(out: OutputSpec, dtype: torch.dtype) -> OutputArrays:
    """Args: dtype: of the outputs, if they are not kept."""
    outputs = nothing(dtype)[0] if out.outputs is None else out.outputs.numpy()
    total = nothing(torch.float64)[1] if out.total is None else out.total.numpy()
    return OutputArrays(outputs, total, out.first, traces_of(out.trace, dtype))


def readout_of(readout: FusedReadout | None, dtype: torch.dtype) -> ReadoutArrays:
    """Args: dtype: of the empty arrays, if there is no readout."""
    if readout is None:
        return _no_readout(dtype)
    neuron, weight, bias, membrane, constants, out = readout
    start = weight.new_zeros(len(weight)) if bias is None else bias
    weights, biases = (tensor.detach().contiguous().numpy() for tensor in (weight, start))
    return ReadoutArrays(weights, biases, neurons_of(neuron, membrane, constants), outputs_of(out, dtype))


@cache
def _no_readout(dtype: torch.dtype) -> ReadoutArrays:
    flat = torch.empty(0, dtype=dtype)
    return readout_of(FusedReadout("li", flat[None, :0].t(), flat, flat[None], (flat,), OutputSpec()), dtype)


def lazy_spikes_of(lazy: LazySpikes) -> LazySpikeArrays:
    """Args: lazy: on the CPU. Raises: ValueError if its steps do not follow one another."""
    if lazy.steps.step != 1:
        raise ValueError(f"draws are made for consecutive steps, got {lazy.steps}")
    limits = lazy.limit.reshape(-1, *lazy.size[1:]).contiguous().numpy()
    samples = lazy.samples.to(torch.int64).contiguous().numpy()
    return LazySpikeArrays(limits, samples, rng.signed(rng.mix_seed(lazy.seed), 64), lazy.steps.start)


def bits_of(tensor: Tensor) -> Tensor:
    """The same memory in a dtype that the compiler knows: bfloat16 and float16 as the whole numbers of their bits."""
    return tensor.view(torch.int16) if tensor.dtype in (torch.bfloat16, torch.float16) else tensor
