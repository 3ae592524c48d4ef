"""What runs on a GPU, in Triton: one program for each sample and block of channels, which loops over time.

Membranes, traces and sums stay in registers for the whole chunk.
"""

from __future__ import annotations

import triton
import triton.language as tl

_LIF, _LI, _LIS = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)


@triton.jit
def trace_kernel(xs, trace, decays, steps, batch, channels, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """`reference.trace_scan`, without traces of the trace."""
    row = tl.program_id(0)  # trace × batch + sample
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = at < channels
    decay = tl.load(decays + (row // batch) * channels + at, inside, 0.0)
    kept = tl.load(trace + row.to(tl.int64) * channels + at, inside, 0.0)
    read = (row % batch).to(tl.int64) * channels
    for _ in range(steps):
        kept = decay * kept + tl.load(xs + read + at, inside, 0).to(kept.dtype)
        read += batch * channels
    tl.store(trace + row.to(tl.int64) * channels + at, kept, inside)


@triton.jit
def sensitivity_kernel(  # type: ignore[no-untyped-def]
    xs, trace, decays, sensitivity, sensitivity_decays, steps, batch, channels, traces, BLOCK: tl.constexpr
):
    """Traces of traces. Each program runs through the trace that it follows once more, and leaves it as it was."""
    which, sample = tl.program_id(0) // batch, tl.program_id(0) % batch
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside, followed = at < channels, which % traces
    decay = tl.load(decays + followed * channels + at, inside, 0.0)
    kept = tl.load(trace + (followed * batch + sample).to(tl.int64) * channels + at, inside, 0.0)
    sensitivity_decay = tl.load(sensitivity_decays + which * channels + at, inside, 0.0)
    mine = sensitivity + tl.program_id(0).to(tl.int64) * channels + at
    follower = tl.load(mine, inside, 0.0)
    read = sample.to(tl.int64) * channels
    for _ in range(steps):
        follower = sensitivity_decay * follower + kept
        kept = decay * kept + tl.load(xs + read + at, inside, 0).to(kept.dtype)
        read += batch * channels
    tl.store(mine, follower, inside)


@triton.jit
def _mix32(count, start, key):  # type: ignore[no-untyped-def]
    word = count * 0x9E3779B9 + start
    word ^= word >> 16
    word = word * 0x7FEB352D
    word ^= key
    word ^= word >> 15
    word = word * 0x846CA68B
    return word ^ (word >> 16)


@triton.jit
def spikes_kernel(  # type: ignore[no-untyped-def]
    limits, samples, first, drawn, trace, decays, steps, batch, channels,
    VARYING: tl.constexpr, TRACE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """`reference.spikes`, and their trace."""
    sample = tl.program_id(0)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = at < channels
    channel = at.to(tl.uint32)
    limit = tl.load(limits + sample.to(tl.int64) * channels + at, inside, 0)
    seed, now = tl.load(first).to(tl.uint64), tl.load(first + 1).to(tl.uint64)
    name = tl.load(samples + sample).to(tl.uint64)
    if TRACE:
        decay = tl.load(decays + at, inside, 0.0)
        kept = tl.load(trace + sample.to(tl.int64) * channels + at, inside, 0.0)
    row = sample.to(tl.int64) * channels
    for _ in range(steps):
        if VARYING:
            limit = tl.load(limits + row + at, inside, 0)
        key = now * 0x9E3779B97F4A7C15 + name * 0xD1B54A32D192ED03 + seed
        key = (key ^ (key >> 30)) * 0xBF58476D1CE4E5B9
        key = (key ^ (key >> 27)) * 0x94D049BB133111EB
        key ^= key >> 31
        low, high = key.to(tl.uint32), (key >> 32).to(tl.uint32)
        head = (_mix32(channel // 4, low, high) >> (8 * (channel % 4))) & 0xFF
        tail = _mix32(channel, high, low) >> 16
        fires = ((head << 16) | tail).to(tl.int32) < limit
        spike = tl.where(fires, 1.0, 0.0)
        tl.store(drawn + row + at, spike.to(drawn.dtype.element_ty), inside)
        if TRACE:
            kept = decay * kept + spike.to(kept.dtype)
        row += batch * channels
        now += 1
    if TRACE:
        tl.store(trace + sample.to(tl.int64) * channels + at, kept, inside)


@triton.jit
def scan_kernel(  # type: ignore[no-untyped-def]
    currents, membrane, decays, thresholds, outputs, total, trace, trace_decays, steps, batch, neurons, first,
    KIND: tl.constexpr, OUTPUTS: tl.constexpr, TOTAL: tl.constexpr, TRACE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """`reference.lif_scan`, `li_scan` or `lis_scan`, from currents on."""
    sample = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside, mine = at < neurons, sample * neurons + at
    decay, threshold = tl.load(decays + at, inside, 0.0), tl.load(thresholds + at, inside, 0.0)
    level = tl.load(membrane + mine, inside, 0.0)
    if TOTAL:
        whole = tl.load(total + mine, inside, 0.0)
    if TRACE:
        trace_decay, kept = tl.load(trace_decays + at, inside, 0.0), tl.load(trace + mine, inside, 0.0)
    row = mine
    for step in range(steps):
        level = decay * level + tl.load(currents + row, inside, 0.0)
        if KIND == _LIF:
            output = (level > threshold).to(level.dtype)
            level -= threshold * output
        elif KIND == _LI:
            output = level
        else:
            output = tl.exp(tl.where(inside, level, -float("inf")) - tl.max(tl.where(inside, level, -float("inf")), 0))
            output = output / tl.sum(output, 0)
        if OUTPUTS:
            tl.store(outputs + row, output.to(outputs.dtype.element_ty), inside)
        if TOTAL:
            whole += tl.where(step >= first, output, 0.0).to(whole.dtype)
        if TRACE:
            kept = trace_decay * kept + output
        row += batch * neurons
    tl.store(membrane + mine, level, inside)
    if TOTAL:
        tl.store(total + mine, whole, inside)
    if TRACE:
        tl.store(trace + mine, kept, inside)
