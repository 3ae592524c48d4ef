"""All compiled code of the CPU: numba's functions, and the types of their arguments.

It is one file because numba compiles a function again only when its own file changes. So a compiled function calls
functions, and reads constants and types, of this file only.

Every float operation is rounded separately (no fast-math), and those of neurons and traces have the order of the
reference, so their results are equal bit for bit. Different in the last places are the softmax, whose exponential is
another one, and currents, which are sums in another order.
"""

from typing import NamedTuple

import numpy as np
from numba import int32, uint8, uint32, uint64

from tracetorch.backends.cpu.cache import compiled

LIF, LI, LIS, LIF_ZERO = 0, 1, 2, 3
KINDS = {"lif": LIF, "li": LI, "lis": LIS, "lif_zero": LIF_ZERO}
FAST_SIGMOID, ARCTAN, TRIANGLE, NO_SURROGATE = 0, 1, 2, 3
SURROGATES = {"fast_sigmoid": FAST_SIGMOID, "arctan": ARCTAN, "triangle": TRIANGLE}

COLUMNS = 256
"""Neurons whose weights are added up at a time: for 784 inputs they take 800 KB, which fits a core's cache."""

BITS, TAIL_BITS = 24, 16
"""As in `rng`."""

# ── arguments ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class TraceArrays(NamedTuple):
    """A `TraceBuffers`, in the same memory; empty without one."""

    values: np.ndarray  # (traces, batch, features)
    decays: np.ndarray  # (traces, features)
    sensitivities: np.ndarray  # (sensitivities, batch, features)
    sensitivity_decays: np.ndarray  # (sensitivities, features)
    sums: np.ndarray  # (stretches, batch, features)
    stretch: np.ndarray  # (time,)


class LazySpikeArrays(NamedTuple):
    """A `LazySpikes`."""

    limits: np.ndarray  # (time or 1, batch, channels)
    samples: np.ndarray  # (batch,)
    seed: int
    start: int


class NeuronArrays(NamedTuple):
    """A layer's neurons."""

    kind: int  # a value of `KINDS`
    membrane: np.ndarray  # (batch, neurons); updated
    decay: np.ndarray  # (neurons,)
    threshold: np.ndarray  # (neurons,); only read by LIF and LIF_ZERO


class SlopeArrays(NamedTuple):
    """A `SlopeSums`, with the surrogate's numbers in the dtype of the slopes; empty without one."""

    kind: int  # FAST_SIGMOID, ARCTAN, TRIANGLE or NO_SURROGATE
    width: float
    height: float
    stretch: np.ndarray  # (time,), or empty
    sums: np.ndarray  # (stretches, batch, quantities, neurons)


class OutputArrays(NamedTuple):
    """An `OutputSpec`; unused arrays are empty."""

    outputs: np.ndarray  # (time, batch, neurons)
    total: np.ndarray  # (batch, neurons)
    first: int
    traces: TraceArrays
    slopes: SlopeArrays


class ReadoutArrays(NamedTuple):
    """A `FusedReadout`; without one, `weights` has no rows."""

    weights: np.ndarray  # (neurons above, neurons)
    bias: np.ndarray  # (neurons above,)
    neurons: NeuronArrays
    out: OutputArrays


# ── kernels: each processes samples first … last − 1, or all ──────────────────────────────────────────────────────────


@compiled
def scan_lazy_spikes(first, last, source, steps, traces, rows, bias, neurons, out, readout):
    """Draw spikes, add them to the traces, weigh them, run the neurons. Returns: spikes counted."""
    events, ends, usual = event_buffers(steps, rows.shape[0])
    currents, start = np.empty((steps, 1, rows.shape[1]), rows.dtype), np.empty((1, 1, rows.shape[1]), rows.dtype)
    fired = 0
    for sample in range(first, last):
        generate_events(source, sample, events, ends, usual)
        add_events(traces, sample, events, ends, usual)
        gather(rows, bias, events, ends, usual, start, currents)
        fired += run_through(neurons, currents, 0, sample, out, readout)
    return fired


@compiled
def scan_spikes(first, last, spikes, traces, rows, bias, neurons, out, readout):
    """As `scan_lazy_spikes`, for spikes already drawn, (time, batch, inputs)."""
    steps = spikes.shape[0]
    events, ends, usual = event_buffers(steps, rows.shape[0])
    currents, start = np.empty((steps, 1, rows.shape[1]), rows.dtype), np.empty((1, 1, rows.shape[1]), rows.dtype)
    fired = 0
    for sample in range(first, last):
        list_events(spikes, sample, events, ends)
        add_events(traces, sample, events, ends, usual)
        gather(rows, bias, events, ends, usual, start, currents)
        fired += run_through(neurons, currents, 0, sample, out, readout)
    return fired


@compiled
def scan_currents(first, last, currents, neurons, out, readout):
    """Run the neurons on currents, (time, batch, neurons). Returns: spikes counted."""
    if readout.weights.shape[0] == 0:
        return run(neurons, currents, first, first, last, out, first)
    fired = 0
    for sample in range(first, last):
        fired += run_through(neurons, currents, sample, sample, out, readout)
    return fired


@compiled(error_model="numpy")
def times_slopes(first, last, raised, threshold, surrogate, width, height, leak, after, values):
    """Multiply by the slopes of spikes, and leak back; see `dispatch.times_slopes`.

    Args: raised, values: (time, batch, neurons). leak: (neurons,). after: (batch, neurons).
    """
    slope = np.empty(threshold.shape[0], values.dtype)
    for sample in range(first, last):
        later = after[sample]
        for step in range(raised.shape[0] - 1, -1, -1):
            _slopes(surrogate, width, height, raised[step, sample], threshold, slope)
            own = values[step, sample]
            for neuron in range(threshold.shape[0]):
                own[neuron] = own[neuron] * slope[neuron] / threshold[neuron] + leak[neuron] * later[neuron]
            later = own


@compiled
def step_layer(xs, rows, bias, kind, membrane, decay, threshold, traces, steps, outputs, current):
    """One step of a layer for all samples; input (1, batch, inputs)."""
    neurons, nothing = NeuronArrays(kind, membrane, decay, threshold), np.empty((0, 0, 0, 0), rows.dtype)
    no_rows, no_stretch, zero = nothing[0:0, 0], np.empty(0, np.int64), rows.dtype.type(0)
    no_trace = TraceArrays(no_rows, no_rows[0:0, 0], no_rows, no_rows[0:0, 0], no_rows, no_stretch)
    out = OutputArrays(outputs, no_rows[0:0, 0], 0, no_trace, SlopeArrays(0, zero, zero, no_stretch, nothing))
    for sample in range(xs.shape[1]):
        for neuron in range(rows.shape[1]):
            current[0, 0, neuron] = bias[neuron]
        for channel in range(xs.shape[2]):
            value = xs[0, sample, channel]
            if value != 0:
                for neuron in range(rows.shape[1]):
                    current[0, 0, neuron] += value * rows[channel, neuron]
        add_step(traces, sample, xs, 0, sample)
        run(neurons, current, 0, sample, sample + 1, out, sample)
        steps[sample, 0] += 1


@compiled
def scan_trace(first, last, xs, traces):
    """Add input, (time, batch, inputs), to its traces."""
    for sample in range(first, last):
        for step in range(xs.shape[0]):
            add_step(traces, sample, xs, step, sample)


@compiled
def generate_spikes(first, last, source, traces, values, spikes):
    """Draw spikes into `spikes`, (time, batch, channels), and add them to their traces."""
    steps, channels = spikes.shape[0], spikes.shape[2]
    events, ends, usual = event_buffers(steps, channels)
    for sample in range(first, last):
        generate_events(source, sample, events, ends, usual)
        add_events(traces, sample, events, ends, usual)
        at = uint64(0)
        for step in range(steps):
            for channel in range(channels):
                spikes[step, sample, channel] = values[usual[channel]]
            for index in range(at, ends[step, 1]):
                spikes[step, sample, events[index]] = values[1 - usual[events[index]]]
            at = ends[step, 1]


@compiled
def count_ones(first, last, xs):
    """The number of ones; −1 if any value is neither 0 nor 1."""
    count = 0
    for step in range(xs.shape[0]):
        for sample in range(first, last):
            others = 0
            for channel in range(xs.shape[2]):
                x = xs[step, sample, channel]
                count += x == 1
                others += (x != 0) & (x != 1)
            if others:
                return -1
    return count


# ── neurons, driven by currents ───────────────────────────────────────────────────────────────────────────────────────


@compiled
def run_through(neurons, currents, row, sample, out, readout):
    """`run` one sample, and the layer above if its product is fused, on outputs that never leave the cache."""
    if readout.weights.shape[0] == 0:
        return run(neurons, currents, row, sample, sample + 1, out, sample)
    steps, weights, bias = currents.shape[0], readout.weights, readout.bias
    outputs = np.empty((steps, 1, weights.shape[1]), bias.dtype)
    above = np.empty((steps, 1, weights.shape[0]), bias.dtype)
    through = OutputArrays(outputs, out.total, out.first, out.traces, out.slopes)
    fired = run(neurons, currents, row, sample, sample + 1, through, 0)
    for step in range(out.outputs.shape[0]):
        for neuron in range(weights.shape[1]):
            out.outputs[step, sample, neuron] = outputs[step, 0, neuron]
    _weigh(outputs, weights, bias, above)
    run(readout.neurons, above, 0, sample, sample + 1, readout.out, sample)
    return fired


@compiled(fastmath={"reassoc"})
def _weigh(outputs, weights, bias, above):
    """A product whose sums may be reordered, so that the compiler vectorises them."""
    for step in range(outputs.shape[0]):
        for neuron in range(weights.shape[0]):
            current = bias[neuron]
            for channel in range(weights.shape[1]):
                current += weights[neuron, channel] * outputs[step, 0, channel]
            above[step, 0, neuron] = current


@compiled(error_model="numpy")  # otherwise each division is checked for 0, and its loop is not vectorised
def run(neurons, currents, first_row, first_sample, last_sample, out, first_output_row):
    """All steps of some samples, one sample after another. Returns: spikes counted.

    The arrays are unpacked once, and rows are indexed by number: numba counts a reference for each array that is looked
    up, sliced or passed on, which in the loop over time took longer than the neurons.

    Args: currents: (time, rows, neurons). first_row, first_output_row: row of the first sample in currents and outputs.
    """
    kind, membrane, decay, threshold = neurons
    outputs, total, first, (traces, trace_decays, sensitivities, sensitivity_decays, sums, stretch), slopes = out
    surrogate, width, height, slope_stretch, slope_sums = slopes
    count, fired, quantities = membrane.shape[1], 0, slope_sums.shape[2]
    buffers = np.empty((7, count), currents.dtype)
    output, raised, slope, made = buffers[0], buffers[1], buffers[2], buffers[2:]  # the quantities; the last is m
    for sample in range(first_sample, last_sample):
        row, output_row = first_row + sample - first_sample, first_output_row + sample - first_sample
        for step in range(currents.shape[0]):
            if quantities:
                for neuron in range(count):
                    made[4, neuron] = membrane[sample, neuron]
            if kind in (LIF, LIF_ZERO):
                for neuron in range(count):
                    raised[neuron] = decay[neuron] * membrane[sample, neuron] + currents[step, row, neuron]
                    fires = raised[neuron] > threshold[neuron]
                    output[neuron] = fires
                    left = raised[neuron] - threshold[neuron] if kind == LIF else np.float32(0)
                    membrane[sample, neuron] = left if fires else raised[neuron]
                spikes = int32(0)  # a separate loop with 32-bit sums: otherwise the loop above is not vectorised
                for neuron in range(count):
                    spikes += int32(output[neuron] != 0)
                fired += spikes
            else:
                for neuron in range(count):
                    membrane[sample, neuron] = decay[neuron] * membrane[sample, neuron] + currents[step, row, neuron]
                    output[neuron] = membrane[sample, neuron]
                if kind == LIS:
                    _softmax(output)
            if quantities:  # as `SlopeSums`; few loops, because each takes long to compile
                into = uint64(slope_stretch[step] if slope_stretch.shape[0] else step)
                if kind == LIF:
                    _slopes(surrogate, width, height, raised, threshold, slope)
                    if quantities > 1:
                        for neuron in range(count):
                            made[1, neuron] = slope[neuron] * raised[neuron]
                            made[2, neuron] = output[neuron]
                            made[3, neuron] = slope[neuron] * made[4, neuron]
                for which in range(quantities):
                    made_row = uint64(which if kind == LIF else 4)
                    if slope_stretch.shape[0] == 0:
                        for neuron in range(count):
                            slope_sums[into, sample, which, neuron] = made[made_row, neuron]
                    else:
                        for neuron in range(count):
                            slope_sums[into, sample, which, neuron] += made[made_row, neuron]
            # As `OutputSpec.take`.
            if outputs.shape[0]:
                for neuron in range(count):
                    outputs[step, output_row, neuron] = output[neuron]
            if total.shape[0] and step >= first:
                for neuron in range(count):
                    total[sample, neuron] += output[neuron]
            for which in range(traces.shape[0]):
                for at in range(which, sensitivities.shape[0], traces.shape[0]):
                    for neuron in range(count):
                        decayed = sensitivity_decays[at, neuron] * sensitivities[at, sample, neuron]
                        sensitivities[at, sample, neuron] = decayed + traces[which, sample, neuron]
                for neuron in range(count):
                    decayed = trace_decays[which, neuron] * traces[which, sample, neuron]
                    traces[which, sample, neuron] = decayed + output[neuron]
            if sums.shape[0]:
                into = uint64(stretch[step])
                for neuron in range(count):
                    sums[into, sample, neuron] += output[neuron]
    return fired


@compiled(inline="always")
def _slopes(kind, width, height, raised, threshold, slope):
    """The derivative of each spike with respect to (u − θ)/θ, or u itself. Args: raised: u, before the reset."""
    one = height / height
    if kind == NO_SURROGATE:
        for neuron in range(slope.shape[0]):
            slope[neuron] = raised[neuron]
    elif kind == TRIANGLE:
        for neuron in range(slope.shape[0]):
            distance = width * abs(raised[neuron] / threshold[neuron] - one)
            slope[neuron] = height * (one - distance if distance < one else one - one)
    else:
        linear = one + one if kind == FAST_SIGMOID else one - one
        for neuron in range(slope.shape[0]):
            distance = width * abs(raised[neuron] / threshold[neuron] - one)
            slope[neuron] = height / (one + distance * (linear + distance))


@compiled
def _softmax(output):
    """Softmax of membranes, (neurons,), in the same memory."""
    highest, whole = output[0], output[0] - output[0]
    for neuron in range(output.shape[0]):
        highest = max(highest, output[neuron])
    for neuron in range(output.shape[0]):
        output[neuron] = np.exp(output[neuron] - highest)
        whole += output[neuron]
    for neuron in range(output.shape[0]):
        output[neuron] /= whole


# ── spikes of one sample as a list, for traces and currents ───────────────────────────────────────────────────────────
#
# Most channels are silent at most steps, and some, for example the ink of a digit, fire at nearly all. A list contains,
# for each step, the channels that are not in their usual state. Traces and currents start from the usual states.


@compiled
def event_buffers(steps, channels):
    """Arrays for the list of one sample.

    Returns:
        events: channels, step after step; with eight more entries, because a candidate is written before it is decided.
        ends: (time, 2): for each step, the end of the usually silent channels that fired, and the end of the usually
            firing channels that were silent.
        usual: (channels,), 1 for channels that usually fire.
    """
    return np.empty(steps * channels + 8, np.uint32), np.empty((steps, 2), np.uint64), np.zeros(channels, np.uint8)


@compiled
def list_events(spikes, sample, events, ends):
    """List spikes already drawn, (time, batch, channels); silence is the usual state of all channels."""
    at = uint64(0)
    for step in range(spikes.shape[0]):
        for channel in range(spikes.shape[2]):
            events[at] = channel
            at += uint64(spikes[step, sample, channel] != 0)
        ends[step, 0] = ends[step, 1] = at


@compiled
def add_events(traces, sample, events, ends, usual):
    """Update sums and traces of one sample, and what follows the traces: each step `e ← c·e + t`, `t ← d·t + x`."""
    x, unusual = usual.astype(traces.values.dtype), np.empty(usual.shape[0], traces.values.dtype)
    for which in range(traces.values.shape[0]):
        values, decays = traces.values[which, sample], traces.decays[which]
        at = uint64(0)
        for step in range(ends.shape[0]):
            _follow(traces.values, traces.sensitivities, traces.sensitivity_decays, which, sample)
            for index in range(at, ends[step, 1]):
                channel = events[index]
                unusual[index - at] = decays[channel] * values[channel] + (1 - x[channel])
            for channel in range(values.shape[0]):
                values[channel] = decays[channel] * values[channel] + x[channel]
            for index in range(at, ends[step, 1]):
                values[events[index]] = unusual[index - at]
            at = ends[step, 1]
    if traces.sums.shape[0]:
        at = uint64(0)
        for step in range(ends.shape[0]):
            sums = traces.sums[traces.stretch[step], sample]
            for channel in range(sums.shape[0]):
                sums[channel] += x[channel]
            for index in range(at, ends[step, 1]):
                sums[events[index]] += 1 - 2 * x[events[index]]
            at = ends[step, 1]


@compiled(inline="always")
def _follow(values, sensitivities, sensitivity_decays, which, sample):
    """One step of the traces that follow one trace."""
    for at in range(which, sensitivities.shape[0], values.shape[0]):
        for channel in range(values.shape[2]):
            decayed = sensitivity_decays[at, channel] * sensitivities[at, sample, channel]
            sensitivities[at, sample, channel] = decayed + values[which, sample, channel]


@compiled(inline="always")
def add_step(traces, sample, xs, step, row):
    """Add one step of any input, (time, rows, features), to the traces and sums of one sample."""
    values, decays, sensitivities, sensitivity_decays, sums, stretch = traces
    for which in range(values.shape[0]):
        _follow(values, sensitivities, sensitivity_decays, which, sample)
        for channel in range(values.shape[2]):
            decayed = decays[which, channel] * values[which, sample, channel]
            values[which, sample, channel] = decayed + xs[step, row, channel]
    if sums.shape[0]:
        at = uint64(stretch[step])
        for channel in range(sums.shape[2]):
            sums[at, sample, channel] += xs[step, row, channel]


@compiled
def gather(rows, bias, events, ends, usual, start, currents):
    """Currents of one sample, (time, 1, neurons), from the rows (inputs, neurons) of the listed channels.

    Args: start: buffer, (1, 1, neurons), for the bias plus the rows of channels that usually fire.
    """
    firing, count = np.empty(usual.shape[0] + 1, events.dtype), uint64(0)
    for channel in range(usual.shape[0]):
        firing[count] = channel
        count += uint64(usual[channel])
    # Unsigned, because a signed index might count from the end, and loops would not be vectorised.
    neurons = uint64(rows.shape[1])
    for neuron in range(neurons):  # assigning a slice would take 4 s to compile
        start[0, 0, neuron] = bias[neuron]
    _one_by_one(start, uint64(0), rows, 1, firing, uint64(0), count, uint64(0), neurons)
    for left in range(uint64(0), neurons, uint64(COLUMNS)):
        right = min(left + uint64(COLUMNS), neurons)
        at = uint64(0)
        for step in range(ends.shape[0]):
            for neuron in range(left, right):
                currents[step, 0, neuron] = start[0, 0, neuron]
            # Eight at a time, because the sum is then loaded and stored an eighth as often.
            while at + uint64(8) <= ends[step, 0]:
                a, b, c, d = events[at], events[at + uint64(1)], events[at + uint64(2)], events[at + uint64(3)]
                e, f = events[at + uint64(4)], events[at + uint64(5)]
                g, h = events[at + uint64(6)], events[at + uint64(7)]
                for neuron in range(left, right):
                    first = (rows[a, neuron] + rows[b, neuron]) + (rows[c, neuron] + rows[d, neuron])
                    second = (rows[e, neuron] + rows[f, neuron]) + (rows[g, neuron] + rows[h, neuron])
                    currents[step, 0, neuron] += first + second
                at += uint64(8)
            at = _one_by_one(currents, step, rows, 1, events, at, ends[step, 0], left, right)
            at = _one_by_one(currents, step, rows, -1, events, at, ends[step, 1], left, right)


@compiled(inline="always")
def _one_by_one(sums, step, rows, sign, events, at, stop, left, right):
    """Add rows to a sum, or subtract them, rounding after each; several for each load of it. Returns: `stop`."""
    factor = rows.dtype.type(sign)
    while at + uint64(8) <= stop:
        a, b, c, d = events[at], events[at + uint64(1)], events[at + uint64(2)], events[at + uint64(3)]
        e, f, g, h = events[at + uint64(4)], events[at + uint64(5)], events[at + uint64(6)], events[at + uint64(7)]
        for neuron in range(left, right):
            whole = (sums[step, 0, neuron] + factor * rows[a, neuron]) + factor * rows[b, neuron]
            whole = (whole + factor * rows[c, neuron]) + factor * rows[d, neuron]
            whole = (whole + factor * rows[e, neuron]) + factor * rows[f, neuron]
            sums[step, 0, neuron] = (whole + factor * rows[g, neuron]) + factor * rows[h, neuron]
        at += uint64(8)
    while at + uint64(3) <= stop:
        a, b, c = events[at], events[at + uint64(1)], events[at + uint64(2)]
        for neuron in range(left, right):
            whole = (sums[step, 0, neuron] + factor * rows[a, neuron]) + factor * rows[b, neuron]
            sums[step, 0, neuron] = whole + factor * rows[c, neuron]
        at += uint64(3)
    while at < stop:
        a = events[at]
        for neuron in range(left, right):
            sums[step, 0, neuron] += factor * rows[a, neuron]
        at += uint64(1)
    return at


# ── draws: a head for each channel, four to a word; a tail only where the head does not decide ────────────────────────

_BIT_COUNTS = np.array([bits.bit_count() for bits in range(256)], np.uint8)
_POSITIONS = np.array([sorted(range(8), key=lambda bit: not bits >> bit & 1) for bits in range(256)], np.uint8)
"""For each byte, the number of its set bits; and the positions of the set bits, then those of the others."""

_LARGEST_HEAD, _TAIL_MASK = np.uint32(255), np.uint32((1 << TAIL_BITS) - 1)


@compiled
def generate_events(source, sample, events, ends, usual):
    """Draw the spikes of one sample as a list, step after step; see `event_buffers`."""
    channels = source.limits.shape[2]
    words, masks = np.empty((channels + 3) // 4, np.uint32), np.zeros((channels + 3) // 4, np.uint32)
    heads = words.view(np.uint8)
    head_bound, tail_bound = np.empty(channels, np.uint8), np.empty(channels, np.uint32)
    live, flags = np.empty(channels + 1, np.uint32), np.zeros((channels + 7) // 8, np.uint64)
    num_silent, num_live, at = 0, 0, uint64(0)
    can_invert = source.limits.shape[0] == 1
    for step in range(ends.shape[0]):
        if step < source.limits.shape[0]:
            num_silent, num_live = _split(
                source.limits[step, sample], can_invert, head_bound, tail_bound, live, usual, masks.view(np.uint8)
            )
        low, high = _row_key(source.seed, source.start + step, source.samples[sample])
        _fill(words, masks, low, high)
        if num_silent == channels:
            stop = _candidates_of_all(heads, head_bound, flags, events, at)
        else:
            stop = _candidates(heads, head_bound, live[:num_silent], events, at)
        ends[step, 0] = at = _decide_by_tails(heads, head_bound, tail_bound, low, high, usual, events, at, stop)
        stop = _candidates(heads, head_bound, live[num_silent:num_live], events, at)
        ends[step, 1] = at = _decide_by_tails(heads, head_bound, tail_bound, low, high, usual, events, at, stop)


@compiled
def _split(limits, can_invert, head_bound, tail_bound, live, usual, masks):
    """Split each limit into bounds for head and tail, and list the channels that can leave their usual state in `live`.

    With `can_invert`, a channel that usually fires is drawn with all bits of its number flipped, and limit 2²⁴ − limit.

    Returns: the number of usually silent channels, which come first in `live`, and the number of all in `live`.
    """
    num_silent, num_live = 0, 0
    for channel in range(limits.shape[0]):
        is_frequent = can_invert and limits[channel] > int32(1 << (BITS - 1))
        limit = uint32((1 << BITS) - limits[channel] if is_frequent else limits[channel])
        head = min(limit >> uint32(TAIL_BITS), _LARGEST_HEAD)
        head_bound[channel] = uint8(head)
        tail_bound[channel] = limit - (head << uint32(TAIL_BITS))
        usual[channel] = is_frequent
        masks[channel] = 255 if is_frequent else 0
    for channel in range(limits.shape[0]):
        live[num_silent] = channel
        num_silent += (limits[channel] > int32(0)) & (usual[channel] == 0)
    num_live = num_silent
    for channel in range(limits.shape[0]):
        live[num_live] = channel
        num_live += (limits[channel] < int32(1 << BITS)) & (usual[channel] == 1)
    return num_silent, num_live


@compiled
def _fill(words, masks, low, high):
    for group in range(words.shape[0]):
        words[group] = _mix32(uint32(group), low, high) ^ masks[group]


@compiled
def _candidates(heads, head_bound, live, events, at):
    """Write every candidate, and keep it if its head allows: no branch that the processor could mispredict."""
    for index in range(live.shape[0]):
        channel = live[index]
        events[at] = channel
        at += uint64(heads[channel] <= head_bound[channel])
    return at


@compiled
def _candidates_of_all(heads, head_bound, flags, events, at):
    """`_candidates` of all channels: eight at a time, by a table of the positions of set bits."""
    flag = flags.view(np.uint8)
    for channel in range(head_bound.shape[0]):
        flag[channel] = heads[channel] <= head_bound[channel]
    for group in range(flags.shape[0]):
        bits = (flags[group] * uint64(0x0102040810204080)) >> uint64(56)  # eight bytes, 0 or 1, as eight bits
        for index in range(8):
            events[at + uint64(index)] = uint32(8 * group) + uint32(_POSITIONS[bits, index])
        at += uint64(_BIT_COUNTS[bits])
    return at


@compiled
def _decide_by_tails(heads, head_bound, tail_bound, low, high, usual, events, start, stop):
    """Keep a candidate whose head equals its bound only if its tail is below the bound of the tail."""
    end = start
    for index in range(start, stop):
        channel = events[index]
        events[end] = channel
        stays = True
        if heads[channel] == head_bound[channel]:
            tail = _mix32(channel, high, low) >> uint32(32 - TAIL_BITS)
            stays = (tail ^ (_TAIL_MASK if usual[channel] else uint32(0))) < tail_bound[channel]
        end += uint64(stays)
    return end


@compiled(inline="always")
def _row_key(seed, step, sample):
    key = uint64(step) * uint64(0x9E3779B97F4A7C15) + uint64(sample) * uint64(0xD1B54A32D192ED03) + uint64(seed)
    key = (key ^ (key >> uint64(30))) * uint64(0xBF58476D1CE4E5B9)
    key = (key ^ (key >> uint64(27))) * uint64(0x94D049BB133111EB)
    key ^= key >> uint64(31)
    return uint32(key), uint32(key >> uint64(32))


@compiled(inline="always")
def _mix32(count, start, key):
    word = uint32(count * uint32(0x9E3779B9) + start)
    word ^= word >> uint32(16)
    word = uint32(word * uint32(0x7FEB352D)) ^ key
    word ^= word >> uint32(15)
    word = uint32(word * uint32(0x846CA68B))
    return uint32(word ^ (word >> uint32(16)))
