"""How a run ends: by a signal, between two updates, or by an error, which is described in a sentence."""

from __future__ import annotations

import signal
import sysconfig
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

_HANG_UP = getattr(signal, "SIGHUP", None)  # Windows has none
_SIGNALS = tuple(number for number in (signal.SIGINT, signal.SIGTERM, _HANG_UP) if number is not None)


class Stopped(KeyboardInterrupt):
    """Raised to end the body of `Interrupt.at_once`."""


class Interrupt:
    """Turns the first Ctrl-C or SIGTERM into a flag, `stop`, that the loop reads; a second one raises at once.

    A terminal that closes may send SIGHUP several times: SIGHUP counts only as a first signal, and is ignored under
    nohup. A nested `Interrupt`, such as that of a run in a search, passes the signal on to the outer one.

    Example: `with Interrupt() as interrupt: … if interrupt.stop: break`
    """

    def __init__(self) -> None:
        self.stop = False
        self._has_signal = self._ends_at_once = self._has_exited = False
        self._handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupt:
        self._has_exited = False
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if number != _HANG_UP or signal.getsignal(number) is not signal.SIG_IGN:
                    self._handlers[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *error: object) -> None:
        """Restore the handlers, also if a nested `Interrupt` is left after this one."""
        self._has_exited = True
        for number in self._handlers:
            handler = signal.getsignal(number)
            while isinstance(owner := getattr(handler, "__self__", None), Interrupt) and owner._has_exited:
                handler = owner._handlers[number]
            signal.signal(number, handler)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Let a signal end the body at any point; after an earlier signal, the body does not run. Raises: Stopped."""
        self._ends_at_once = True
        try:
            if self.stop:
                raise Stopped
            yield
        finally:
            self._ends_at_once = False

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        outer = getattr(self._handlers.get(signal.Signals(number)), "__self__", None)
        if isinstance(outer, Interrupt):
            outer._on_signal(number, frame)
        if self._has_signal and number != _HANG_UP:
            raise KeyboardInterrupt
        self.stop, self._has_signal = True, self._has_signal or number != _HANG_UP
        if self._ends_at_once:
            self._ends_at_once = False
            raise Stopped


_PACKAGE = "tracetorch"
_OWN_TYPES = (ValueError, TypeError, RuntimeError)
"""Errors whose message is a sentence if traceTorch raises them; that of others, such as KeyError, may be a word."""

_LIBRARIES = {"site-packages", "dist-packages"}
_STANDARD = Path(sysconfig.get_paths()["stdlib"])


def named(error: BaseException) -> str:
    """An error with its type, such as "KeyError: 'subject'"."""
    kind = type(error).__name__
    if isinstance(error, SystemExit):
        return f"{kind}: a part called sys.exit({_text(error)})"
    text = _text(error)
    return f"{kind}: {text}" if text else kind


def sentence(error: BaseException) -> str:
    """Describe an error: a message of traceTorch as it is; any other with its type and origin.

    Example: "KeyError: 'subject' in Mine.train_batch (mine.py, line 17)"
    """
    if isinstance(error, SystemExit):
        return f"{where(error) or 'a part'} called sys.exit({_text(error)})"
    text = _text(error)
    if text and _is_own_error(error):
        return text
    origin = where(error)
    return f"{named(error)}{' in ' if origin else ''}{origin}"


def where(error: BaseException, *, ours: bool = True) -> str:
    """Name the function that raised an error: the innermost of a user's part; without one, the innermost of traceTorch.

    Args: ours: whether to name a function of traceTorch; if not, the result is "" instead.
    """
    own = ""
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        path, code = Path(frame.f_code.co_filename), frame.f_code
        origin = f"{code.co_qualname} ({path.name}, line {line})"
        if _is_own_frame(frame):
            own = own or (origin if ours else "")
        elif not (_LIBRARIES & set(path.parts) or path.is_relative_to(_STANDARD) or path.name.startswith("<frozen")):
            return origin
    return own


def _is_own_error(error: BaseException) -> bool:
    if type(error).__module__.partition(".")[0] == _PACKAGE:
        return True
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    has_sentence = isinstance(error, _OWN_TYPES) or (isinstance(error, OSError) and error.errno is None)
    return has_sentence and bool(frames) and _is_own_frame(frames[-1])


def _is_own_frame(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] == _PACKAGE


def _text(error: BaseException) -> str:
    try:
        return repr(error.code) if isinstance(error, SystemExit) else str(error)
    except Exception:  # the message of a user's class may fail
        return ""
