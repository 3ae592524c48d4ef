"""Compiled code that is kept on disk must be that of the sources, and of all of them.

numba uses what it kept for a function as long as the file of that function is the same. The functions that it calls in
turn lie in other files here; without this, a change in one of those would never reach a kernel compiled before. And its
list of what it kept names the types of arguments: one that is gone from the sources would end every call.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba.core.dispatcher import Dispatcher

_FOLDER = Path(__file__).parent
_SOURCES = [*sorted(_FOLDER.glob("*.py")), _FOLDER.parent / "counter.py"]


def stamp() -> None:
    """Let every compiled function of this package depend on every file of it. To be called before any has run."""
    everything = hashlib.sha256(b"".join(source.read_bytes() for source in _SOURCES)).hexdigest()
    modules = [module for name, module in sys.modules.items() if name.startswith(f"{__package__}.")]
    for module in modules:
        for value in vars(module).values():
            if isinstance(value, Dispatcher):
                # No public name leads there; tests/test_numba_cache.py fails if a new numba calls it otherwise.
                file: Any = getattr(getattr(value, "_cache", None), "_cache_file", None)
                if file is not None:
                    file._source_stamp = everything
                    file._load_index = _or_nothing(file._load_index)


def _or_nothing(load: Callable[[], dict[Any, Any]]) -> Callable[[], dict[Any, Any]]:
    def found() -> dict[Any, Any]:
        try:
            return load()
        except (AttributeError, ImportError, TypeError):  # what unpickling says of a class that is gone, or is another
            return {}

    return found
