"""The kernels for a CPU, compiled by numba and kept in its cache on disk."""

from tracetorch.backends.cpu.scan import currents, scan_neurons, spikes, times_slopes, trace_scan
from tracetorch.backends.cpu.step import CompiledStep, pass_through

__all__ = [
    "CompiledStep",
    "currents",
    "pass_through",
    "scan_neurons",
    "spikes",
    "times_slopes",
    "trace_scan",
]  # fmt: skip
