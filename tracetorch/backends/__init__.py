"""The inner loops over time, and the draws. Everything else calls these functions, and knows no device.

`reference` defines them in plain torch, for any device and dtype. Compiled versions for CPUs (`cpu`) and for CUDA
(`cuda`) give the same numbers, to the bit where they can. `dispatch` chooses.
"""

from tracetorch.backends.arguments import Columns, FusedReadout, OutputSpec, SynapticInput, Trace
from tracetorch.backends.dispatch import (
    Form,
    Traits,
    currents,
    draw_below,
    fuses_readout,
    names,
    one_step,
    pass_through,
    scan,
    spike_dtype,
    spikes,
    stepper,
    trace_scan,
)
from tracetorch.backends.rng import LazySpikes, draw, limit_of

__all__ = [
    "Columns", "Form", "FusedReadout", "LazySpikes", "OutputSpec", "SynapticInput", "Trace", "Traits", "currents",
    "draw", "draw_below", "fuses_readout", "limit_of", "names", "one_step", "pass_through", "scan", "spike_dtype",
    "spikes", "stepper", "trace_scan",
]  # fmt: skip
