"""Drawing spikes on a CPU: a head for every channel, four to a word; a tail only where the head does not settle it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numba import int32, njit, uint8, uint32, uint64
from torch import Tensor

from tracetorch.kernels import counter
from tracetorch.kernels.counter import BITS, TAIL_BITS, Draws
from tracetorch.kernels.cpu.arrays import Traces, bits_of
from tracetorch.kernels.cpu.events import add_events, room
from tracetorch.kernels.cpu.threads import spread

_COUNTS = np.array([bits.bit_count() for bits in range(256)], np.uint8)
_PLACES = np.array([sorted(range(8), key=lambda place: not bits >> place & 1) for bits in range(256)], np.uint8)
"""For each byte, how many of its bits are set, and their places; then those of the others, which do not count."""

_HIGHEST, _TAIL = np.uint32(255), np.uint32((1 << TAIL_BITS) - 1)


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


def draw_spikes(draws: Draws, traces: Traces, dtype: torch.dtype) -> Tensor:
    """Draw a chunk of spikes, and add them to the input trace while each row is at hand.

    Args:
        draws: what to draw.
        traces: as `arrays.traces_of` gives them.
        dtype: of the spikes.
    Returns: 0 and 1, (time, batch, channels).
    """
    spikes = torch.empty(draws.size, dtype=dtype)
    values = bits_of(torch.tensor([0, 1], dtype=dtype))
    spread(_spikes, draws.size[1], spikes.numel(), source_of(draws), traces, values, bits_of(spikes))
    return spikes


@njit(cache=True, nogil=True)
def _spikes(first, last, source, traces, values, spikes):  # type: ignore[no-untyped-def]
    steps, channels = spikes.shape[0], spikes.shape[2]
    events, ends, usual = room(steps, channels)
    for sample in range(first, last):
        draw_events(source, sample, events, ends, usual)
        add_events(traces, sample, events, ends, usual)
        at = uint64(0)
        for step in range(steps):
            for channel in range(channels):
                spikes[step, sample, channel] = values[usual[channel]]
            for place in range(at, ends[step, 1]):
                spikes[step, sample, events[place]] = values[1 - usual[events[place]]]
            at = ends[step, 1]


@njit(cache=True, nogil=True)
def draw_events(source, sample, events, ends, usual):  # type: ignore[no-untyped-def]
    """What is unusual about one sample, step after step; see `events.room` for what is written."""
    channels = source.limits.shape[2]
    words, masks = np.empty((channels + 3) // 4, np.uint32), np.zeros((channels + 3) // 4, np.uint32)
    heads = words.view(np.uint8)
    bound, rest = np.empty(channels, np.uint8), np.empty(channels, np.uint32)
    live, flags = np.empty(channels + 1, np.uint32), np.zeros((channels + 7) // 8, np.uint64)
    rare, living, at = 0, 0, uint64(0)
    folds = source.limits.shape[0] == 1
    for step in range(ends.shape[0]):
        if step < source.limits.shape[0]:
            rare, living = _split(source.limits[step, sample], folds, bound, rest, live, usual, masks.view(np.uint8))
        low, high = _row_key(source.seed, source.start + step, source.samples[sample])
        _fill(words, masks, low, high)
        if rare == channels:
            to = _candidates_of_all(heads, bound, flags, events, at)
        else:
            to = _candidates(heads, bound, live[:rare], events, at)
        ends[step, 0] = at = _settle(heads, bound, rest, low, high, usual, events, at, to)
        to = _candidates(heads, bound, live[rare:living], events, at)
        ends[step, 1] = at = _settle(heads, bound, rest, low, high, usual, events, at, to)


@njit(cache=True, nogil=True)
def _split(limits, folds, bound, rest, live, usual, masks):  # type: ignore[no-untyped-def]
    """Each limit as a bound for the head and one for the tail; and who can do the unusual at all.

    A channel that fires more often than not is drawn upside down, if it `folds`: all bits of its number turned, and
    what is left of the limit. It is then unusual for it to be silent.
    """
    rare, living = 0, 0
    for channel in range(limits.shape[0]):
        often = folds and limits[channel] > int32(1 << (BITS - 1))
        limit = uint32((1 << BITS) - limits[channel] if often else limits[channel])
        head = min(limit >> uint32(TAIL_BITS), _HIGHEST)
        bound[channel] = uint8(head)
        rest[channel] = limit - (head << uint32(TAIL_BITS))
        usual[channel] = often
        masks[channel] = 255 if often else 0
    for channel in range(limits.shape[0]):
        live[rare] = channel
        rare += (limits[channel] > int32(0)) & (usual[channel] == 0)
    living = rare
    for channel in range(limits.shape[0]):
        live[living] = channel
        living += (limits[channel] < int32(1 << BITS)) & (usual[channel] == 1)
    return rare, living


@njit(cache=True, nogil=True)
def _fill(words, masks, low, high):  # type: ignore[no-untyped-def]
    for group in range(words.shape[0]):
        words[group] = _mix32(uint32(group), low, high) ^ masks[group]


@njit(cache=True, nogil=True)
def _candidates(heads, bound, live, events, at):  # type: ignore[no-untyped-def]
    """Whoever may is written, and stays if its head allows it: no branch for the processor to guess wrong."""
    for place in range(live.shape[0]):
        channel = live[place]
        events[at] = channel
        at += uint64(heads[channel] <= bound[channel])
    return at


@njit(cache=True, nogil=True)
def _candidates_of_all(heads, bound, flags, events, at):  # type: ignore[no-untyped-def]
    """The same where all channels can: eight at a time, a table says where their flags are up."""
    flag = flags.view(np.uint8)
    for channel in range(bound.shape[0]):
        flag[channel] = heads[channel] <= bound[channel]
    for group in range(flags.shape[0]):
        which = (flags[group] * uint64(0x0102040810204080)) >> uint64(56)  # eight bytes, 0 or 1, as eight bits
        for place in range(8):
            events[at + uint64(place)] = uint32(8 * group) + uint32(_PLACES[which, place])
        at += uint64(_COUNTS[which])
    return at


@njit(cache=True, nogil=True)
def _settle(heads, bound, rest, low, high, usual, events, start, stop):  # type: ignore[no-untyped-def]
    """Those whose head equals its bound stay if the tail is below its own."""
    kept = start
    for place in range(start, stop):
        channel = events[place]
        events[kept] = channel
        stays = True
        if heads[channel] == bound[channel]:
            tail = _mix32(channel, high, low) >> uint32(32 - TAIL_BITS)
            stays = (tail ^ (_TAIL if usual[channel] else uint32(0))) < rest[channel]
        kept += uint64(stays)
    return kept


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
