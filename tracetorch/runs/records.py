"""Records and tables as text, and back."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from tracetorch.files import DEEPEST
from tracetorch.printable import cell

RESERVED = (
    "update",
    "split",
    "loss",
    "steps_per_second",
    "train_seconds",
    "memory_bytes",
    "steps",
    "episodes",
    "switch",
    "switches",
)
"""Fields of a record that are the project's own: no metric of a task is called so."""

COSTS = ("_seconds", "_per_second", "_bytes")
"""Endings of what depends on the machine, and is never compared."""


class Measured(Protocol):
    """A task, or an environment."""

    metrics: tuple[str, ...]


def check_metrics(task: Measured) -> None:
    """Raises: ValueError for a metric that would replace another field of a record, or be taken for a cost."""
    for name in task.metrics:
        if name in RESERVED or name.endswith(COSTS):
            why = "is a field of every record" if name in RESERVED else f"has an ending of costs ({', '.join(COSTS)})"
            raise ValueError(f"{type(task).__name__}.metrics: {name!r} {why}; give the metric another name")


def to_json(value: Any, *, indent: int | None = None) -> str:
    """JSON that every reader takes: a number that is not finite becomes null."""
    return json.dumps(plain(value), indent=indent, allow_nan=False, ensure_ascii=False)


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV; the columns are the keys of all rows in the order in which they first appear."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: cell(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The objects of a file with one in each line. A last line that was cut short is left out.

    Raises: ValueError that names the line, if any other line is broken.
    """
    lines = path.read_bytes().rstrip(b"\n").split(b"\n")
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except ValueError as error:  # no JSON, or no UTF-8
            if number < len(lines):
                raise ValueError(f"{path}, line {number}, is no JSON: {error}") from None
            continue
        if not isinstance(row, dict):
            raise ValueError(f"{path}, line {number}, is no object")
        rows.append(row)
    return rows


def read_csv(path: Path) -> dict[str, list[float]]:
    """A CSV of numbers, column by column. Raises: ValueError that names the file, if it holds anything else."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    if not rows or any(len(row) != len(rows[0]) for row in rows):
        raise ValueError(f"{path} is no table: its rows differ in length")
    try:
        return {name: [float(row[at]) for row in rows[1:]] for at, name in enumerate(rows[0])}
    except ValueError as error:
        raise ValueError(f"{path} holds something that is no number: {error}") from None


def plain(value: Any) -> Any:
    """A value as JSON has it: numbers and arrays of NumPy and torch become numbers and lists, what is not finite None.

    Anything else, such as an object, becomes the text that it shows itself as.
    """
    return _plain(value, ())


def _plain(value: Any, within: tuple[int, ...]) -> Any:
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if id(value) in within or len(within) == DEEPEST or isinstance(value, bytes | bytearray):
        return repr(value)
    within = (*within, id(value))
    if isinstance(value, Mapping):
        return {str(name): _plain(inner, within) for name, inner in value.items()}
    with suppress(Exception):
        return _plain(value.tolist(), within)  # of NumPy and torch
    return [_plain(inner, within) for inner in value] if isinstance(value, Collection) else repr(value)
