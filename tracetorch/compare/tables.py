"""A comparison as tables of text: for the terminal, for the page, and as CSV."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

from tracetorch.compare.collect import LeftOut
from tracetorch.compare.comparison import Comparison
from tracetorch.compare.groups import TARGET, show
from tracetorch.compare.statistics import Summary
from tracetorch.compare.text import duration, mebibytes, number, plain, plain_words, span, with_error
from tracetorch.compare.values import MeasuredRun
from tracetorch.runs.folder import lower_is_better


class Table(NamedTuple):
    """Rows of text."""

    title: str
    head: list[str]
    rows: list[list[str]]
    words: int  # number of leading columns of words; the others hold numbers
    note: str = ""


def of_groups(comparison: Comparison) -> Table:
    """A row for each group: mean, interval, range, time, memory."""
    metric = plain(plain_words(comparison.metric))
    head = ["", "group", "n", f"{metric}, mean", "min to max", "time", "memory"]
    rows = []
    for group in comparison.groups:
        costs = [duration(group.mean_of("wall_seconds")), mebibytes(group.mean_of("peak_memory_bytes"))]
        rows.append([group.letter, group.label, *in_text(group.statistics), *costs])
    of_single = "; a single run has none" if any(group.statistics.n == 1 for group in comparison.groups) else ""
    note = f"n: runs. ±: 95 % interval of the mean, by Student's t{of_single}. Time and memory: means over the runs."
    return Table("Groups", head, rows, 2, note)


_MOST_VALUES = 8  # of a key, in short
_MOST_PAIRED_IN_SHORT = 4


ACTIVITY = {
    "firing_rate_hz": "rate, Hz",
    "firing_rate_per_step": "rate per step",
    "activation_sparsity": "activation",
    "connection_sparsity": "connection",
    "synaptic_operations": "operations",
    "effective_acs": "ACs",
    "effective_macs": "MACs",
}
"""Numbers in a run's summary that the table of costs shows, and their names there."""


def of_costs(comparison: Comparison) -> Table | None:
    """A row for each group: firing rate, sparsity and synaptic operations; None if no run has them."""
    means = [{name: group.mean_of(name) for name in ACTIVITY} for group in comparison.groups]
    names = [name for name in ACTIVITY if any(mean[name] is not None for mean in means)]
    if not names:
        return None
    rows = [
        [group.letter, *(_count(mean[name]) for name in names)]
        for group, mean in zip(comparison.groups, means, strict=True)
    ]
    note = (
        "Spikes per neuron; sparsity of activations and of connections; synaptic operations of a sample (a test trial "
        "or a decision), and the effective ones, as NeuroBench defines them. Means over the runs."
    )
    return Table("Activity", ["", *(ACTIVITY[name] for name in names)], rows, 1, note)


def _count(value: float | None) -> str:
    """A number with four significant digits; 0, and from 1000 on, as a whole number."""
    return "0" if value == 0 else number(value) if value is None or abs(value) < 1000 else f"{value:,.0f}"


def of_differences(comparison: Comparison) -> Table:
    """The keys that differ, and their values in each group."""
    note = "Keys whose values differ; seeds, device, threads and output folders are ignored."
    if not comparison.differences:
        note = "No key: all runs have the same config."
        if len({run.run.group for run in comparison.runs}) > 1:
            note = "The configs of these groups could not be read."
        return Table("What differs", ["key"], [], 1, note)
    keys = [plain(key) for key in comparison.differences]
    columns = [[show(values) for values in comparison.differences[key]] for key in comparison.differences]
    if comparison.is_paired:
        head = ["key", *(group.letter for group in comparison.groups)]
        return Table("What differs", head, [[key, *cells] for key, cells in zip(keys, columns, strict=True)], 99, note)
    rows = [[group.letter, *cells] for group, *cells in zip(comparison.groups, *columns, strict=True)]
    return Table("What differs", ["", *keys], rows, 99, note)


def differences_in_short(comparison: Comparison) -> Table:
    """A row for each key that differs: its values, each followed by its groups, such as "0.1 (A, B); 0.2 (C–F)".

    Keys that some groups lack because a part above them differs, such as the keys of another task, are only counted.
    """
    if not comparison.differences:
        return of_differences(comparison)
    parts = {key.removesuffix(TARGET) for key in comparison.differences}
    rows, implied = [], 0
    for key, values in comparison.differences.items():
        above = (key.rsplit(".", at)[0] for at in range(1, key.count(".") + 1))
        if not all(values) and any(part in parts for part in above):
            implied += 1
            continue
        by_value: dict[str, list[int]] = {}
        for at, some in enumerate(values):
            by_value.setdefault(show(some), []).append(at)
        shown = [f"{value} ({_letters(places, comparison)})" for value, places in by_value.items()]
        rows.append([plain(key), "; ".join(first_lines(shown, _MOST_VALUES))])
    note = "Seeds, device, threads and output folders are ignored."
    if implied:
        plural = "s" * (implied > 1)
        note += f" comparison.html also lists {implied} key{plural} of parts that other groups do not have."
    return Table("What differs", ["key", "value (groups)"], rows, 2, note)


def _letters(places: list[int], comparison: Comparison) -> str:
    """The letters of groups, such as "A, C–E". Args: places: of the groups, ascending."""
    spans: list[list[int]] = []
    for place in places:
        if not spans or spans[-1][-1] != place - 1:
            spans.append([])
        spans[-1].append(place)
    letters = [[comparison.groups[place].letter for place in span] for span in spans]
    return ", ".join(f"{each[0]}–{each[-1]}" if len(each) > 2 else ", ".join(each) for each in letters)


def of_pairs(comparison: Comparison, *, in_short: bool = False) -> Table:
    """A row for each pair of groups: the difference of the means, and its interval.

    Args: in_short: of more than 4 groups, only the pairs with the best; without rows if no pair has an interval.
    """
    rows = []
    is_short = in_short and len(comparison.groups) > _MOST_PAIRED_IN_SHORT
    pairs, best = comparison.pairs(with_best=is_short), comparison.best
    if in_short and all(math.isnan(difference.low) for _, _, difference in pairs):
        pairs = []
    for first, second, difference in pairs:
        low, high = difference.low, difference.high
        interval = [difference.how, ""] if math.isnan(low) else [span(low, high, "+"), difference.how]
        rows.append([f"{second.letter} − {first.letter}", number(difference.mean, "+"), *interval])
    note = "An interval that contains 0 shows no difference. Not corrected for multiple comparisons."
    if is_short or not comparison.is_paired:
        extreme = "lowest" if lower_is_better(comparison.metric) else "highest"
        note = f"Each against {best.letter}, {plain(best.label, 80)}, whose mean is the {extreme}. {note}"
    return Table("Differences", ["groups", "difference", "95 % interval", "by"], rows, 1, note)


def of_runs(comparison: Comparison) -> Table:
    """A row for each run."""
    rows = [[run.run.name, group.letter, run.seed, "completed", number(run.value)]
            for group in comparison.groups for run in group.runs]  # fmt: skip
    head = ["folder", "group", "seed", "status", plain(plain_words(comparison.metric))]
    return Table("Runs", head, rows, 4)


def remarks(comparison: Comparison) -> list[str]:
    """A line for each run that was compared in spite of a defect."""
    return [f"{run.run.name}: {run.remark}" for run in comparison.runs if run.remark]


def left_out(runs: Iterable[LeftOut]) -> list[str]:
    """A line for each run that was not compared."""
    return [f"{run.name}, because {run.why}" for run in runs]


def group_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """comparison.csv: a row for each group, with all its numbers and the settings that differ."""
    rows = []
    for at, group in enumerate(comparison.groups):
        row: dict[str, Any] = {"group": group.letter, "label": group.label}
        row |= in_numbers(comparison.metric, group.statistics, group.runs)
        row |= {name: group.mean_of(name) for name in ("wall_seconds", "peak_memory_bytes")}
        row |= {name: mean for name in ACTIVITY if (mean := group.mean_of(name)) is not None}
        settings = comparison.differences.items()
        row |= {f"config.{key}": show(values[at]) if values[at] else None for key, values in settings}
        rows.append(without_nan(row))
    return rows


def run_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """runs.csv: a row for each run, compared or not."""
    rows: list[dict[str, Any]] = []
    for group in comparison.groups:
        for run in group.runs:
            row: dict[str, Any] = {"folder": run.run.name, "experiment": run.run.fact("experiment")}
            row |= {
                "group": group.letter,
                "seed": run.seed,
                "status": "completed",
                "metric": comparison.metric,
                "value": run.value,
            }
            row |= {"left_out": None}
            rows.append(row | {name: run.run.summary.get(name) for name in ("wall_seconds", "peak_memory_bytes")})
    for out in comparison.left_out:
        rows.append({"folder": out.name, "seed": out.seed, "status": out.status, "left_out": out.why})
    return rows


def in_text(summary: Summary, unit: float = 1.0) -> list[str]:
    """n, mean with interval, and range. Args: unit: the divisor of the shown values."""
    n, mean, _, high, _, least, most = summary
    value_range = span(least / unit, most / unit) if n > 1 else number(least / unit)
    return [str(n), with_error(mean / unit, (high - mean) / unit), value_range]


def in_numbers(metric: str, summary: Summary, runs: Iterable[MeasuredRun]) -> dict[str, Any]:
    """The CSV columns that summarise the values of a metric."""
    n, mean, low, high, sd, least, most = summary
    row: dict[str, Any] = {"metric": metric, "runs": n, "seeds": len({run.seed for run in runs}), "mean": mean}
    return row | {"ci_low": low, "ci_high": high, "sd": sd, "min": least, "max": most}


def without_nan(row: dict[str, Any]) -> dict[str, Any]:
    """The row with None, an empty cell in CSV, in place of NaN."""
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in row.items()}


def first_lines(lines: Iterable[str], most: int) -> list[str]:
    """The first `most` lines, and a line with the number of the others."""
    all_lines = list(lines)
    more = len(all_lines) - most
    return all_lines if more <= 0 else [*all_lines[:most], f"and {more} more"]
