"""User errors as one sentence, and the exit codes."""

from __future__ import annotations

import os
import re
import shlex
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path

from tracetorch.cli.terminal import say
from tracetorch.printable import printable

DONE, FAILED, USAGE, PARTLY, INTERRUPTED = 0, 1, 2, 3, 130

_LONGEST_WORD = 300  # characters; a longer word of a message is cut


class UsageError(Exception):
    """Wrong usage or config. The message names the fault, its place, a close alternative and what to type."""


def working_directory() -> Path:
    """The working directory. Raises: UsageError if it was removed: libraries report that unclearly."""
    try:
        return Path.cwd()
    except OSError as error:
        raise UsageError("the working directory no longer exists; change to another") from error


def did_you_mean(word: str, known: Iterable[str], prefix: str = "") -> str:
    """The hint " Did you mean 'x'?" with a prefix and the closest known word; "" if none is close."""
    close = get_close_matches(word, list(known), 1, 0.6)
    return f" Did you mean '{prefix}{close[0]}'?" if close else ""


@contextmanager
def prefixed(words: str) -> Iterator[None]:
    """Put words before the message of a UsageError that the body raises."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{words}{error}") from error


def shorten(text: object, most: int = 80) -> str:
    """Format a value for a message: one line, cut if it is long."""
    return printable(text, most)


def quote(word: object) -> str:
    """A word of a suggested command, quoted for a shell."""
    return shlex.quote(str(word))


def complain(message: str, error: BaseException | None = None, show_traceback: bool = False) -> None:
    """Print an error on stderr; with its traceback only on request."""
    if error is not None and (show_traceback or os.environ.get("HYDRA_FULL_ERROR") == "1"):
        say(*"".join(traceback.format_exception(error)).rstrip("\n").split("\n"), error=True)
    line = re.sub(r"\s*[^\S ]\s*", " ", message.strip())  # one line; several spaces stay, as in a path
    line = re.sub(r"\S+", lambda word: shorten(word[0], _LONGEST_WORD), line)
    say(f"tracetorch: {line}", error=True)
