"""Conversion of records and tables to text and back."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from tracetorch.files import DEEPEST, MOST_ELEMENTS, open_regular, parse_json, read_text
from tracetorch.printable import cell

MOST_LINE_BYTES = 1 << 20  # bound for a record
MOST_TABLE_BYTES = 512 << 20  # bound for a table of numbers
LOST = "lost"
"""Split of the mark of a gap, in which `records` records of the updates `from_update` to `update` are lost."""
_BYTES_FOR_AN_ELEMENT = 8  # least size in a record: name, value and separators

RESERVED = {"update", "split", "loss", "steps_per_second", "train_seconds", "memory_bytes"}
RESERVED |= {"steps", "episodes", "switch", "switches", "gradient_norm"}
"""Fields of a record; a task's metric must have another name."""

COSTS = ("_seconds", "_per_second", "_bytes")  # endings of fields that depend on the machine and are never compared


def to_json(value: Any, *, indent: int | None = None) -> str:
    """JSON that every parser accepts: a number that is not finite becomes null."""
    return json.dumps(plain(value), indent=indent, allow_nan=False, ensure_ascii=False)


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV; the columns are the keys of all rows in the order in which they first appear."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writerow({name: cell(name) for name in columns})
    writer.writerows({name: cell(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read a file with one JSON object per line, without a last line that was cut short.

    Memory: a small multiple of the file's size, for any content.
    Raises: OSError; ValueError that names the line, if any other line is broken.
    """
    rows, elements = [], 0
    with open_regular(path) as file:
        most_elements = MOST_ELEMENTS + os.fstat(file.fileno()).st_size // _BYTES_FOR_AN_ELEMENT
        for number, line in enumerate(iter(partial(file.readline, MOST_LINE_BYTES), b""), 1):
            elements += 1 + line.count(b",") + line.count(b"[") + line.count(b"{")
            if elements > most_elements:
                raise ValueError(f"{path}, line {number}, has more elements than a run writes")
            try:
                row = parse_json(line)
            except ValueError as error:  # not JSON, or not UTF-8
                if len(line) == MOST_LINE_BYTES or file.read(1):
                    raise ValueError(f"{path}, line {number}, is not valid JSON: {error}") from None
                break
            if not isinstance(row, dict):
                raise ValueError(f"{path}, line {number}, is not a JSON object")
            rows.append(row)
    return rows


def keep(lines: Iterable[bytes], count: int, update: int) -> tuple[list[bytes], dict[str, Any] | None]:
    """Select the records up to a checkpoint, with a mark where some are missing.

    A power cut may truncate a file, or leave zeros in it, which hide the ends of lines. Then only whole records up to
    the checkpoint's update are kept, without tests, which follow the last checkpoint. The mark, a record of the split
    "lost", counts as the `records` that it stands for, so the count in the checkpoint stays valid.

    Args: count, update: the number of records, and the update, of the checkpoint.
    Returns: the lines; the mark, if one was inserted.
    """
    kept: list[bytes] = []
    missing, at = count, 0
    gap: tuple[int, int] | None = None  # number of lines kept before the gap, and the last one's update
    after: int | None = None  # update of the first line after the gap
    for line in lines:
        if not missing or len(line) == MOST_LINE_BYTES:  # what follows a gap of that size is left out
            break
        record = _whole(line)
        weight = _weight(record)
        if not 0 < weight <= missing:
            gap, after = gap or (len(kept), at), None
            continue
        if gap and (_update(record, at) > update or record.get("split") == "test"):
            continue
        at = _update(record, at)
        after = at if after is None else after
        missing -= weight
        kept.append(line)
    if not missing:
        return kept, None
    place, before = gap or (len(kept), at)
    end = update if gap is None or after is None else after
    mark = {"update": max(before, end), "split": LOST, "records": missing, "from_update": before}
    kept.insert(place, to_json(mark).encode() + b"\n")
    return kept, mark


def _whole(line: bytes) -> dict[str, Any]:
    """The record in a line; {} if the line is not whole."""
    try:
        record = parse_json(line) if line.endswith(b"\n") else None
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def _weight(record: Mapping[str, Any]) -> int:
    """The number of records that a line stands for."""
    if not record:
        return 0
    found = record.get("records") if record.get("split") == LOST else 1
    return found if isinstance(found, int) else 0


def _update(record: Mapping[str, Any], before: int) -> int:
    found = record.get("update")
    return found if isinstance(found, int) else before


def columns_to_csv(columns: Mapping[str, Sequence[Any]]) -> str:
    """Columns of equal length as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(cell, columns))
    writer.writerows(map(cell, row) for row in zip(*columns.values(), strict=True))
    return text.getvalue()


def read_csv(path: Path, *, has_text: bool = False) -> dict[str, list[float]]:
    """Read the numbers of a CSV file, by column.

    Args: has_text: whether columns with other content are left out, instead of refused.
    Raises: OSError; ValueError that names the file if it is not such a table.
    """
    try:
        rows = list(csv.reader(io.StringIO(read_text(path, MOST_TABLE_BYTES), newline="")))
    except csv.Error as error:
        raise ValueError(f"{path} is not a table: {error}") from None
    if not rows or any(len(row) != len(rows[0]) for row in rows):
        raise ValueError(f"{path} is not a table: its rows differ in length")
    columns: dict[str, list[float]] = {}
    for at, name in enumerate(rows[0]):
        try:
            columns[name] = [float(row[at]) for row in rows[1:]]
        except ValueError as error:
            if not has_text:
                raise ValueError(f"{path} holds something that is not a number: {error}") from None
    return columns


def plain(value: Any) -> Any:
    """Convert a value for JSON: arrays and numbers of NumPy and torch to lists and numbers, and NaN and ±∞ to None.

    Any other object becomes its `repr`.
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
