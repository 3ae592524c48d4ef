"""Tables: `.csv` or `.tsv`, with one row for each sample or for each time step; read by pandas."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tracetorch import files
from tracetorch.data.arrays import TARGETS
from tracetorch.data.samples import Array, Samples
from tracetorch.optional import library
from tracetorch.printable import printable

Rows = Literal["auto", "samples", "steps"]
TIME_COLUMNS = ("time", "t", "step", "seconds")
SAMPLE_COLUMNS = ("sample", "sequence", "trial", "recording")
_LIKE_TIME = re.compile(r"(time|sec|msec|ms|step|frame)(s|stamp)?(?![a-z])", re.IGNORECASE)
_FEW_ROWS = 20
_MOST_SHOWN = 100  # characters in a message


def read_table(
    path: Path,
    *,
    inputs: tuple[str, ...] | None = None,
    target: tuple[str, ...] | None = None,
    sample: str | None = None,
    time: str | None = None,
    rows: Rows = "auto",
    fields: tuple[str, ...] = (),
) -> Samples:
    """Read a table with a line of column names.

    A row is a sample, with the rates or currents of a steady input; or it is a time step. The steps of a sample are the
    rows with the same value in the column `sample`, in the order of the column `time` if there is one. Without
    `sample`, the table is one recording. The step length dt is the median difference of times in a column time, t or
    seconds, in seconds. Columns that are neither inputs nor targets are fields; so is a single target.

    Args:
        inputs: columns; None: all columns of numbers without another role.
        target: columns; None: the first of `TARGETS` in the table.
        sample, time: columns; None: the first of `SAMPLE_COLUMNS` and of `TIME_COLUMNS` in the table.
        fields: columns of numbers that are not inputs. A column without a name, such as pandas' index, is not one
            either.
        rows: "samples" or "steps"; "auto": steps if there is a column `sample` or `time`; if not, the samples have a
            remark where rows seem to be steps.
    Raises: OSError; ImportError without pandas; ValueError that names the file, says what was found and what is wanted.
    """
    table = _load(path)
    columns = list(map(str, table.columns))
    sample = _column(path, columns, sample, SAMPLE_COLUMNS, "sample")
    time = _column(path, columns, time, TIME_COLUMNS, "time")
    first_target = None if target else _column(path, columns, None, TARGETS, "target")
    targets = list(target or ([first_target] if first_target else []))
    if not targets:
        raise ValueError(
            f"{path} has the columns {_listed(columns)}, and none of {', '.join(TARGETS)}: give task.target=NAME"
        )
    used = {*targets, sample, time, *fields, *(name for name in columns if name.startswith("Unnamed:"))}
    chosen = list(inputs or [name for name in columns if name not in used and table[name].dtype.kind in "fiub"])
    if inputs is None:
        _check_left_out(path, table, [name for name in columns if name not in used and name not in chosen])
    for key, names in (("target", targets), ("inputs", chosen)):
        for name in names:
            _column(path, columns, name, (), key)
    if not chosen:
        raise ValueError(f"{path} has the columns {_listed(columns)}, and no column of numbers that can be an input")
    values = _numbers(path, table, chosen)
    goals = [table[name].to_numpy() for name in targets]
    if len(goals) > 1 and any(column.dtype.kind not in "fiub" for column in goals):
        raise ValueError(f"{path}: of several target columns, each must hold numbers")
    goal = _plain(goals[0]) if len(goals) == 1 else np.stack([each.astype(np.float32) for each in goals], axis=1)
    kept = [name for name in columns if name in (sample, time) or name not in (*targets, *chosen)]
    others = {name: _plain(table[name].to_numpy()) for name in kept}
    others |= {targets[0]: goal} if len(goals) == 1 else {}
    is_steps = rows == "steps" or (rows == "auto" and (sample is not None or time is not None))
    names = [f"line {row + 2}" for row in range(len(values))]
    without_targets = [name for name in columns if name not in targets]
    remark = _about_time(table, without_targets, values) if rows == "auto" and not is_steps else ""
    lines = Samples(
        values,
        len(chosen),
        goal,
        others,
        names,
        str(path),
        remark=remark,
        target_names=tuple(targets),
        channel_names=tuple(chosen),
    )
    return _by_sample(lines, sample, time) if is_steps else lines


def _about_time(table: Any, columns: list[str], values: Array) -> str:
    """Say what was taken for a sample, if the rows seem to follow each other in time; else "".

    They do if a column is named like a time, or if the inputs change little from row to row. The measure is von
    Neumann's ratio, the mean squared change over the variance: 2 for shuffled rows; the bound is 1.
    """
    numbers = [name for name in columns if table[name].dtype.kind in "fiu"]
    named = next(filter(_LIKE_TIME.match, numbers), "")
    if len(values) < _FEW_ROWS:
        return ""
    exact = values.astype(np.float64)  # squares may exceed the range of float32
    ratio = (np.diff(exact, axis=0) ** 2).mean(axis=0) / np.maximum(exact.var(axis=0), 1e-12)
    if not (named or np.median(ratio) < 1):
        return ""
    return (
        f"each of the {len(values):,} rows is taken as a sample of its own; if rows are time steps, give "
        f"task.time={named or 'NAME'}, task.sample=NAME (the column that says whose step a row is), or task.cut=STEPS"
    )


def _by_sample(lines: Samples, sample: str | None, time: str | None) -> Samples:
    """Join the rows of each sample, in order of time.

    Args: lines: one sample for each row. sample, time: names of columns, or None.
    Raises: ValueError for times that are not numbers, or that occur twice in a sample.
    """
    path, values, goal, others = lines.source, np.asarray(lines.inputs), np.asarray(lines.target), lines.fields
    key = np.zeros(len(values), dtype=int) if sample is None else others[sample]
    when = None if time is None else others[time]
    if when is not None and (when.dtype.kind not in "fiu" or not np.isfinite(when.astype(float)).all()):
        raise ValueError(f"{path}: the column {time} must hold the time of each row, a finite number")
    names, inverse = np.unique(key, return_inverse=True)
    parts = [np.flatnonzero(inverse == at) for at in range(len(names))]
    if when is not None:
        parts = [part[np.argsort(when[part], kind="stable")] for part in parts]
        for part in parts:
            steps = np.diff(when[part])
            if len(steps) and not (steps > 0).all():
                twice = when[part][1:][steps <= 0][0]
                where = "" if sample is None else f" of {sample}={key[part[0]]}"
                hint = "" if sample is not None else "; if the table holds several samples, give task.sample=NAME"
                raise ValueError(f"{path}: {time}={twice:g} occurs twice{where}{hint}")
    # A target with one value in all rows of each sample is that of the sample; another column of this kind is a field.
    goals: list[Any] = [goal[part] for part in parts]
    if sample is not None and all((rows == rows[0]).all() for rows in goals):
        goals = [rows[0] for rows in goals]
    fields = {
        name: np.array([column[part[0]] for part in parts])
        for name, column in others.items()
        if name != time and all((column[part] == column[part[0]]).all() for part in parts)
    }
    gaps = np.concatenate([np.diff(when[part].astype(float)) for part in parts]) if when is not None else np.zeros(0)
    dt = float(np.median(gaps)) if time in ("time", "t", "seconds") and len(gaps) else None
    titles = [Path(path).name if sample is None else f"{sample}={name}" for name in names]
    inputs = [values[part] for part in parts]
    return replace(lines, inputs=inputs, target=goals, fields=fields, names=titles, dt=dt)


def _load(path: Path) -> Any:
    """Return the table as a data frame. Raises: as `read_table`."""
    pandas = library("pandas", "data")
    content = files.read_bytes(path, files.MOST_DATA_BYTES)
    head = content.partition(b"\n")[0]
    separator = "\t" if path.suffix.lower() == ".tsv" else ";" if b";" in head and b"," not in head else ","
    try:
        table = pandas.read_csv(io.BytesIO(content), sep=separator, skipinitialspace=True)
    except (ValueError, OverflowError, pandas.errors.ParserError) as error:
        raise ValueError(f"{path} is not a table that can be read: {printable(str(error).strip(), 200)}") from None
    if not len(table):
        raise ValueError(f"{path} has no rows below its line of column names")
    return table


def _numbers(path: Path, table: Any, chosen: list[str]) -> Array:
    """Return the chosen columns, (rows, columns), float32. Raises: ValueError for other than finite numbers."""
    for name in chosen:
        column = table[name]
        if column.dtype.kind not in "fiub":
            wrong = next((value for value in column if not _is_number(value)), column.iloc[0])  # none: a huge integer
            raise ValueError(f"{path}: the column {name} holds {printable(repr(wrong), 40)}; wanted: numbers")
    values = table[chosen].to_numpy(dtype=np.float32)
    if not np.isfinite(values).all():
        row, at = np.argwhere(~np.isfinite(values))[0]
        raise ValueError(f"{path}: line {row + 2}, column {chosen[at]} does not hold a finite number")
    return np.asarray(values)


def _check_left_out(path: Path, table: Any, names: list[str]) -> None:
    """Raises: ValueError for a column of numbers in which some cells are none, so that it would not be an input."""
    for name in names:
        is_number = np.array([_is_number(value) for value in table[name]])
        if 2 * is_number.sum() > len(is_number):
            row = int(np.flatnonzero(~is_number)[0]) if not is_number.all() else 0
            cell = printable(repr(table[name].iloc[row]), 40)
            raise ValueError(
                f"{path}: line {row + 2}, column {name} holds {cell}, and most of this column are numbers: correct it, "
                "or list the inputs, task.inputs=[NAME,NAME]"
            )


def _is_number(value: object) -> bool:
    try:
        float(str(value))
    except ValueError:
        return False
    return True


def _plain(column: Any) -> Array:
    """Return a column as numbers if they are, else as strings; a missing text is empty."""
    found = np.asarray(column)
    if found.dtype.kind in "fiub":
        return found
    return np.array(["" if value is None or value != value else str(value) for value in found])  # noqa: PLR0124


def _column(path: Path, columns: list[str], given: str | None, usual: tuple[str, ...], key: str) -> str | None:
    """Return the given column, or the first usual one, if any. Raises: ValueError for a given one that is missing."""
    if given is None:
        return next((name for name in usual if name in columns), None)
    if given not in columns:
        close = get_close_matches(given, columns, 1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ValueError(f"task.{key}={given}: {path} has no such column, it has {_listed(columns)}{hint}")
    return given


def _listed(columns: list[str]) -> str:
    return printable(", ".join(columns), _MOST_SHOWN)
