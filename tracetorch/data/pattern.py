"""Patterns of file names: `{label}_{speaker}_{index}.wav`."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np

from tracetorch.data.container import Container
from tracetorch.printable import printable

_FIELD = re.compile(r"\{([A-Za-z_]\w*)\}")
_MOST_DIGITS = 18  # of a whole number that fits into int64


class Pattern:
    """A pattern of file names, with a field for each part in braces.

    A field takes one or more characters other than "/", as few as possible. A field that occurs twice must have the
    same text both times. The text after the last field, such as ".wav", fits in upper and lower case.

    Args: text: for example "{label}_{speaker}_{index}.wav", or "{label}/{name}.png" for a folder for each class. It is
        compared with the last parts of a path, as many as it has itself.
    Raises: ValueError if it has no field.
    Example:
        >>> Pattern("{label}_{speaker}_{index}.wav").match("recordings/7_lucas_3.wav")
        {'label': '7', 'speaker': 'lucas', 'index': '3'}
    """

    def __init__(self, text: str):
        names = _FIELD.findall(text)
        if not names:
            raise ValueError(f"task.pattern={text}: a pattern has a field in braces, such as {{label}}_{{index}}.wav")
        pieces, seen, end = [], set[str](), 0
        for found in _FIELD.finditer(text):
            name = found[1]
            pieces += [re.escape(text[end : found.start()]), f"(?P={name})" if name in seen else f"(?P<{name}>[^/]+?)"]
            seen.add(name)
            end = found.end()
        self.text, self.names = text, list(dict.fromkeys(names))
        self._depth = text.count("/") + 1
        self._compiled = re.compile(f"{''.join(pieces)}(?i:{re.escape(text[end:])})")

    def matching(self, container: Container) -> list[tuple[str, dict[str, str]]]:
        """Return the files of a container that fit, each with its fields. Raises: ValueError if none fits."""
        found = [(name, fields) for name in container.names if (fields := self.match(name)) is not None]
        if not found:
            held = f"the first is {printable(container.names[0], 60)}" if container.names else "it is empty"
            raise ValueError(
                f"{container.path}: none of {len(container.names):,} files fits task.pattern={self.text}; {held}"
            )
        return found

    def match(self, path: str) -> dict[str, str] | None:
        """Return the fields of a path by name; None if it does not fit. Args: path: with "/" between its parts."""
        found = self._compiled.fullmatch("/".join(path.split("/")[-self._depth :]))
        return None if found is None else found.groupdict()


def columns(rows: Iterable[dict[str, str]]) -> dict[str, np.ndarray]:
    """Return the fields of all samples as columns, (samples,) each: int64 if all are whole numbers, else text."""
    rows = list(rows)
    found: dict[str, np.ndarray] = {}
    for name in rows[0] if rows else ():
        texts = [row[name] for row in rows]
        is_whole = all(text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS for text in texts)
        found[name] = np.array([int(text) for text in texts]) if is_whole else np.array(texts)
    return found
