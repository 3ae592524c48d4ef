"""What is unusual in a chunk of spikes, as a list; and what follows from it for traces and currents.

Most channels are silent at most steps, and some, such as the ink of a digit, fire at nearly all. A list names, step by
step, who did what it usually does not: fired, or stayed silent. Traces and currents then start from the usual.
"""

from __future__ import annotations

import numpy as np
from numba import njit, uint64

COLUMNS = 256
"""Neurons whose weights are added up at a time: for 784 inputs they take 800 KB, which a core keeps in its cache."""


@njit(cache=True, nogil=True)
def room(steps, channels):  # type: ignore[no-untyped-def]
    """Arrays for the list of one sample.

    Returns:
        events: channels, one after another. Eight more than all: who may be unusual is written before it is known.
        ends: (time, 2). Where those of a step end that fired though they seldom do; and after them, those that were
            silent though they mostly fire.
        usual: (channels,), 1 for those that mostly fire.
    """
    return np.empty(steps * channels + 8, np.uint32), np.empty((steps, 2), np.uint64), np.zeros(channels, np.uint8)


@njit(cache=True, nogil=True)
def list_events(spikes, sample, events, ends):  # type: ignore[no-untyped-def]
    """Of spikes that are there already, (time, batch, channels): silence is usual for all."""
    at = uint64(0)
    for step in range(spikes.shape[0]):
        for channel in range(spikes.shape[2]):
            events[at] = channel
            at += uint64(spikes[step, sample, channel] != 0)
        ends[step, 0] = ends[step, 1] = at


@njit(cache=True, nogil=True)
def add_events(traces, sample, events, ends, usual):  # type: ignore[no-untyped-def]
    """A chunk of spikes into the traces of one sample, and into theirs: at every step `e ← c·e + t`, `t ← d·t + x`."""
    x, unusual = usual.astype(traces.values.dtype), np.empty(usual.shape[0], traces.values.dtype)
    for which in range(traces.values.shape[0]):
        values, decays = traces.values[which, sample], traces.decays[which]
        at = uint64(0)
        for step in range(ends.shape[0]):
            _follow(traces.values, traces.seconds, traces.second_decays, which, sample)
            for place in range(at, ends[step, 1]):
                channel = events[place]
                unusual[place - at] = decays[channel] * values[channel] + (1 - x[channel])
            for channel in range(values.shape[0]):
                values[channel] = decays[channel] * values[channel] + x[channel]
            for place in range(at, ends[step, 1]):
                values[events[place]] = unusual[place - at]
            at = ends[step, 1]


@njit(cache=True, nogil=True, inline="always")
def _follow(values, seconds, second_decays, which, sample):  # type: ignore[no-untyped-def]
    """The traces of one trace take it as it was before the step."""
    for second in range(which, seconds.shape[0], values.shape[0]):
        for channel in range(values.shape[2]):
            kept = second_decays[second, channel] * seconds[second, sample, channel]
            seconds[second, sample, channel] = kept + values[which, sample, channel]


@njit(cache=True, nogil=True, inline="always")
def add_step(values, decays, seconds, second_decays, sample, xs, step, row):  # type: ignore[no-untyped-def]
    """One step of any input, (time, rows, features), into the traces of one sample; `Traces`, taken apart."""
    for which in range(values.shape[0]):
        _follow(values, seconds, second_decays, which, sample)
        for channel in range(values.shape[2]):
            kept = decays[which, channel] * values[which, sample, channel]
            values[which, sample, channel] = kept + xs[step, row, channel]


@njit(cache=True, nogil=True)
def gather(rows, bias, events, ends, usual, start, currents):  # type: ignore[no-untyped-def]
    """Currents of one sample, (time, 1, neurons), from the rows (inputs, neurons) of who was unusual.

    `start`: room for (1, 1, neurons): the bias, and the rows of those that mostly fire.
    """
    often, count = np.empty(usual.shape[0] + 1, events.dtype), uint64(0)
    for channel in range(usual.shape[0]):
        often[count] = channel
        count += uint64(usual[channel])
    # Unsigned all over, because a signed index might count from the end, and that would cost the vector units.
    neurons = uint64(rows.shape[1])
    for neuron in range(neurons):  # a slice assigned would be compiled with all the texts of its error: 4 s
        start[0, 0, neuron] = bias[neuron]
    _one_by_one(start, uint64(0), rows, 1, often, uint64(0), count, uint64(0), neurons)
    for left in range(uint64(0), neurons, uint64(COLUMNS)):
        right = min(left + uint64(COLUMNS), neurons)
        at = uint64(0)
        for step in range(ends.shape[0]):
            for neuron in range(left, right):
                currents[step, 0, neuron] = start[0, 0, neuron]
            # Eight at a time, because the sum is then loaded and stored an eighth as often.
            while at + uint64(8) <= ends[step, 0]:
                a, b, c, d = events[at], events[at + uint64(1)], events[at + uint64(2)], events[at + uint64(3)]
                e, f, g, h = (
                    events[at + uint64(4)],
                    events[at + uint64(5)],
                    events[at + uint64(6)],
                    events[at + uint64(7)],
                )
                for neuron in range(left, right):
                    first = (rows[a, neuron] + rows[b, neuron]) + (rows[c, neuron] + rows[d, neuron])
                    second = (rows[e, neuron] + rows[f, neuron]) + (rows[g, neuron] + rows[h, neuron])
                    currents[step, 0, neuron] += first + second
                at += uint64(8)
            at = _one_by_one(currents, step, rows, 1, events, at, ends[step, 0], left, right)
            at = _one_by_one(currents, step, rows, -1, events, at, ends[step, 1], left, right)


@njit(cache=True, nogil=True, inline="always")
def _one_by_one(sums, step, rows, sign, events, at, stop, left, right):  # type: ignore[no-untyped-def]
    """Rows onto a sum, or off it, rounded after each of them; but several while the sum is at hand. Returns: `stop`."""
    one = rows.dtype.type(sign)
    while at + uint64(8) <= stop:
        a, b, c, d = events[at], events[at + uint64(1)], events[at + uint64(2)], events[at + uint64(3)]
        e, f, g, h = events[at + uint64(4)], events[at + uint64(5)], events[at + uint64(6)], events[at + uint64(7)]
        for neuron in range(left, right):
            whole = (sums[step, 0, neuron] + one * rows[a, neuron]) + one * rows[b, neuron]
            whole = (whole + one * rows[c, neuron]) + one * rows[d, neuron]
            whole = (whole + one * rows[e, neuron]) + one * rows[f, neuron]
            sums[step, 0, neuron] = (whole + one * rows[g, neuron]) + one * rows[h, neuron]
        at += uint64(8)
    while at + uint64(3) <= stop:
        a, b, c = events[at], events[at + uint64(1)], events[at + uint64(2)]
        for neuron in range(left, right):
            whole = (sums[step, 0, neuron] + one * rows[a, neuron]) + one * rows[b, neuron]
            sums[step, 0, neuron] = whole + one * rows[c, neuron]
        at += uint64(3)
    while at < stop:
        a = events[at]
        for neuron in range(left, right):
            sums[step, 0, neuron] += one * rows[a, neuron]
        at += uint64(1)
    return at
