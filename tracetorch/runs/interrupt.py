"""Stopping between two updates instead of in the middle of one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_HANG_UP = getattr(signal, "SIGHUP", None)  # Windows has none
_SIGNALS = tuple(number for number in (signal.SIGINT, signal.SIGTERM, _HANG_UP) if number is not None)


class Stopped(KeyboardInterrupt):
    """Ends the body of `Interrupt.at_once`."""


class Interrupt:
    """Turns the first Ctrl-C or SIGTERM into a wish that the loop reads; a second one stops at once.

    A terminal that hangs up (SIGHUP) may report it several times: it counts as a first signal only, and is ignored
    under nohup. A nested `Interrupt`, such as that of a run in a search, passes the signal on to the outer one.

    Example: `with Interrupt() as wish: … if wish.stop: break`
    """

    def __init__(self) -> None:
        self.stop = False
        self._asked = self._ends_at_once = self._is_left = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupt:
        self._is_left = False
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if number != _HANG_UP or signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._wish)
        return self

    def __exit__(self, *error: object) -> None:
        """Restore the handlers, also if one that was entered later is left later."""
        self._is_left = True
        for number in self._before:
            handler = signal.getsignal(number)
            while isinstance(owner := getattr(handler, "__self__", None), Interrupt) and owner._is_left:
                handler = owner._before[number]
            signal.signal(number, handler)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """A signal ends the body where it is; an earlier one, as it begins. Raises: Stopped."""
        self._ends_at_once = True
        try:
            if self.stop:
                raise Stopped
            yield
        finally:
            self._ends_at_once = False

    def _wish(self, number: int, frame: FrameType | None) -> None:
        outer = getattr(self._before.get(signal.Signals(number)), "__self__", None)
        if isinstance(outer, Interrupt):
            outer._wish(number, frame)
        if self._asked and number != _HANG_UP:
            raise KeyboardInterrupt
        self.stop, self._asked = True, self._asked or number != _HANG_UP
        if self._ends_at_once:
            self._ends_at_once = False
            raise Stopped
