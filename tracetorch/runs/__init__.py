"""The run folder: plain files that say what was run, how it went and what came of it.

What needs torch loads when it is first used, so that folders can be read without it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
