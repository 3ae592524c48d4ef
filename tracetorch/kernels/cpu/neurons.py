"""What neurons do with a chunk of currents, one sample at a time: its membranes, and its outputs into the sink.

Every float operation is rounded by itself and in the order of the reference (no fast-math): the same numbers, to the
bit; but for the softmax, whose exponential differs in the last place, and for sums over the outputs of the layer below.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import int32, njit

from tracetorch.kernels.cpu.arrays import Traces

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


class Onward(NamedTuple):
    """A `sink.Onward` as the compiled code takes it; `weights` without a row, if there is none."""

    weights: np.ndarray  # (neurons above, neurons)
    bias: np.ndarray  # (neurons above,)
    neurons: Neurons
    outlet: Outlet


@njit(cache=True, nogil=True)
def run_through(neurons, currents, row, sample, outlet, onward):  # type: ignore[no-untyped-def]
    """`run` one sample; and the layer above if it goes on there, on outputs that never leave the cache."""
    if onward.weights.shape[0] == 0:
        return run(neurons, currents, row, sample, outlet, sample)
    steps, weights, bias = currents.shape[0], onward.weights, onward.bias
    kept = np.empty((steps, 1, weights.shape[1]), bias.dtype)
    above = np.empty((steps, 1, weights.shape[0]), bias.dtype)
    fired = run(neurons, currents, row, sample, Outlet(kept, outlet.total, outlet.first, outlet.traces), 0)
    _weigh(kept, weights, bias, above)
    run(onward.neurons, above, 0, sample, onward.outlet, sample)
    return fired


@njit(cache=True, nogil=True, fastmath={"reassoc"})
def _weigh(kept, weights, bias, above):  # type: ignore[no-untyped-def]
    """A product whose sums are in no order in particular, as in any other: so that the compiler makes lanes of them."""
    for step in range(kept.shape[0]):
        for neuron in range(weights.shape[0]):
            whole = bias[neuron]
            for channel in range(weights.shape[1]):
                whole += weights[neuron, channel] * kept[step, 0, channel]
            above[step, 0, neuron] = whole


@njit(cache=True, nogil=True)
def run(neurons, currents, row, sample, outlet, place):  # type: ignore[no-untyped-def]
    """All steps of one sample.

    It is one function, which takes its arrays out of their tuples once and names rows by their numbers: whatever looks
    up, cuts out or hands on an array counts it as in use, and in the loop over time that took longer than the neurons.

    Args:
        currents: (time, rows, neurons), laid out so; which row is this sample's.
        place: where in the outlet's `outputs` this sample is.
    Returns: spikes counted.
    """
    kind, membrane, decay, threshold = neurons
    outputs, total, first, (traces, trace_decays, seconds, second_decays) = outlet
    count, fired = membrane.shape[1], 0
    output = np.empty(count, currents.dtype)
    for step in range(currents.shape[0]):
        if kind == LIF:
            for neuron in range(count):
                raised = decay[neuron] * membrane[sample, neuron] + currents[step, row, neuron]
                fires = raised > threshold[neuron]
                output[neuron] = fires
                membrane[sample, neuron] = raised - threshold[neuron] if fires else raised
            spikes = int32(0)  # on its own, and no wider than the floats: else the loop above would lose its lanes
            for neuron in range(count):
                spikes += int32(output[neuron] != 0)
            fired += spikes
        else:
            for neuron in range(count):
                membrane[sample, neuron] = decay[neuron] * membrane[sample, neuron] + currents[step, row, neuron]
                output[neuron] = membrane[sample, neuron]
            if kind == LIS:
                _softmax(output)
        # What `Sink.take` does.
        if outputs.shape[0]:
            for neuron in range(count):
                outputs[step, place, neuron] = output[neuron]
        if total.shape[0] and step >= first:
            for neuron in range(count):
                total[sample, neuron] += output[neuron]
        for which in range(traces.shape[0]):
            for second in range(which, seconds.shape[0], traces.shape[0]):
                for neuron in range(count):
                    kept = second_decays[second, neuron] * seconds[second, sample, neuron]
                    seconds[second, sample, neuron] = kept + traces[which, sample, neuron]
            for neuron in range(count):
                kept = trace_decays[which, neuron] * traces[which, sample, neuron]
                traces[which, sample, neuron] = kept + output[neuron]
    return fired


@njit(cache=True, nogil=True)
def _softmax(output):  # type: ignore[no-untyped-def]
    """Softmax of membranes, (neurons,), in their place."""
    highest, whole = output[0], output[0] - output[0]
    for neuron in range(output.shape[0]):
        highest = max(highest, output[neuron])
    for neuron in range(output.shape[0]):
        output[neuron] = np.exp(output[neuron] - highest)
        whole += output[neuron]
    for neuron in range(output.shape[0]):
        output[neuron] /= whole
