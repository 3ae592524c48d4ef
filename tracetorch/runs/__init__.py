"""The run folder: settings, records and results of a run in plain files. Torch is loaded on first use."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
