"""Training: the loop, its steps, and what they keep of a run while it lasts.

What needs torch loads when it is first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
