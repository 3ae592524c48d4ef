"""The parts of a sweep's preset: sweeps one after another, and how what is typed is shared out among them."""

from __future__ import annotations

import re

_WHOLE = re.compile(r"[\[\](){}'\"]")


def share_out(shared: list[str], parts: list[list[str]], typed: list[str]) -> list[list[str]]:
    """What each part comes to; of a key that is typed, what is typed counts.

    Where only some of the parts say something of a key, what is typed of it is for those. Of values that parts list,
    each part keeps its own; one to which none is left is not run.

    Args:
        shared: what all parts have, if they do not say otherwise.
        parts: what each says; none at all is one that says nothing.
    Returns: for each that is left, what one would type.
    """
    chosen = [part for part in parts or [[]] if all(_share(line, part, parts) for line in typed)]
    given = set(map(key_of, typed))
    theirs = {key_of(line) for part in chosen for line in part} - set(map(key_of, shared))
    sweeps = []
    for part in chosen:
        own = set(map(key_of, part))
        kept = [line for line in shared if key_of(line) not in own] + part
        wanted = [_share(line, part, parts) for line in typed if key_of(line) in own or key_of(line) not in theirs]
        sweeps.append([*(line for line in kept if key_of(line) not in given), *wanted])
    return sweeps


def key_of(line: str) -> str:
    """The key of a change, such as task.delay."""
    return line.lstrip("+~").partition("=")[0]


def _share(typed: str, part: list[str], parts: list[list[str]]) -> str:
    """What is typed as one of the parts takes it; "" if its values are those of other parts."""
    own, wanted = _values(part, key_of(typed)), _values([typed], key_of(typed))
    listed = {value for one in parts for value in _values(one, key_of(typed))}
    if not own or not listed.issuperset(wanted):
        return typed
    mine = [value for value in wanted if value in own]
    return f"{typed.partition('=')[0]}={','.join(mine)}" if mine else ""


def _values(lines: list[str], key: str) -> list[str]:
    """All that stands between commas; what has brackets or quotes, as a whole."""
    texts = [line.partition("=")[2] for line in lines if key_of(line) == key]
    return [value for text in texts for value in ([text] if _WHOLE.search(text) else text.split(","))]
