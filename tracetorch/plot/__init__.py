"""Figures for a paper: functions that draw numbers, records or a network as a `Figure` of matplotlib.

No function opens a window. Each is imported on first use, so that figures without torch do not load torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
