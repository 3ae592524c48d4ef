"""The inner loops over time. Everything else calls these three functions and `counter`, and knows no device.

There is one implementation so far, in plain torch, which runs on any device and in any dtype. A faster one for a device
is chosen here, by the device of the tensors, and is tested against `reference`.
"""

from tracetorch.kernels.counter import draw, draw_below
from tracetorch.kernels.reference import li_scan, lif_scan, trace_scan

__all__ = ["draw", "draw_below", "li_scan", "lif_scan", "trace_scan"]
