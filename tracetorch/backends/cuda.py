"""The kernels for CUDA: how those in `triton_kernels` are launched.

Multiplication and addition are not fused into one rounding, so that the numbers are those of the reference, to the bit;
but for the softmax.
"""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from tracetorch.backends import reference, rng
from tracetorch.backends.arguments import OutputSpec, SynapticInput, TraceBuffers
from tracetorch.backends.rng import LazySpikes
from tracetorch.backends.triton_kernels import scan_kernel, sensitivity_kernel, spikes_kernel, trace_kernel

_BLOCK = 128
_WIDEST_SOFTMAX = 4096


def lif_scan(synaptic: SynapticInput, membrane: Tensor, decay: Tensor, threshold: Tensor, out: OutputSpec) -> None:
    """See `reference.lif_scan`."""
    _run(0, synaptic, membrane, decay, threshold, out)


def li_scan(synaptic: SynapticInput, membrane: Tensor, decay: Tensor, out: OutputSpec) -> None:
    """See `reference.li_scan`."""
    _run(1, synaptic, membrane, decay, decay, out)


def lis_scan(synaptic: SynapticInput, membrane: Tensor, decay: Tensor, out: OutputSpec) -> None:
    """See `reference.lis_scan`, which also does more neurons than one program can hold."""
    if membrane.shape[1] > _WIDEST_SOFTMAX:
        reference.lis_scan(synaptic, membrane, decay, out)
    else:
        _run(2, synaptic, membrane, decay, decay, out)


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
    decays, blocks = _per(trace.decay, traces, channels), triton.cdiv(channels, _BLOCK)
    sizes = (steps, batch, channels)
    with _device_of(xs):
        if (
            trace.sensitivity is not None and trace.sensitivity_decay is not None
        ):  # first, because they start where traces do
            count = len(trace.sensitivity)
            sensitivity_kernel[(count * batch, blocks)](
                _bytes(xs), trace.values, decays, trace.sensitivity, _per(trace.sensitivity_decay, count, channels),
                *sizes, traces, _BLOCK, enable_fp_fusion=False,
            )  # fmt: skip
        trace_kernel[(traces * batch, blocks)](_bytes(xs), trace.values, decays, *sizes, _BLOCK, enable_fp_fusion=False)


def spikes(lazy: LazySpikes) -> Tensor:
    """See `reference.spikes`."""
    return _generate(lazy, lazy.dtype, None)


def probe() -> None:
    """Draw one spike, to see whether kernels can be compiled and run here. Raises: whatever speaks against it."""
    device = torch.device("cuda", torch.cuda.current_device())
    limit, samples = (
        torch.zeros(1, 1, dtype=torch.int32, device=device),
        torch.zeros(1, dtype=torch.int64, device=device),
    )
    spikes(LazySpikes(limit, 0, range(1), samples, torch.float32))


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
            *((trace.values, _per(trace.decay, 1, channels)) if trace is not None and fused else (limits, limits)),
            steps, batch, channels, len(limits) > 1, fused, _BLOCK, enable_fp_fusion=False,
        )  # fmt: skip
    if trace is not None and not fused:
        trace_scan(drawn, trace)
    return drawn


def _run(
    kind: int, synaptic: SynapticInput, membrane: Tensor, decay: Tensor, threshold: Tensor, out: OutputSpec
) -> None:
    made = currents(synaptic).contiguous()
    steps, batch, neurons = made.shape
    outputs, total, trace = out.outputs, out.total, out.trace
    fused = _is_plain(trace)
    if trace is not None and not fused and outputs is None:
        outputs = torch.empty_like(made)  # other traces than one alone take the outputs in a pass of their own
    block = triton.next_power_of_2(neurons) if kind == 2 else _BLOCK
    with _device_of(made):
        scan_kernel[(batch, triton.cdiv(neurons, block))](
            made, membrane, _per(decay, 1, neurons), _per(threshold, 1, neurons),
            made if outputs is None else _bytes(outputs), made if total is None else total,
            *((trace.values, _per(trace.decay, 1, neurons)) if trace is not None and fused else (made, made)),
            steps, batch, neurons, out.first, kind, outputs is not None, total is not None, fused, block,
            enable_fp_fusion=False,
        )  # fmt: skip
    if trace is not None and not fused and outputs is not None:
        trace_scan(outputs, trace)


def _is_plain(trace: TraceBuffers | None) -> bool:
    """Whether it is a single trace that nothing follows, which the other kernels keep in passing."""
    return trace is not None and trace.values.ndim == 2 and trace.sensitivity is None


def _per(value: Tensor, rows: int, channels: int) -> Tensor:
    """A number for each channel, of each row."""
    return value.detach().expand(rows, 1, channels)[:, 0].contiguous()


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.view(torch.int8) if tensor.dtype == torch.bool else tensor


def _device_of(tensor: Tensor) -> torch.cuda.device:
    return torch.cuda.device(tensor.device if tensor.is_cuda else -1)
