"""The kernels for a CPU, compiled by numba and kept in its cache on disk."""

from __future__ import annotations

from tracetorch.backends.cpu import compile_notice
from tracetorch.backends.cpu.scan import currents, li_scan, lif_scan, lis_scan, spikes, trace_scan
from tracetorch.backends.cpu.step import Stepper, pass_through

__all__ = ["Stepper", "currents", "li_scan", "lif_scan", "lis_scan", "pass_through", "spikes", "trace_scan"]

compile_notice.start()
