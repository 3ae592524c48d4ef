"""What neurons do with a chunk of currents, one sample at a time: its membranes, and its outputs into the sink.

Every float operation is rounded by itself and in the order of the reference (no fast-math): the same numbers, to the
bit; but for the softmax, whose exponential differs in the last place.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import int32, njit

from tracetorch.kernels.cpu.arrays import Traces
from tracetorch.kernels.cpu.events import add_step

LIF, LI, LIS = 0, 1, 2
KINDS = {"lif": LIF, "li": LI, "lis": LIS}


class Neurons(NamedTuple):
    """A layer's neurons as the compiled code takes them."""

    kind: int  # LIF, LI or LIS
    membrane: np.ndarray  # (batch, neurons); updated
    decay: np.ndarray  # (neurons,)
    threshold: np.ndarray  # (neurons,); not read but by LIF


class Outlet(NamedTuple):
    """A `Sink` as the compiled code takes it: what is not asked for is empty."""

    outputs: np.ndarray  # (time, batch, neurons)
    total: np.ndarray  # (batch, neurons)
    first: int
    traces: Traces


@njit(cache=True, nogil=True)
def run(neurons, currents, row, sample, output, outlet):  # type: ignore[no-untyped-def]
    """All steps of one sample.

    Args:
        currents: (time, rows, neurons), laid out so; which row is this sample's. The row alone, `currents[:, row]`,
            would be compiled for neurons that might lie apart, and take three times as long.
        output: room for one step.
    Returns: spikes counted.
    """
    membrane, decay, threshold = neurons.membrane[sample], neurons.decay, neurons.threshold
    fired = 0
    for step in range(currents.shape[0]):
        if neurons.kind == LIF:
            fired += _fire(currents[step, row], membrane, decay, threshold, output)
        else:
            _leak(currents[step, row], membrane, decay)
            if neurons.kind == LIS:
                softmax(membrane, output)
            else:
                for neuron in range(membrane.shape[0]):
                    output[neuron] = membrane[neuron]
        _deliver(output, step, sample, outlet)
    return fired


@njit(cache=True, nogil=True, inline="always")
def _fire(current, membrane, decay, threshold, output):  # type: ignore[no-untyped-def]
    for neuron in range(membrane.shape[0]):
        raised = decay[neuron] * membrane[neuron] + current[neuron]
        fires = raised > threshold[neuron]
        output[neuron] = fires
        membrane[neuron] = raised - threshold[neuron] if fires else raised
    spikes = int32(
        0
    )  # on its own, and no wider than the floats: a sum of 64 bits would keep the loop above from its lanes
    for neuron in range(membrane.shape[0]):
        spikes += int32(output[neuron] != 0)
    return spikes


@njit(cache=True, nogil=True, inline="always")
def _leak(current, membrane, decay):  # type: ignore[no-untyped-def]
    for neuron in range(membrane.shape[0]):
        membrane[neuron] = decay[neuron] * membrane[neuron] + current[neuron]


@njit(cache=True, nogil=True)
def softmax(membrane, output):  # type: ignore[no-untyped-def]
    """Softmax of one row of membranes into `output`."""
    highest, whole = membrane[0], membrane[0] - membrane[0]
    for neuron in range(membrane.shape[0]):
        highest = max(highest, membrane[neuron])
    for neuron in range(membrane.shape[0]):
        output[neuron] = np.exp(membrane[neuron] - highest)
        whole += output[neuron]
    for neuron in range(membrane.shape[0]):
        output[neuron] /= whole


@njit(cache=True, nogil=True, inline="always")
def _deliver(output, step, sample, outlet):  # type: ignore[no-untyped-def]
    """What `Sink.take` does, for one sample."""
    if outlet.outputs.shape[0]:
        outputs = outlet.outputs[step, sample]
        for neuron in range(output.shape[0]):
            outputs[neuron] = output[neuron]
    if outlet.total.shape[0] and step >= outlet.first:
        total = outlet.total[sample]
        for neuron in range(output.shape[0]):
            total[neuron] += output[neuron]
    add_step(outlet.traces, sample, output)
