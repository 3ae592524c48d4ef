"""The kernels for a CPU, compiled by numba and kept in its cache on disk."""

from tracetorch.backends.cpu.scan import currents, lif_slopes, scan_neurons, spikes, trace_scan
from tracetorch.backends.cpu.step import CompiledStep, pass_through

__all__ = [
    "CompiledStep",
    "currents",
    "lif_slopes",
    "pass_through",
    "scan_neurons",
    "spikes",
    "trace_scan",
]  # fmt: skip
