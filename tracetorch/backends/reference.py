"""The reference in plain torch, on any device and in any dtype: the steps of `functional`, one after another.

Every state is updated in place: it belongs to the caller.

Compiled code states these once more. `compiled` is `cpu/compiled.py`, `triton` is `triton_kernels.py`, and the test
compares each with the definition:

    what                            defined by                        restated in                        test
    LIF, reset by subtraction       `functional.lif_step`             compiled.run, triton.scan_kernel   test_scans
    LI; LIS, with softmax           `functional.li_step`, `lis_scan`  compiled.run, triton.scan_kernel   test_scans
    where outputs go                `OutputSpec.take`                 compiled.run, triton.scan_kernel   test_scans
    currents                        `weigh`                           compiled.gather, step_layer        test_one_step
    currents of a fused readout     `weigh`                           compiled._weigh                test_fused_readout
    traces, and traces of traces    `functional.trace_step`,          compiled.add_events, add_step,     test_scans,
                                    `TraceBuffers`                    run; all kernels of triton         test_kernels
    random numbers                  `rng.numbers`                     compiled.generate_events, below;     test_kernels,
                                                                      triton.spikes_kernel                 test_rng

A LIF step is written out once more in tests/oracle.py, for gradients through time.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import linear

from tracetorch import functional as F
from tracetorch.backends import rng
from tracetorch.backends.arguments import OutputSpec, SynapticInput, TraceBuffers
from tracetorch.backends.rng import LazySpikes


def lif_scan(synaptic: SynapticInput, membrane: Tensor, decay: Tensor, threshold: Tensor, out: OutputSpec) -> None:
    """`functional.lif_step` over a chunk.

    Args:
        synaptic: what the currents come from.
        membrane: (batch, features), before the chunk; after it, on return.
        decay, threshold: a number or (features,).
        out: takes the spikes.
    """
    for step, current in enumerate(currents(synaptic)):
        spikes, after = F.lif_step(current, membrane, decay, threshold)
        membrane.copy_(after)
        out.take(step, spikes)


def li_scan(synaptic: SynapticInput, membrane: Tensor, decay: Tensor, out: OutputSpec) -> None:
    """`functional.li_step` over a chunk; `out` takes the membranes. Args: as `lif_scan`."""
    for step, current in enumerate(currents(synaptic)):
        membrane.copy_(F.li_step(current, membrane, decay))
        out.take(step, membrane)


def lis_scan(synaptic: SynapticInput, membrane: Tensor, decay: Tensor, out: OutputSpec) -> None:
    """`functional.li_step` over a chunk; `out` takes the softmax of the membranes. Args: as `lif_scan`."""
    for step, current in enumerate(currents(synaptic)):
        membrane.copy_(F.li_step(current, membrane, decay))
        out.take(step, torch.softmax(membrane, dim=-1))


def currents(synaptic: SynapticInput) -> Tensor:
    """The input added to its trace, if that is still to be done, and weighed: (time, batch, neurons)."""
    xs = spikes(synaptic.xs) if isinstance(synaptic.xs, LazySpikes) else synaptic.xs
    if synaptic.weight is None:
        return xs
    if synaptic.trace is not None:
        trace_scan(xs, synaptic.trace)
    return weigh(xs, synaptic)


def trace_scan(xs: Tensor, trace: TraceBuffers) -> None:
    """`functional.trace_step` over a chunk, (time, batch, inputs); the trace is updated."""
    for x in xs:
        trace.take(x)


def spikes(lazy: LazySpikes) -> Tensor:
    """Draw them: 0 and 1, (time, batch, channels)."""
    return rng.below_limit(lazy).to(lazy.dtype)


def weigh(xs: Tensor, synaptic: SynapticInput) -> Tensor:
    """Currents of `xs` through the weights of `synaptic`: one matrix product over time × batch rows."""
    weight, bias, precision = synaptic.weight, synaptic.bias, synaptic.precision
    assert weight is not None
    if xs.dtype == torch.bool:
        xs = xs.view(torch.uint8)  # the same bytes; on a CPU, from bool it would take eight times as long
    if precision == weight.dtype:
        return linear(xs.to(precision), weight, bias)
    rows, columns = xs.flatten(0, 1).to(precision), weight.to(precision).t()
    # On a GPU the float32 sums of bfloat16 factors can be had as they are.
    as_summed = xs.device.type == "cuda" and precision == torch.bfloat16
    product = torch.mm(rows, columns, torch.float32) if as_summed else torch.mm(rows, columns)
    product = product.to(weight.dtype).view(*xs.shape[:2], -1)
    return product if bias is None else product.add_(bias)
