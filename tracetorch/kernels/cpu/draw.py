"""Drawing spikes on a CPU: a head for every channel, four to a word; a tail only where the head does not settle it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numba import int32, njit, uint8, uint32, uint64
from torch import Tensor

from tracetorch.kernels import counter
from tracetorch.kernels.counter import TAIL_BITS, Draws
from tracetorch.kernels.cpu.arrays import bits_of
from tracetorch.kernels.cpu.threads import spread

_HIGHEST = np.uint32(255)


class Source(NamedTuple):
    """`Draws` as the compiled code takes them."""

    limits: np.ndarray  # (time or 1, batch, channels)
    samples: np.ndarray  # (batch,)
    seed: int
    start: int


def source_of(draws: Draws) -> Source:
    """Args: draws: on the CPU. Raises: ValueError if its steps do not follow one another."""
    if draws.steps.step != 1:
        raise ValueError(f"draws are made for consecutive steps, got {draws.steps}")
    limits = draws.limit.reshape(-1, *draws.size[1:]).contiguous().numpy()
    samples = draws.samples.to(torch.int64).contiguous().numpy()
    return Source(limits, samples, counter.signed(counter.mix_seed(draws.seed), 64), draws.steps.start)


def draw_spikes(draws: Draws, traces: np.ndarray, decays: np.ndarray, dtype: torch.dtype) -> Tensor:
    """Draw a chunk of spikes, and add them to the input trace while each row is at hand.

    Args:
        draws: what to draw.
        traces, decays: as `threads.grouped` gives them; without groups, if there is no trace to keep.
        dtype: of the spikes.
    Returns: 0 and 1, (time, batch, channels).
    """
    spikes = torch.zeros(draws.size, dtype=dtype)
    one = bits_of(torch.ones(1, dtype=dtype))
    spread(_spikes, draws.size[1], spikes.numel(), source_of(draws), traces, decays, one, bits_of(spikes))
    return spikes


@njit(cache=True, nogil=True)
def _spikes(first, last, source, traces, decays, one, spikes):  # type: ignore[no-untyped-def]
    steps, channels = spikes.shape[0], spikes.shape[2]
    events, ends = np.empty(steps * channels + 1, np.uint32), np.empty(steps, np.uint64)
    for sample in range(first, last):
        draw_events(source, sample, events, ends)
        add_events(traces, decays, sample, events, ends)
        at = uint64(0)
        for step in range(steps):
            for place in range(at, ends[step]):
                spikes[step, sample, events[place]] = one[0]
            at = ends[step]


@njit(cache=True, nogil=True)
def draw_events(source, sample, events, ends):  # type: ignore[no-untyped-def]
    """The channels of one sample that fire, step after step; `ends` says where those of each step end."""
    channels = source.limits.shape[2]
    words = np.empty((channels + 3) // 4, np.uint32)
    heads = words.view(np.uint8)
    bound, rest = np.empty(channels, np.uint8), np.empty(channels, np.uint32)
    live = np.empty(channels + 1, np.uint32)
    living, at = 0, uint64(0)
    for step in range(ends.shape[0]):
        if step < source.limits.shape[0]:
            living = _split(source.limits[step, sample], bound, rest, live)
        low, high = _row_key(source.seed, source.start + step, source.samples[sample])
        _fill(words, low, high)
        to = _candidates(heads, bound, live[:living], events, at)
        ends[step] = at = _settle(heads, bound, rest, low, high, events, at, to)


@njit(cache=True, nogil=True)
def _split(limits, bound, rest, live):  # type: ignore[no-untyped-def]
    """Each limit as a bound for the head and one for the tail; and who can fire at all."""
    for channel in range(limits.shape[0]):
        head = min(uint32(limits[channel]) >> uint32(TAIL_BITS), _HIGHEST)
        bound[channel] = uint8(head)
        rest[channel] = uint32(limits[channel]) - (head << uint32(TAIL_BITS))
    living = 0
    for channel in range(limits.shape[0]):
        live[living] = channel
        living += limits[channel] > int32(0)
    return living


@njit(cache=True, nogil=True)
def _fill(words, low, high):  # type: ignore[no-untyped-def]
    for group in range(words.shape[0]):
        words[group] = _mix32(uint32(group), low, high)


@njit(cache=True, nogil=True)
def _candidates(heads, bound, live, events, at):  # type: ignore[no-untyped-def]
    """Whoever may fire is written, and stays if it does: no branch for the processor to guess wrong."""
    for place in range(live.shape[0]):
        channel = live[place]
        events[at] = channel
        at += uint64(heads[channel] <= bound[channel])
    return at


@njit(cache=True, nogil=True)
def _settle(heads, bound, rest, low, high, events, start, stop):  # type: ignore[no-untyped-def]
    """Those whose head equals its bound stay if the tail is below its own."""
    kept = start
    for place in range(start, stop):
        channel = events[place]
        events[kept] = channel
        fires = True
        if heads[channel] == bound[channel]:
            fires = (_mix32(channel, high, low) >> uint32(32 - TAIL_BITS)) < rest[channel]
        kept += uint64(fires)
    return kept


@njit(cache=True, nogil=True)
def add_events(traces, decays, sample, events, ends):  # type: ignore[no-untyped-def]
    """A chunk of spikes into the traces of one sample: at every step `t ← d·t + x`."""
    for group in range(traces.shape[0]):
        at = uint64(0)
        for step in range(ends.shape[0]):
            for channel in range(traces.shape[2]):
                traces[group, sample, channel] *= decays[group, channel]
            for place in range(at, ends[step]):
                traces[group, sample, events[place]] += 1
            at = ends[step]


@njit(cache=True, nogil=True, inline="always")
def _row_key(seed, step, sample):  # type: ignore[no-untyped-def]
    key = uint64(step) * uint64(0x9E3779B97F4A7C15) + uint64(sample) * uint64(0xD1B54A32D192ED03) + uint64(seed)
    key = (key ^ (key >> uint64(30))) * uint64(0xBF58476D1CE4E5B9)
    key = (key ^ (key >> uint64(27))) * uint64(0x94D049BB133111EB)
    key ^= key >> uint64(31)
    return uint32(key), uint32(key >> uint64(32))


@njit(cache=True, nogil=True, inline="always")
def _mix32(count, start, key):  # type: ignore[no-untyped-def]
    word = uint32(count * uint32(0x9E3779B9) + start)
    word ^= word >> uint32(16)
    word = uint32(word * uint32(0x7FEB352D)) ^ key
    word ^= word >> uint32(15)
    word = uint32(word * uint32(0x846CA68B))
    return uint32(word ^ (word >> uint32(16)))
