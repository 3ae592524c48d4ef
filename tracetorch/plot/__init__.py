"""The figures: each function takes numbers and returns a `Figure` of matplotlib for a paper; nothing is shown.

Each function is imported on first use, so that figures without torch do not load torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
