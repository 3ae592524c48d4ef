"""One line before the kernels are compiled, which takes about 20 seconds."""

from __future__ import annotations

import logging
from typing import Any

from numba.core import event


class _Announcer(event.Listener):
    """Says it once a process, and only where something is compiled and not merely loaded."""

    def on_start(self, event: Any) -> None:
        function = event.data["dispatcher"].py_func
        if function.__module__.startswith(f"{__package__}."):
            stop()
            words = "compiling kernels for this processor, about 20 seconds, once"
            logging.getLogger("tracetorch").warning(words)

    def on_end(self, event: Any) -> None:
        """Nothing to say."""


_announcer = _Announcer()


def start() -> None:
    """Listen for numba's compiler. To be called before any kernel has run."""
    event.register("numba:compile", _announcer)


def stop() -> None:
    """Listen no longer."""
    event.unregister("numba:compile", _announcer)
