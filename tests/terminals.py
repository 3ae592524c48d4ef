"""A terminal, as a pseudo-terminal, for what prints differently there."""

import io
import os
import pty
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tracetorch.cli.main import app


@contextmanager
def terminal(monkeypatch) -> Iterator[io.BytesIO]:
    """Let stdout be a terminal inside; afterwards what it was sent is in the buffer that it gives."""
    ours, theirs = pty.openpty()
    shown = io.BytesIO()

    def read() -> None:
        try:
            while data := os.read(ours, 2**16):
                shown.write(data)
        except OSError:  # its other end is closed
            return

    reader = threading.Thread(target=read)
    reader.start()
    try:
        with monkeypatch.context() as patch, os.fdopen(theirs, "w", encoding="utf-8") as stdout:
            patch.setattr(sys, "stdout", stdout)
            yield shown
    finally:
        reader.join()
        os.close(ours)


def tracetorch_in_terminal(monkeypatch, *words: str) -> tuple[int, str]:
    """Run `tracetorch` with these words in a terminal. Returns: its exit code, and what the terminal got."""
    with terminal(monkeypatch) as shown:
        code = app(list(words), standalone_mode=False)
    return code, shown.getvalue().decode()
