"""Cleans text of unknown origin before it is printed, drawn, or written into a table."""

from contextlib import suppress

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def visible(text: str, keep: str = "") -> str:
    """The text with control characters replaced, so that no terminal acts on them. Args: keep: characters that stay."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() or letter in keep else " " if letter.isspace() else "\N{REPLACEMENT CHARACTER}"
        for letter in text
    )


def printable(value: object, most: int = 300) -> str:
    """A value as one line of at most `most` characters, without control characters."""
    line = visible(" ".join(str(value)[: 20 * most].split()))
    return line if len(line) <= most else f"{line[: most - 1]}…"


def cell(value: object) -> object:
    """A value as a cell of a CSV file: text that a spreadsheet would run as a formula gets an apostrophe in front."""
    if not isinstance(value, str) or not value.startswith(_FORMULA):
        return value
    with suppress(ValueError):
        float(value)
        return value
    return f"'{value}"
