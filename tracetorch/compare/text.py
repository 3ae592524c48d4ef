"""Numbers and names formatted for readers. Each is one printable line, whatever a folder contains."""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from typing import Any

from tracetorch.printable import printable as plain

MISSING = "–"

_KEYS_IN_SECONDS = ("task.delay", "task.duration", "task.cue", "task.dt", "task.interval", "task.recall")
"""Config keys in seconds whose names do not contain the unit."""


def setting(value: Any) -> str:
    """A value of a config, as a user types it."""
    if isinstance(value, list | tuple):
        return plain(f"[{','.join(map(setting, value))}]")
    return plain(value)


def number(value: float | None, sign: str = "") -> str:
    """A number with four significant digits, such as "0.9130". Args: sign: "+" to show it always."""
    if value is None or math.isnan(value):
        return MISSING
    return f"{value:{sign}#.4g}".removesuffix(".").replace("-", "−")


def span(low: float, high: float, sign: str = "") -> str:
    """A range, such as "0.91–0.95", or "−0.10 to +0.20"."""
    between = " to " if sign or low < 0 else "–"
    return f"{number(low, sign)}{between}{number(high, sign)}"


def with_error(value: float, half: float) -> str:
    """A value ± half its interval, with two digits of `half`: "0.913 ± 0.012"; the value alone if `half` is NaN."""
    if math.isnan(half):
        return number(value)
    decimals = 1 - math.floor(math.log10(half)) if half > 0 else 99
    if decimals > 6 or abs(value) >= 1e6:
        return f"{number(value)} ± {half:.2g}"
    return f"{value:.{max(0, decimals)}f} ± {half:.{max(0, decimals)}f}".replace("-", "−")


def duration(value: float | None) -> str:
    """A duration, such as "4.2 s", "3 min 20 s" or "2 h 05 min"."""
    if value is None:
        return MISSING
    if value < 60:
        return f"{value:.3g} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def mebibytes(value: float | None) -> str:
    """Bytes as whole MiB."""
    return MISSING if value is None else f"{value / 2**20:,.0f} MiB"


def plain_words(metric: str) -> str:
    """A metric's name in words, as one printable line."""
    return plain(metric.replace("_", " "))


def interval_note(drawn: str, sizes: Collection[int]) -> list[str]:
    """Explain the intervals of a figure. Args: drawn: their name, such as "Bars"; sizes: runs in each group."""
    if max(sizes) > 2:
        of_two = "; for n=2, the range of the two runs" if 2 in sizes else ""
        return [f"{drawn}: 95 % interval of the mean (Student's t){of_two}"]
    return [f"{drawn}: range of the two runs (n=2)"] if 2 in sizes else []


def in_order(text: str) -> list[tuple[int, float, str]]:
    """A sort key: numbers by size and before words, also within lists such as [64,32]."""
    return [_in_order(word) for word in re.split(r"[\[\],]+", text)]


def _in_order(word: str) -> tuple[int, float, str]:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    return (1, 0.0, word) if math.isnan(value) else (0, value, word)


def unit_of(name: str) -> float:
    """The divisor of recorded values that gives the shown values."""
    return 2.0**20 if name.endswith("_bytes") else 1.0


def label_of(name: str) -> str:
    """A name in words, with its unit if the name does not contain it."""
    if name.endswith("_bytes"):
        return f"{plain_words(name.removesuffix('_bytes'))} (MiB)"
    if name.endswith("_seconds") and "." not in name:
        return f"{plain_words(name.removesuffix('_seconds'))} time (s)"
    if match := re.fullmatch(r"(decay|time_constant)_(\d+)", name):
        quantity, layer = match.groups()
        return f"{plain_words(quantity)}, layer {layer}" + (" (s)" if quantity == "time_constant" else "")
    return plain_words(name) + (" (s)" if name in _KEYS_IN_SECONDS else "")
