"""A comparison as tables of text: for the terminal, for the page, and as CSV."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

from tracetorch.compare.collect import LeftOut
from tracetorch.compare.comparison import Comparison, lower_is_better
from tracetorch.compare.groups import show
from tracetorch.compare.statistics import Summary
from tracetorch.compare.text import duration, mebibytes, number, plain, plain_words, span, with_error
from tracetorch.compare.values import MeasuredRun


class Table(NamedTuple):
    """Rows of text."""

    title: str
    head: list[str]
    rows: list[list[str]]
    words: int  # number of leading columns that hold words; the rest hold numbers
    note: str = ""


def of_groups(found: Comparison) -> Table:
    """A row for each group: mean, interval, range, time, memory."""
    words = plain(plain_words(found.metric))
    head = ["", "group", "n", f"{words}, mean", "min to max", "time", "memory"]
    rows = []
    for group in found.groups:
        costs = [duration(group.mean_of("wall_seconds")), mebibytes(group.mean_of("peak_memory_bytes"))]
        rows.append([group.key, group.label, *in_text(group.summary), *costs])
    alone = "; a single run has none" if any(group.summary.n == 1 for group in found.groups) else ""
    note = f"n: runs. ±: 95 % interval of the mean, by Student's t{alone}. Time and memory: means over the runs."
    return Table("Groups", head, rows, 2, note)


def of_differences(found: Comparison) -> Table:
    """The keys that differ, and their values in each group."""
    note = "Keys whose values differ; seeds, device, threads and output folders are ignored."
    if not found.apart:
        known = len({run.run.group for run in found.runs}) > 1
        note = "The configs of these groups could not be read." if known else "No key: all runs have the same config."
        return Table("What differs", ["key"], [], 1, note)
    keys = [plain(key) for key in found.apart]
    columns = [[show(values) for values in found.apart[key]] for key in found.apart]
    if found.is_paired:
        head = ["key", *(group.key for group in found.groups)]
        return Table("What differs", head, [[key, *cells] for key, cells in zip(keys, columns, strict=True)], 99, note)
    rows = [[group.key, *cells] for group, *cells in zip(found.groups, *columns, strict=True)]
    return Table("What differs", ["", *keys], rows, 99, note)


def of_pairs(found: Comparison) -> Table:
    """A row for each pair of groups: difference of the means, and its interval."""
    rows = []
    for first, second, much in found.pairs():
        interval = [much.how, ""] if math.isnan(much.low) else [span(much.low, much.high, "+"), much.how]
        rows.append([f"{second.key} − {first.key}", number(much.mean, "+"), *interval])
    note = "An interval that contains 0 shows no difference. Not corrected for multiple comparisons."
    if not found.is_paired:
        which = "lowest" if lower_is_better(found.metric) else "highest"
        note = f"Each against {found.best.key}, {plain(found.best.label, 80)}, whose mean is the {which}. {note}"
    return Table("Differences", ["groups", "difference", "95 % interval", "by"], rows, 1, note)


def of_runs(found: Comparison) -> Table:
    """A row for each run."""
    rows = [[run.run.name, group.key, run.seed, "completed", number(run.value)]
            for group in found.groups for run in group.runs]  # fmt: skip
    head = ["folder", "group", "seed", "status", plain(plain_words(found.metric))]
    return Table("Runs", head, rows, 4)


def remarks(found: Comparison) -> list[str]:
    """A line for each run that was compared in spite of a defect."""
    return [f"{run.run.name}: {run.remark}" for run in found.runs if run.remark]


def left_out(runs: Iterable[LeftOut]) -> list[str]:
    """A line for each run that was not compared."""
    return [f"{run.name}, because {run.why}" for run in runs]


def group_rows(found: Comparison) -> list[dict[str, Any]]:
    """comparison.csv: a row for each group, with all its numbers and the settings that differ."""
    rows = []
    for at, group in enumerate(found.groups):
        row = {"group": group.key, "label": group.label, **in_numbers(found.metric, group.summary, group.runs)}
        row |= {name: group.mean_of(name) for name in ("wall_seconds", "peak_memory_bytes")}
        row |= {f"config.{key}": show(values[at]) if values[at] else None for key, values in found.apart.items()}
        rows.append(without_nan(row))
    return rows


def run_rows(found: Comparison) -> list[dict[str, Any]]:
    """runs.csv: a row for each run, compared or not."""
    rows: list[dict[str, Any]] = []
    for group in found.groups:
        for run in group.runs:
            row: dict[str, Any] = {"folder": run.run.name, "experiment": run.run.fact("experiment"), "group": group.key}
            row |= {"seed": run.seed, "status": "completed", "metric": found.metric, "value": run.value}
            row |= {"left_out": None}
            rows.append(row | {name: run.run.summary.get(name) for name in ("wall_seconds", "peak_memory_bytes")})
    for out in found.left_out:
        rows.append({"folder": out.name, "seed": out.seed, "status": out.status, "left_out": out.why})
    return rows


def in_text(summary: Summary, unit: float = 1.0) -> list[str]:
    """n, mean with interval, and range, in a unit."""
    n, mean, _, high, _, least, most = summary
    extent = span(least / unit, most / unit) if n > 1 else number(least / unit)
    return [str(n), with_error(mean / unit, (high - mean) / unit), extent]


def in_numbers(metric: str, summary: Summary, runs: Iterable[MeasuredRun]) -> dict[str, Any]:
    """The CSV columns that summarise the values of a metric."""
    n, mean, low, high, sd, least, most = summary
    row: dict[str, Any] = {"metric": metric, "runs": n, "seeds": len({run.seed for run in runs}), "mean": mean}
    return row | {"ci_low": low, "ci_high": high, "sd": sd, "min": least, "max": most}


def without_nan(row: dict[str, Any]) -> dict[str, Any]:
    """A row in which NaN is None: an empty cell in CSV."""
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in row.items()}


def first_lines(lines: Iterable[str], most: int) -> list[str]:
    """The first `most` lines, and a line with the number of those left out."""
    everything = list(lines)
    more = len(everything) - most
    return everything if more <= 0 else [*everything[:most], f"and {more} more"]
