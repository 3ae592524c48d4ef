"""The numbers of a run: the value of its metric, and its curves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from tracetorch.compare.collect import CompletedRun, LeftOut
from tracetorch.compare.text import plain, plain_words
from tracetorch.files import parse_json, read_bytes
from tracetorch.runs.folder import RunFolder, last_record, metric_of
from tracetorch.runs.records import LOST

CURVE_SPLITS = ("validation", "train", "gradient")
"""Splits whose records form a curve over updates."""

_SPLITS = ("test", *CURVE_SPLITS)  # by precedence as the value of a run
_NO_METRIC = ("update", "updates", "tested_update")
_LARGEST = 1e100  # larger values are not measurements, and their squares overflow

Points = list[tuple[float, float]]  # updates and values of the metric


class MeasuredRun(NamedTuple):
    """A run, the value of its metric, and its curves."""

    run: CompletedRun
    value: float
    curves: dict[tuple[str, str], Points]  # by metric and split
    remark: str  # defects of the run; "" if none

    @property
    def seed(self) -> str:
        return self.run.fact("seed")


def as_number(value: Any) -> float | None:
    """A finite number, or None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) <= _LARGEST else None


def default_metric(runs: Iterable[CompletedRun]) -> str:
    """The first metric of the task, such as "accuracy"; if runs differ, the most frequent."""
    names: Counter[str] = Counter()
    for run in runs:
        results = {k: v for k, v in run.summary.items() if k not in _NO_METRIC and not k.endswith("_bytes")}
        if metric := metric_of(last_record(run.folder)) or metric_of(results):
            names[metric[0]] += 1
    return names.most_common(1)[0][0] if names else "loss"


def known_metrics(runs: Iterable[CompletedRun]) -> list[str]:
    """The names of all numbers in the summaries and records of runs."""
    names: dict[str, None] = {}
    for run in runs:
        for source in (run.summary, *_records(run)[0]):
            names |= dict.fromkeys(name for name, value in source.items() if as_number(value) is not None)
    return [name for name in names if name not in _NO_METRIC]


def measure(run: CompletedRun, metric: str, other_metric: str) -> MeasuredRun | LeftOut:
    """The value of a metric for a run, from its summary or else from its last record (`last_of`), and its curves.

    Args: other_metric: its curves are returned too.
    """
    records, remark = _records(run)
    value, source = _last(records, metric)
    if metric in run.summary:
        value, source = run.summary[metric], "summary"
    elif not source:
        return run.left_out(f"it has no {plain_words(metric)}")
    finite = as_number(value)
    if finite is None:
        return run.left_out(f"its {plain_words(metric)} is not a finite number")
    if source in ("validation", "train"):
        remark = f"{remark}; " * bool(remark)
        remark += f"no test: its {plain_words(metric)} is from the last record of {source}"
    curves = {}
    for name in dict.fromkeys((metric, other_metric)):
        for split in CURVE_SPLITS:
            points = _points((record for record in records if record["split"] == split), name)
            if points:
                curves[name, split] = points
    return MeasuredRun(run, finite, curves, "; ".join(filter(None, (run.remark, remark))))


def last_of(run: CompletedRun, name: str) -> float | None:
    """A number in the last record of the test, or else of validation, training or diagnostics; None without one."""
    return as_number(_last(_records(run)[0], name)[0])


def _last(records: Iterable[Mapping[str, Any]], name: str) -> tuple[Any, str]:
    """The value that `last_of` returns, and the split of its record ("" without one)."""
    last = {record["split"]: record[name] for record in records if name in record}
    source = next((split for split in _SPLITS if split in last), "")
    return last.get(source), source


def _points(records: Iterable[Mapping[str, Any]], name: str) -> Points:
    pairs = ((as_number(record.get("update")), as_number(record.get(name))) for record in records)
    return [(update, value) for update, value in pairs if update is not None and value is not None]


def _records(run: CompletedRun) -> tuple[list[dict[str, Any]], str]:
    """The records of a run, without marks of gaps, and a remark if the file has a defect."""
    try:
        try:
            content = read_bytes(run.folder / "metrics.jsonl")  # parsing all lines at once is twice as fast
            rows = list(parse_json(b"[" + content.rstrip(b"\n").replace(b"\n", b",") + b"]"))
        except ValueError:
            rows = RunFolder(run.folder).records()  # its error names the line
    except FileNotFoundError:
        return [], "metrics.jsonl is missing: no curve"
    except OSError as error:
        return [], f"metrics.jsonl cannot be read ({plain(error.strerror)}): no curve"
    except ValueError as error:
        line = str(error).partition(", line ")[2].partition(",")[0]
        return [], f"metrics.jsonl is broken{f' in line {line}' * bool(line)}: no curve"
    split_of = [(row, row.get("split")) for row in rows if isinstance(row, dict)]
    return [row for row, split in split_of if isinstance(split, str) and split != LOST], ""
