"""What went wrong in a run, in words: which error, and which part raised it."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path
from types import FrameType

_OWN = "tracetorch"
_OWN_KINDS = (ValueError, TypeError, RuntimeError)
"""Raised by the project itself, these say a sentence; others, such as a KeyError, say a word."""

_LIBRARIES = {"site-packages", "dist-packages"}
_STANDARD = Path(sysconfig.get_paths()["stdlib"])


def named(error: BaseException) -> str:
    """An error with its kind, such as "KeyError: 'subject'"."""
    kind = type(error).__name__
    if isinstance(error, SystemExit):
        return f"{kind}: a part called sys.exit({_text(error)})"
    text = _text(error)
    return f"{kind}: {text}" if text else kind


def sentence(error: BaseException) -> str:
    """An error in words: a message of the project as it is; any other with its kind and origin.

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
    """The function that raised an error: the innermost of a user's part, or else the project's own.

    Args: ours: whether the project's own counts; if not, "".
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
    except Exception:  # the class of a user may fail in its own message
        return ""
