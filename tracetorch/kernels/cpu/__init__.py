"""The kernels for a CPU, compiled by numba and kept in its cache on disk."""

from __future__ import annotations

from tracetorch.kernels.cpu import waiting
from tracetorch.kernels.cpu.scan import currents, goes_on, li_scan, lif_scan, lis_scan, spikes, trace_scan
from tracetorch.kernels.cpu.step import stepper

__all__ = ["currents", "goes_on", "li_scan", "lif_scan", "lis_scan", "spikes", "stepper", "trace_scan"]

waiting.start()
