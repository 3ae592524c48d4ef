"""The reference in plain torch, on any device and in any dtype: the steps of `functional`, one after another.

Every state belongs to the caller and is updated in place.

Compiled code repeats these definitions, in `cpu/compiled.py` and `cuda.py`; tests compare the two:

    what                            defined by                         restated in                        test
    LIF, reset by subtraction       `functional.lif_step`              compiled.run, cuda.scan_kernel     test_scans
    LIF, reset to zero              `functional.lif_zero_step`         compiled.run, cuda.scan_kernel     test_scans
    slopes of spikes                `rules.surrogate`                  compiled._slopes                   test_scans
    LI; LIS, with softmax           `functional.li_step`, `NEURONS`    compiled.run, cuda.scan_kernel     test_scans
    where outputs go                `OutputSpec.take`                  compiled.run, cuda.scan_kernel     test_scans
    membranes before a reset        `rules.stepwise.run_lif_steps`     compiled.run                       test_scans
    slopes of LIF steps, in sums    `rules.coarse.run_lif`             compiled.run                       test_coarse
    input, in sums                  `rules.coarse.Sums.add`            compiled.add_events, add_step, run test_coarse
    currents                        `weigh`                            compiled.gather, step_layer        test_one_step
    currents of a fused readout     `weigh`                            compiled._weigh                    test_scans
    traces, and traces of traces    `functional.trace_step`,           compiled.add_events, add_step,     test_scans,
                                    `TraceBuffers`                     run; all kernels of cuda           test_kernels
    random numbers                  `rng.numbers`                      compiled.generate_events;          test_kernels,
                                                                       cuda.spikes_kernel                 test_rng

tests/oracle.py repeats the LIF step, too, for gradients through time.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import linear

from tracetorch import functional as F
from tracetorch.backends import rng
from tracetorch.backends.arguments import OutputSpec, SynapticInput, TraceBuffers
from tracetorch.backends.rng import LazySpikes


def scan_neurons(
    neuron: str, synaptic: SynapticInput, membrane: Tensor, constants: tuple[Tensor, ...], out: OutputSpec
) -> None:
    """Run a neuron of `NEURONS` over a chunk. Args: see `dispatch.scan`."""
    for step, current in enumerate(currents(synaptic)):
        output, after = NEURONS[neuron](current, membrane, *constants)
        membrane.copy_(after)
        out.take(step, output)


def _li_step(current: Tensor, membrane: Tensor, decay: Tensor) -> tuple[Tensor, Tensor]:
    after = F.li_step(current, membrane, decay)
    return after, after


def _lis_step(current: Tensor, membrane: Tensor, decay: Tensor) -> tuple[Tensor, Tensor]:
    after = F.li_step(current, membrane, decay)
    return torch.softmax(after, dim=-1), after


NEURONS: dict[str, Callable[..., tuple[Tensor, Tensor]]] = {
    "lif": F.lif_step,
    "lif_zero": F.lif_zero_step,
    "li": _li_step,
    "lis": _lis_step,
}
"""The neurons with a kernel: one step of each, from current, membrane and constants to output and membrane."""

SPIKING = ("lif", "lif_zero")
"""Those that spike."""


def currents(synaptic: SynapticInput) -> Tensor:
    """Add the input to its trace, if there is one, and return its currents, (time, batch, neurons)."""
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
    """Draw spikes: 0 and 1, (time, batch, channels)."""
    numbers = rng.numbers(lazy.seed, lazy.steps, lazy.samples, lazy.limit.shape[-1])
    return (numbers < lazy.limit).to(lazy.dtype)


def weigh(xs: Tensor, synaptic: SynapticInput) -> Tensor:
    """Currents of `xs` through the weights of `synaptic`: one matrix product over time × batch rows."""
    weight, bias, precision = synaptic.weight, synaptic.bias, synaptic.precision
    assert weight is not None
    if xs.dtype == torch.bool:
        xs = xs.view(torch.uint8)  # the same bytes; on a CPU, converting bool takes eight times as long
    if precision == weight.dtype:
        return linear(xs.to(precision), weight, bias)
    rows, columns = xs.flatten(0, 1).to(precision), weight.to(precision).t()
    # A GPU can return the float32 sums of bfloat16 products without rounding them.
    as_summed = xs.device.type == "cuda" and precision == torch.bfloat16
    product = torch.mm(rows, columns, torch.float32) if as_summed else torch.mm(rows, columns)
    product = product.to(weight.dtype).view(*xs.shape[:2], -1)
    return product if bias is None else product.add_(bias)
