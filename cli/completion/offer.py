"""What is offered in the place of an incomplete word."""

from __future__ import annotations

from typing import Literal, NamedTuple


class Offer(NamedTuple):
    """One completion."""

    kind: Literal["word", "key", "folder"]  # a space follows; none does; the shell itself completes a path
    value: str  # the whole word; of a folder, the path as far as it is typed
    remark: str = ""  # what zsh and fish show next to it; of a folder, what stands before the path, such as output.dir=
