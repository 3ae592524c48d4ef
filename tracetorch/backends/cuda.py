"""The kernels for CUDA, in Triton: one program for each sample and block of channels, which loops over time.

Membranes, traces and sums stay in registers for the whole chunk. Multiplication and addition are not fused into one
rounding, so that the numbers equal those of the reference bit for bit; except for the softmax.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from tracetorch.backends import reference, rng
from tracetorch.backends.arguments import OutputSpec, SynapticInput, TraceBuffers
from tracetorch.backends.rng import LazySpikes

_LIF, _LI, _LIF_ZERO = tl.constexpr(0), tl.constexpr(1), tl.constexpr(3)
_KINDS = {"lif": 0, "li": 1, "lis": 2, "lif_zero": 3}
_BLOCK = 128
_WIDEST_SOFTMAX = 4096


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
    """Traces of traces. Each program also computes the trace that it follows, without storing it."""
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
    """`reference.spikes`, which are also added to their trace."""
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
    """`reference.scan_neurons`, with currents as input."""
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
        elif KIND == _LIF_ZERO:
            output = (level > threshold).to(level.dtype)
            level = tl.where(level > threshold, 0.0, level)
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


def currents(synaptic: SynapticInput) -> Tensor:
    """See `reference.currents`."""
    xs = synaptic.xs
    if synaptic.weight is None:
        return xs  # type: ignore[return-value]
    if isinstance(xs, LazySpikes):
        xs = _generate(xs, synaptic.precision, synaptic.trace)
    elif synaptic.trace is not None:
        trace_scan(xs, synaptic.trace)
    return reference.weigh(xs, synaptic)


def trace_scan(xs: Tensor, trace: TraceBuffers) -> None:
    """See `reference.trace_scan`."""
    (steps, batch, channels), xs = xs.shape, xs.contiguous()
    traces = len(trace.values) if trace.values.ndim == 3 else 1
    decays, blocks = _rows(trace.decay, traces, channels), triton.cdiv(channels, _BLOCK)
    sizes = (steps, batch, channels)
    with _device_of(xs):
        # The sensitivities first, because they start from the traces before this chunk.
        if trace.sensitivity is not None and trace.sensitivity_decay is not None:
            count = len(trace.sensitivity)
            sensitivity_kernel[(count * batch, blocks)](
                _bytes(xs), trace.values, decays, trace.sensitivity, _rows(trace.sensitivity_decay, count, channels),
                *sizes, traces, _BLOCK, enable_fp_fusion=False,
            )  # fmt: skip
        trace_kernel[(traces * batch, blocks)](_bytes(xs), trace.values, decays, *sizes, _BLOCK, enable_fp_fusion=False)


def spikes(lazy: LazySpikes) -> Tensor:
    """See `reference.spikes`."""
    return _generate(lazy, lazy.dtype, None)


def probe() -> None:
    """Draw one spike. Raises: any error, if kernels cannot be compiled and run here."""
    device = torch.device("cuda", torch.cuda.current_device())
    limit, samples = torch.zeros(1, 1, dtype=torch.int32), torch.zeros(1, dtype=torch.int64)
    spikes(LazySpikes(limit.to(device), 0, range(1), samples.to(device), torch.float32))


def _generate(lazy: LazySpikes, dtype: torch.dtype, trace: TraceBuffers | None) -> Tensor:
    if lazy.steps.step != 1:
        raise ValueError(f"draws are made for consecutive steps, got {lazy.steps}")
    steps, batch, channels = lazy.size
    limits = lazy.limit.reshape(-1, batch, channels).contiguous()
    samples = lazy.samples.to(torch.int64).contiguous()
    drawn = torch.empty(lazy.size, dtype=dtype, device=samples.device)
    fused = _is_plain(trace)
    seed = rng.signed(rng.mix_seed(lazy.seed), 64)
    first = torch.tensor([seed, lazy.steps.start], device=samples.device)
    with _device_of(samples):
        spikes_kernel[(batch, triton.cdiv(channels, _BLOCK))](
            limits, samples, first, _bytes(drawn),
            *((trace.values, _rows(trace.decay, 1, channels)) if trace is not None and fused else (limits, limits)),
            steps, batch, channels, len(limits) > 1, fused, _BLOCK, enable_fp_fusion=False,
        )  # fmt: skip
    if trace is not None and not fused:
        trace_scan(drawn, trace)
    return drawn


def scan_neurons(
    neuron: str, synaptic: SynapticInput, membrane: Tensor, constants: tuple[Tensor, ...], out: OutputSpec
) -> None:
    """See `reference.scan_neurons`, which runs instead for a softmax of more neurons than one program holds."""
    if neuron == "lis" and membrane.shape[1] > _WIDEST_SOFTMAX:
        reference.scan_neurons(neuron, synaptic, membrane, constants, out)
        return
    kind, decay, threshold = _KINDS[neuron], constants[0], constants[-1]
    values = currents(synaptic).contiguous()
    steps, batch, neurons = values.shape
    outputs, total, trace = out.outputs, out.total, out.trace
    fused = _is_plain(trace)
    if trace is not None and not fused and outputs is None:
        outputs = torch.empty_like(values)  # several traces, or traces of traces, need a separate pass
    block = triton.next_power_of_2(neurons) if kind == 2 else _BLOCK
    with _device_of(values):
        scan_kernel[(batch, triton.cdiv(neurons, block))](
            values, membrane, _rows(decay, 1, neurons), _rows(threshold, 1, neurons),
            values if outputs is None else _bytes(outputs), values if total is None else total,
            *((trace.values, _rows(trace.decay, 1, neurons)) if trace is not None and fused else (values, values)),
            steps, batch, neurons, out.first, kind, outputs is not None, total is not None, fused, block,
            enable_fp_fusion=False,
        )  # fmt: skip
    if trace is not None and not fused and outputs is not None:
        trace_scan(outputs, trace)


def _is_plain(trace: TraceBuffers | None) -> bool:
    """Whether this is a single trace that no other trace follows: the other kernels update it themselves."""
    return trace is not None and trace.values.ndim == 2 and trace.sensitivity is None


def _rows(value: Tensor, rows: int, channels: int) -> Tensor:
    """A constant as a number for each row and channel."""
    return value.detach().expand(rows, 1, channels)[:, 0].contiguous()


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.view(torch.int8) if tensor.dtype == torch.bool else tensor


def _device_of(tensor: Tensor) -> torch.cuda.device:
    return torch.cuda.device(tensor.device if tensor.is_cuda else -1)
