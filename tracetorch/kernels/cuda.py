"""The kernels for CUDA, in Triton: one program for each sample and block of channels, which loops over time.

Membranes, traces and sums stay in registers for the whole chunk. Multiplication and addition are not fused into one
rounding, so that the numbers are those of the reference, to the bit; but for the softmax.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from tracetorch.kernels import counter, reference
from tracetorch.kernels.counter import Draws
from tracetorch.kernels.drive import Drive
from tracetorch.kernels.sink import Sink

_BLOCK = 128
_WIDEST_SOFTMAX = 4096
_LIF, _LI, _LIS = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)


def lif_scan(drive: Drive, membrane: Tensor, decay: Tensor, threshold: Tensor, sink: Sink) -> None:
    """See `reference.lif_scan`."""
    _run(0, drive, membrane, decay, threshold, sink)


def li_scan(drive: Drive, membrane: Tensor, decay: Tensor, sink: Sink) -> None:
    """See `reference.li_scan`."""
    _run(1, drive, membrane, decay, decay, sink)


def lis_scan(drive: Drive, membrane: Tensor, decay: Tensor, sink: Sink) -> None:
    """See `reference.lis_scan`, which also does more neurons than one program can hold."""
    if membrane.shape[1] > _WIDEST_SOFTMAX:
        reference.lis_scan(drive, membrane, decay, sink)
    else:
        _run(2, drive, membrane, decay, decay, sink)


def currents(drive: Drive) -> Tensor:
    """See `reference.currents`."""
    xs = drive.xs
    if isinstance(xs, Draws):
        xs = _draw(xs, drive.precision, drive.trace, drive.trace_decay)
    elif drive.trace is not None and drive.trace_decay is not None:
        trace_scan(xs, drive.trace, drive.trace_decay)
    return reference.weigh(xs, drive)


def trace_scan(xs: Tensor, trace: Tensor, decay: Tensor) -> None:
    """See `reference.trace_scan`."""
    (steps, batch, channels), xs = xs.shape, xs.contiguous()
    groups = trace.shape[0] if trace.ndim == 3 else 1
    grid = (groups * batch, triton.cdiv(channels, _BLOCK))
    with _device_of(xs):
        _trace_kernel[grid](
            _bytes(xs), trace, _decays(decay, groups, channels), steps, batch, channels, _BLOCK, enable_fp_fusion=False
        )


def spikes(draws: Draws) -> Tensor:
    """See `reference.spikes`."""
    return _draw(draws, draws.dtype, None, None)


def probe() -> None:
    """Draw one spike, to see whether kernels can be compiled and run here. Raises: whatever speaks against it."""
    device = torch.device("cuda", torch.cuda.current_device())
    limit, samples = (
        torch.zeros(1, 1, dtype=torch.int32, device=device),
        torch.zeros(1, dtype=torch.int64, device=device),
    )
    spikes(Draws(limit, 0, range(1), samples, torch.float32))


def stepper(*_: object) -> None:
    """None: on this device one step is a CUDA graph, see `nn.graph`."""
    return


def _draw(draws: Draws, dtype: torch.dtype, trace: Tensor | None, decay: Tensor | None) -> Tensor:
    if draws.steps.step != 1:
        raise ValueError(f"draws are made for consecutive steps, got {draws.steps}")
    steps, batch, channels = draws.size
    limits = draws.limit.reshape(-1, batch, channels).contiguous()
    samples = draws.samples.to(torch.int64).contiguous()
    drawn = torch.empty(draws.size, dtype=dtype, device=samples.device)
    fused = trace is not None and trace.ndim == 2
    seed = counter.signed(counter.mix_seed(draws.seed), 64)
    first = torch.tensor([seed, draws.steps.start], device=samples.device)
    with _device_of(samples):
        _draw_kernel[(batch, triton.cdiv(channels, _BLOCK))](
            limits, samples, first, _bytes(drawn),
            trace if fused else limits, _decays(decay, 1, channels) if fused else limits,
            steps, batch, channels, len(limits) > 1, fused, _BLOCK, enable_fp_fusion=False,
        )  # fmt: skip
    if trace is not None and decay is not None and not fused:
        trace_scan(drawn, trace, decay)
    return drawn


def _run(kind: int, drive: Drive, membrane: Tensor, decay: Tensor, threshold: Tensor, sink: Sink) -> None:
    made = currents(drive).contiguous()
    steps, batch, neurons = made.shape
    outputs, total, trace = sink.outputs, sink.total, sink.trace
    fused = trace is not None and trace.ndim == 2
    if trace is not None and not fused and outputs is None:
        outputs = torch.empty_like(made)  # several traces take the outputs in a pass of their own
    block = triton.next_power_of_2(neurons) if kind == 2 else _BLOCK
    with _device_of(made):
        _scan_kernel[(batch, triton.cdiv(neurons, block))](
            made, membrane, _decays(decay, 1, neurons), _decays(threshold, 1, neurons),
            made if outputs is None else _bytes(outputs), made if total is None else total,
            trace if fused else made, _decays(sink.trace_decay, 1, neurons) if fused else made,
            steps, batch, neurons, sink.first, kind, outputs is not None, total is not None, fused, block,
            enable_fp_fusion=False,
        )  # fmt: skip
    if trace is not None and sink.trace_decay is not None and not fused and outputs is not None:
        trace_scan(outputs, trace, sink.trace_decay)


def _decays(decay: Tensor | None, groups: int, channels: int) -> Tensor:
    assert decay is not None
    return decay.detach().reshape(-1, 1 if groups > 1 else decay.numel()).expand(groups, channels).contiguous()


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.view(torch.int8) if tensor.dtype == torch.bool else tensor


def _device_of(tensor: Tensor) -> torch.cuda.device:
    return torch.cuda.device(tensor.device if tensor.is_cuda else -1)


@triton.jit
def _trace_kernel(xs, trace, decays, steps, batch, channels, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    row = tl.program_id(0)  # group × batch + sample
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
def _mix32(count, start, key):  # type: ignore[no-untyped-def]
    word = count * 0x9E3779B9 + start
    word ^= word >> 16
    word = word * 0x7FEB352D
    word ^= key
    word ^= word >> 15
    word = word * 0x846CA68B
    return word ^ (word >> 16)


@triton.jit
def _draw_kernel(  # type: ignore[no-untyped-def]
    limits, samples, first, drawn, trace, decays, steps, batch, channels,
    VARYING: tl.constexpr, TRACE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
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
def _scan_kernel(  # type: ignore[no-untyped-def]
    currents, membrane, decays, thresholds, outputs, total, trace, trace_decays, steps, batch, neurons, first,
    KIND: tl.constexpr, OUTPUTS: tl.constexpr, TOTAL: tl.constexpr, TRACE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
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
