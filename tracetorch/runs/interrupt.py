"""Stopping between two updates instead of in the middle of one."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupt:
    """Turns the first Ctrl-C or SIGTERM into a wish that the loop reads; a second one stops at once.

    One inside of another, such as that of a run in a search for better settings, lets the outer one know.

    Example: `with Interrupt() as wish: … if wish.stop: break`
    """

    def __init__(self) -> None:
        self.stop = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._wish) for number in _SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _wish(self, number: int, frame: FrameType | None) -> None:
        outer = getattr(self._before.get(signal.Signals(number)), "__self__", None)
        if isinstance(outer, Interrupt):
            outer._wish(number, frame)
        if self.stop:
            raise KeyboardInterrupt
        self.stop = True
