"""The scans and the draws for a CPU, compiled by numba: one pass over time, each thread its own part of the batch.

Every function takes and gives what its namesake in `reference` or `counter` does, and gives the same numbers, to the
bit: each float operation is rounded by itself and in the same order (no fast-math).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise

import numpy as np
import torch
from numba import njit, uint32, uint64
from torch import Tensor

from tracetorch.kernels import counter

_SERIAL = 1 << 15
"""With fewer numbers than this to work on, waking a second thread costs more than it saves."""


def lif_scan(currents: Tensor, membrane: Tensor, decay: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
    """See `reference.lif_scan`."""
    spikes, after = torch.empty_like(currents), membrane.clone()
    neurons = membrane.shape[-1]
    _run(_lif, currents, after, decay.expand(neurons), threshold.expand(neurons), spikes)
    return spikes, after


def li_scan(currents: Tensor, membrane: Tensor, decay: Tensor) -> tuple[Tensor, Tensor]:
    """See `reference.li_scan`."""
    membranes, after = torch.empty_like(currents), membrane.clone()
    _run(_li, currents, after, decay.expand(membrane.shape[-1]), membranes)
    return membranes, after


def trace_scan(xs: Tensor, trace: Tensor, decay: Tensor) -> Tensor:
    """See `reference.trace_scan`."""
    after = trace.clone()
    groups = after if after.ndim == 3 else after[None]
    decays = decay.reshape(-1, 1) if after.ndim == 3 else decay[None]
    _run(_trace, xs, groups, decays.expand(len(groups), xs.shape[-1]))
    return after


def draw_below(limit: Tensor, seed: int, steps: range, samples: Tensor) -> Tensor:
    """See `counter.draw_below`."""
    if steps.step != 1:
        raise ValueError(f"draws are made for consecutive steps, got {steps}")
    limits = limit.expand(len(steps), -1, -1)
    below = torch.empty(limits.shape, dtype=torch.bool)
    first = torch.tensor([counter.signed(counter.mix_seed(seed), 64), steps.start])
    _run(_below, below, first, samples.to(torch.int64), limits)
    return below


def _run(kernel: Callable[..., None], leading: Tensor, *others: Tensor) -> None:
    """Call a kernel on arrays: in this thread if there is little to do, else in as many as torch may use.

    Args: leading: the first array, (time, batch, features); each thread takes its own part of the batch.
    """
    batch = leading.shape[1]
    arrays = [tensor.detach().numpy() for tensor in (leading.contiguous(), *others)]
    parts = 1 if leading.numel() < _SERIAL else min(torch.get_num_threads(), batch)
    bounds = [part * batch // parts for part in range(parts + 1)]
    waiting = [_pool(parts - 1).submit(kernel, *ends, *arrays) for ends in pairwise(bounds[1:])]
    kernel(0, bounds[1], *arrays)
    for part in waiting:
        part.result()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="tracetorch")


@njit(cache=True, nogil=True)
def _lif(first, last, currents, membrane, decay, threshold, spikes):  # type: ignore[no-untyped-def]
    for step in range(currents.shape[0]):
        for sample in range(first, last):
            for neuron in range(currents.shape[2]):
                level = decay[neuron] * membrane[sample, neuron] + currents[step, sample, neuron]
                fires = level > threshold[neuron]
                spikes[step, sample, neuron] = fires
                membrane[sample, neuron] = level - threshold[neuron] if fires else level


@njit(cache=True, nogil=True)
def _li(first, last, currents, membrane, decay, membranes):  # type: ignore[no-untyped-def]
    for step in range(currents.shape[0]):
        for sample in range(first, last):
            for neuron in range(currents.shape[2]):
                level = decay[neuron] * membrane[sample, neuron] + currents[step, sample, neuron]
                membrane[sample, neuron] = level
                membranes[step, sample, neuron] = level


@njit(cache=True, nogil=True)
def _trace(first, last, xs, trace, decay):  # type: ignore[no-untyped-def]
    for group in range(trace.shape[0]):
        for sample in range(first, last):
            for step in range(xs.shape[0]):
                for channel in range(xs.shape[2]):
                    kept = decay[group, channel] * trace[group, sample, channel]
                    trace[group, sample, channel] = kept + xs[step, sample, channel]


@njit(cache=True, nogil=True)
def _below(first, last, below, seed_and_start, samples, limits):  # type: ignore[no-untyped-def]
    for step in range(below.shape[0]):
        for sample in range(first, last):
            key = uint64(seed_and_start[1] + step) * uint64(0x9E3779B97F4A7C15)
            key += uint64(samples[sample]) * uint64(0xD1B54A32D192ED03) + uint64(seed_and_start[0])
            key = (key ^ (key >> uint64(30))) * uint64(0xBF58476D1CE4E5B9)
            key = (key ^ (key >> uint64(27))) * uint64(0x94D049BB133111EB)
            key ^= key >> uint64(31)
            low, high = uint32(key), uint32(key >> uint64(32))
            for channel in range(below.shape[2]):
                word = uint32(uint32(channel) * uint32(0x9E3779B9) + low)
                word ^= word >> uint32(16)
                word = uint32(word * uint32(0x7FEB352D)) ^ high
                word ^= word >> uint32(15)
                word = uint32(word * uint32(0x846CA68B))
                word ^= word >> uint32(16)
                below[step, sample, channel] = (np.int32(word) >> 8) < limits[step, sample, channel]
