"""Tags of a run: words in the file tags.txt of its folder, one per line."""

from __future__ import annotations

import re
from pathlib import Path

from tracetorch.files import read_text, write_whole, writing

FILE = "tags.txt"
_TAG = re.compile(r"\w[\w.+-]{0,49}")
_MOST_BYTES = 1 << 16


def is_tag(word: str) -> bool:
    """Whether a word can be a tag: a letter, a digit or _, then up to 49 of these and of . + -"""
    return _TAG.fullmatch(word) is not None


def read_tags(folder: Path) -> list[str]:
    """The tags of a run, sorted; [] if there are none, or if the file cannot be read. Other lines are ignored."""
    try:
        lines = read_text(folder / FILE, _MOST_BYTES).splitlines()
    except (OSError, ValueError):
        return []
    return sorted({line.strip() for line in lines if is_tag(line.strip())})


def write_tags(folder: Path, tags: list[str]) -> None:
    """Replace the tags of a run; without tags, remove the file. Raises: WriteError."""
    with writing(folder / FILE):
        if tags:
            write_whole(folder / FILE, "".join(f"{tag}\n" for tag in sorted(set(tags))))
        else:
            (folder / FILE).unlink(missing_ok=True)
