"""The end of a run: by a signal, between two updates; or by an error, which is put into words."""

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
    """Ends the body of `Interrupt.at_once`."""


class Interrupt:
    """Turns the first Ctrl-C or SIGTERM into a flag, `stop`, that the loop reads; a second one raises at once.

    A terminal that closes may send SIGHUP several times: SIGHUP counts only as a first signal, and is ignored under
    nohup. A nested `Interrupt`, such as that of a run in a search, passes the signal on to the outer one.

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
        """Restore the handlers, also if a nested `Interrupt` is left after this one."""
        self._is_left = True
        for number in self._before:
            handler = signal.getsignal(number)
            while isinstance(owner := getattr(handler, "__self__", None), Interrupt) and owner._is_left:
                handler = owner._before[number]
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


_OWN = "tracetorch"
_OWN_KINDS = (ValueError, TypeError, RuntimeError)
"""Errors whose message is a sentence if traceTorch raises them; that of others, such as KeyError, is a word."""

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
    if text and _is_own(error):
        return text
    place = where(error)
    return f"{named(error)}{' in ' if place else ''}{place}"


def where(error: BaseException, *, ours: bool = True) -> str:
    """Name the function that raised an error: the innermost of a user's part, or else of traceTorch.

    Args: ours: whether to name a function of traceTorch; if not, the result is "" instead.
    """
    own = ""
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        path, code = Path(frame.f_code.co_filename), frame.f_code
        place = f"{code.co_qualname} ({path.name}, line {line})"
        if _is_ours(frame):
            own = own or (place if ours else "")
        elif not (_LIBRARIES & set(path.parts) or path.is_relative_to(_STANDARD) or path.name.startswith("<frozen")):
            return place
    return own


def _is_own(error: BaseException) -> bool:
    if type(error).__module__.partition(".")[0] == _OWN:
        return True
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    says = isinstance(error, _OWN_KINDS) or (isinstance(error, OSError) and error.errno is None)
    return says and bool(frames) and _is_ours(frames[-1])


def _is_ours(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] == _OWN


def _text(error: BaseException) -> str:
    try:
        return repr(error.code) if isinstance(error, SystemExit) else str(error)
    except Exception:  # the message of a user's class may fail
        return ""
