"""The tables of the README from the JSON of the benchmarks.

python benchmarks/results.py train_step.json memory.json stream.json sparsity.json startup.json side_by_side.json
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from common import describe, milliseconds, plain_errors

Row = dict[str, Any]
Paths = Annotated[list[Path], typer.Argument(help="JSON files of the benchmarks.")]


def main(paths: Paths) -> None:
    """Print Markdown: a heading, the command, the machine and the tables of each file."""
    for path in paths:
        with plain_errors():
            content = json.loads(path.read_text(encoding="utf-8"))
            machine, tables = content["provenance"], TABLES[content["benchmark"]](content["rows"])
        typer.echo(f"### {content['benchmark']}\n\n`python benchmarks/{machine['command']}`\n\n{describe(machine)}\n")
        typer.echo("\n\n".join(tables) + "\n")


def train_step(rows: Sequence[Row]) -> list[str]:
    """A table for each network, batch and input; three columns for each length."""

    def cells(row: Row) -> list[str]:
        if row["skipped"]:
            return [row["skipped"], "", ""]
        return [_milliseconds(row["seconds"]), _ratio(row, "to_floor"), _ratio(row, "to_ours")]

    def headings(steps: Any) -> list[str]:
        return [f"T = {steps:,}: ms", "× floor", "× ours"]

    tables = []
    for setting in dict.fromkeys((row["network"], row["batch"], row["input"]) for row in rows):
        own_rows = [row for row in rows if (row["network"], row["batch"], row["input"]) == setting]
        title = f"**{setting[0]}, batch {setting[1]}, {setting[2]} input**"
        tables.append(f"{title}\n\n{_grid(own_rows, 'contender', 'steps', headings, cells)}")
    return tables


def memory(rows: Sequence[Row]) -> list[str]:
    """A row for each contender, a column for each length."""

    def cells(row: Row) -> list[str]:
        return [row["skipped"] or f"{row['extra_bytes'] / 2**20:,.1f} MiB, {row['seconds']:,.3g} s"]

    return [_grid(rows, "contender", "steps", lambda steps: [f"T = {steps:,}"], cells)]


def stream(rows: Sequence[Row]) -> list[str]:
    """A row for each contender, two columns for each network."""

    def cells(row: Row) -> list[str]:
        return [f"{row['steps_per_second']['median']:,.0f}", _ratio(row, "to_snntorch")]

    return [_grid(rows, "contender", "network", lambda network: [f"{network}: steps/s", "× snntorch"], cells)]


def startup(rows: Sequence[Row]) -> list[str]:
    """A row for each command."""
    lines = [[f"`{row['command']}`", _milliseconds(row["warm"]), _milliseconds(row["cold"])] for row in rows]
    return [_markdown(["", "warm: ms", "cold: ms"], lines)]


def side_by_side(rows: Sequence[Row]) -> list[str]:
    """A row for each rule and number of runs at once, a column for each number of spins."""

    def cells(row: Row) -> list[str]:
        return [_milliseconds(row["seconds"])]

    named = [row | {"runs": f"{row['rule']}, {row['at_once']} at once"} for row in rows]
    return [_grid(named, "runs", "spins", lambda spins: [f"{spins:,} spins: ms"], cells)]


def sparsity(rows: Sequence[Row]) -> list[str]:
    """A row for each share of active inputs, a column with the ratio of the two paths for each precision."""

    def cells(row: Row) -> list[str]:
        return [f"{row['sparse'] / row['dense']:.2f}"]

    named = [row | {"share": f"{row['share']:.0%}"} for row in rows]
    return [_grid(named, "share", "precision", lambda precision: [f"{precision}: sparse / dense"], cells)]


TABLES: dict[str, Callable[[Sequence[Row]], list[str]]] = {
    "train_step": train_step,
    "memory": memory,
    "stream": stream,
    "startup": startup,
    "side_by_side": side_by_side,
    "sparsity": sparsity,
}


def _grid(
    rows: Sequence[Row],
    row_key: str,
    column_key: str,
    headings: Callable[[Any], list[str]],
    cells: Callable[[Row], list[str]],
) -> str:
    """A table whose rows and columns are the values of two keys; cells without a measurement are empty."""
    columns, names = (list(dict.fromkeys(row[key] for row in rows)) for key in (column_key, row_key))
    found = {(row[row_key], row[column_key]): cells(row) for row in rows}
    empty = [""] * len(headings(columns[0]))
    lines = [[name, *(text for column in columns for text in found.get((name, column), empty))] for name in names]
    return _markdown(["", *(text for column in columns for text in headings(column))], lines)


def _markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, rule, *lines])


def _milliseconds(seconds: Row) -> str:
    """Median, and minimum in brackets."""
    return f"{milliseconds(seconds['median'])} ({milliseconds(seconds['min'])})"


def _ratio(row: Row, key: str) -> str:
    """A ratio with three digits; "" if it is missing."""
    return f"{row[key]:.3g}" if key in row else ""


if __name__ == "__main__":
    typer.run(main)
