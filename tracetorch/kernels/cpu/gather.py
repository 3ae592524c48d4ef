"""The sum of the weights of who fired, which touches nobody else's."""

from __future__ import annotations

from numba import njit, uint64

COLUMNS = 256
"""Neurons whose weights are added up at a time: for 784 inputs they take 800 KB, which a core keeps in its cache."""


@njit(cache=True, nogil=True)
def list_events(spikes, sample, events, ends):  # type: ignore[no-untyped-def]
    """The channels of one sample that fired, step after step; `ends` says where those of each step end."""
    at = uint64(0)
    for step in range(spikes.shape[0]):
        for channel in range(spikes.shape[2]):
            events[at] = channel
            at += uint64(spikes[step, sample, channel] != 0)
        ends[step] = at


@njit(cache=True, nogil=True)
def gather(rows, bias, events, ends, currents):  # type: ignore[no-untyped-def]
    """Currents of one sample, (time, neurons): the bias, and the rows (inputs, neurons) of who fired."""
    # Unsigned all over, because a signed index might count from the end, and that would cost the vector units.
    neurons = uint64(rows.shape[1])
    for left in range(uint64(0), neurons, uint64(COLUMNS)):
        right = min(left + uint64(COLUMNS), neurons)
        at = uint64(0)
        for step in range(ends.shape[0]):
            for neuron in range(left, right):
                currents[step, neuron] = bias[neuron]
            # Four at a time, because the sum is then loaded and stored a quarter as often.
            while at + uint64(4) <= ends[step]:
                a, b, c, d = events[at], events[at + uint64(1)], events[at + uint64(2)], events[at + uint64(3)]
                for neuron in range(left, right):
                    pairs = (rows[a, neuron] + rows[b, neuron]) + (rows[c, neuron] + rows[d, neuron])
                    currents[step, neuron] += pairs
                at += uint64(4)
            while at < ends[step]:
                a = events[at]
                for neuron in range(left, right):
                    currents[step, neuron] += rows[a, neuron]
                at += uint64(1)
