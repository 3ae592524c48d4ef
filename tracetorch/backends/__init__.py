"""The inner loops over time, and the drawing of spikes, for any device.

`reference` defines them in plain torch. Compiled versions for CPUs (`cpu`) and for CUDA (`cuda`) give the same numbers,
bit for bit where possible. `dispatch` chooses between them.
"""

from tracetorch.backends.arguments import Columns, FusedReadout, OutputSpec, SlopeSums, SynapticInput, TraceBuffers
from tracetorch.backends.dispatch import (
    Form,
    Traits,
    bernoulli,
    compiled_step,
    currents,
    fuses_readout,
    leak_back,
    leak_scan,
    names,
    one_step,
    pass_through,
    scan,
    spike_dtype,
    spikes,
    sums_slopes,
    times_slopes,
    trace_scan,
)  # fmt: skip
from tracetorch.backends.rng import LazySpikes, limit_of, uniform
from tracetorch.renamed import RANDOM, former_globals

__all__ = [
    "Columns",
    "Form",
    "FusedReadout",
    "LazySpikes",
    "OutputSpec",
    "SlopeSums",
    "SynapticInput",
    "TraceBuffers",
    "Traits",
    "bernoulli",
    "compiled_step",
    "currents",
    "fuses_readout",
    "leak_back",
    "leak_scan",
    "limit_of",
    "names",
    "one_step",
    "pass_through",
    "scan",
    "spike_dtype",
    "spikes",
    "sums_slopes",
    "times_slopes",
    "trace_scan",
    "uniform",
]  # fmt: skip

__getattr__ = former_globals(globals(), RANDOM)  # for users' tasks
