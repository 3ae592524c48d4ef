"""`tracetorch compare`: comparison of runs in tables, a figure and a page."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tracetorch.cli.errors import UsageError, did_you_mean, shorten
from tracetorch.cli.shared_arguments import Traceback, parse_folder
from tracetorch.cli.suggest import has, no_such_key
from tracetorch.cli.terminal import console, say
from tracetorch.files import leads_out

if TYPE_CHECKING:
    from rich.console import Console

    from tracetorch.compare import tables
    from tracetorch.compare.collect import LeftOut
    from tracetorch.compare.comparison import Comparison

_MOST_ROWS, _MOST_COLUMNS, _MOST_LINES = 40, 9, 20
_LEAST_WIDTH = 20  # of a column of words; a longer word is broken


def command(
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="DIR", parser=parse_folder, help="Folders of runs or sweeps, or folders that contain some."
        ),
    ],
    by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY",
            help="Group runs by this config key (repeatable). "
            "Default: all keys but seed, device, threads, output, diagnostics.",
        ),
    ] = None,
    metric: Annotated[
        str | None, typer.Option(metavar="NAME", help="Number to compare. Default: the task's first metric.")
    ] = None,
    *,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="KEY", help="Only plot the metric against this number, such as training_memory_bytes or task.delay."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            parser=parse_folder,
            help="Output folder. Default: DIR/compare; for one run, or several DIRs, a new folder in outputs/compare.",
        ),
    ] = None,
    traceback: Traceback = False,
) -> None:
    """Compare runs: means and intervals over seeds, differences, learning curves. Tables, a figure, an HTML page."""
    for option, name in (("--metric", metric), ("--against", against)):
        if name is not None and not name:
            raise UsageError(f"{option}: the name of a number is empty; leave {option} out, or give one")
    found = compare_folders(folders, by or [], metric)
    where = _default(folders) if out is None else out
    if against is not None:
        _scatter(found, against, where)
        return
    words = [*map(str, folders), *(f"--by={key}" for key in by or []), *([f"--metric={metric}"] if metric else [])]
    typed = shlex.join(["tracetorch", "compare", *words, *([f"--out={out}"] if out else [])])

    def leave(folder: Path) -> None:
        from tracetorch.compare.output import (
            write_comparison,  # from here on it takes a second: torch is loaded, for its figures
        )

        write_comparison(found, folder, typed)

    where = write_into(where, [run.run.name for run in found.runs], leave)
    _show(found)
    say(f"comparison.html, .png, .svg, .csv and runs.csv in {where}")


def compare_folders(folders: list[Path], by: list[str], metric: str | None) -> Comparison:
    """Compare the runs in and below folders. Raises: UsageError, one sentence, if there is nothing to compare."""
    for folder in folders:
        if not folder.is_dir():
            raise UsageError(f"{folder} is not a folder; give folders of runs or sweeps, such as outputs")
    from tracetorch.compare.comparison import NothingToCompareError, compare
    from tracetorch.compare.groups import UnknownNameError

    try:
        return compare(folders, by=by, metric=metric)
    except NothingToCompareError as error:
        where = ", ".join(map(str, folders[:3])) + ", …" * (len(folders) > 3)
        raise UsageError(
            f"nothing to compare in {where}: {error}; `tracetorch run` makes a run, `tracetorch resume` finishes one"
        ) from error
    except UnknownNameError as error:
        if error.name == metric and error.name not in by:
            close = did_you_mean(error.name, error.known)
            there = ", ".join(map(shorten, error.known)) or "none"
            raise UsageError(f"--metric {shorten(metric)}: no run has it.{close} There are: {there}.") from error
        raise UsageError(f"--by {_no_such_key(error.name, error.known)}") from error


def _no_such_key(name: str, known: list[str]) -> str:
    nested: dict[str, Any] = {}
    for key in known:
        *parts, last = key.split(".")
        node = nested
        for part in parts:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                break
        else:
            node.setdefault(last, {} if any(other.startswith(f"{key}.") for other in known) else "a value")
    if has(nested, name):
        inside = [key for key in known if key.startswith(f"{name}.")]
        return f"{shorten(name)}: that is a part of the config, not a value. Name one of {', '.join(inside[:8])}."
    return no_such_key(name, nested, lambda group: {})


def _show(found: Comparison) -> None:
    from tracetorch.compare import tables

    groups = len(found.groups)
    title = f"{', '.join(found.experiments)}: {len(found.runs)} runs in {groups} group{'s' * (groups != 1)}"
    say(shorten(title, 200))
    several = [tables.of_differences(found), tables.of_pairs(found)] if groups > 1 else []
    for content in [tables.of_groups(found), *several]:
        _print(content)
    _remark(found, found.left_out)


def _remark(found: Comparison, left_out: Sequence[LeftOut]) -> None:
    """Print remarks on single runs."""
    from tracetorch.compare import tables

    for kind, lines in (("compared, with a remark", tables.remarks(found)), ("left out", tables.left_out(left_out))):
        for line in tables.first_lines(lines, _MOST_LINES):
            say(f"{kind}: {line}")


def _scatter(found: Comparison, key: str, folder: Path | None) -> None:
    from tracetorch.cli.scatter import names_of, scatter

    made = scatter(found, key)
    from tracetorch.compare.scatter_output import table, write_scatter

    where = write_into(folder, [run.run.name for run in found.runs], lambda there: write_scatter(made, there))
    _print(table(made), f"{made.stem}.csv")
    _remark(found, made.left_out)
    say(f"{names_of(made)} in {where}")


def _print(content: tables.Table, whole: str = "comparison.html") -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    screen = console()
    screen.print(content.title, style="bold", soft_wrap=False)
    if content.rows and len(content.head) <= _MOST_COLUMNS:
        rows = content.rows[:_MOST_ROWS]
        table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
        for at, cells in enumerate(zip(content.head, *rows, strict=True)):
            is_word, longest = at < content.words, max(map(len, cells))
            word = max(len(word) for cell in cells for word in cell.split() or [""])
            least = min(word, _LEAST_WIDTH) if is_word else longest
            table.add_column(
                Text(cells[0]),
                justify="left" if is_word else "right",
                no_wrap=least == longest,
                overflow="fold",
                min_width=least,
            )
        for row in rows:
            table.add_row(*map(Text, row))  # as Text, so that a value such as [64] is not read as markup
        if sum(column.min_width or 0 for column in table.columns) + 2 * len(table.columns) - 1 <= screen.width:
            screen.print(table, soft_wrap=False)
        else:
            _print_below_each_other(screen, content.head, rows)
        if len(content.rows) > _MOST_ROWS:
            say(f"and {len(content.rows) - _MOST_ROWS} more, in {whole}")
    elif content.rows:
        say(f"{len(content.head) - 1} keys for {len(content.rows)} groups: see {whole}")
    screen.print(f"{content.note}\n", style="dim", soft_wrap=False)


def _print_below_each_other(screen: Console, head: list[str], rows: list[list[str]]) -> None:
    """A table that is too wide for the terminal: a paragraph for each row, a line for each cell."""
    from rich.padding import Padding

    for first, *cells in rows:
        screen.print(first, style="bold", soft_wrap=False)
        for name, cell in zip(head[1:], cells, strict=True):
            if cell:
                screen.print(Padding(f"{name}: {cell}", (0, 0, 0, 2), expand=False), soft_wrap=False)


def _default(folders: list[Path]) -> Path | None:
    """Inside the given folder; None if there are several folders, or if it is that of a run."""
    return None if len(folders) > 1 or os.path.lexists(folders[0] / "run.json") else compare_folder(folders[0])


def compare_folder(folder: Path) -> Path:
    """Where the comparison of a folder's runs is written. Raises: UsageError if it is a link that leads out of it."""
    place = folder / "compare"
    if leads_out(place, folder):
        raise UsageError(f"{place} is a link that leads out of {folder}; remove it, or name a folder with --out")
    return place


def write_into(folder: Path | None, runs: list[str], leave: Callable[[Path], Any]) -> Path:
    """Write files into a folder; if None, into a new folder below outputs that is named after the runs.

    Returns: the folder. Raises: UsageError if they cannot be written.
    """
    from tracetorch.runs.folder import RunFolder
    from tracetorch.runs.identity import hash_of
    from tracetorch.runs.lock import WRITING, remove_all_abandoned

    try:
        if folder is not None:
            leave(folder)
            return folder
        compare_folder(Path("outputs"))
        for earlier in Path("outputs").glob("compare/*"):
            if remove_all_abandoned(earlier, WRITING):
                with suppress(OSError):  # it holds a comparison
                    earlier.rmdir()
        reserved = RunFolder.reserve(Path("outputs"), "compare", hash_of(runs))
        try:
            leave(reserved.path)
        except BaseException:
            reserved.remove()
            raise
        return reserved.path
    except FileExistsError as error:
        raise UsageError(f"{error.filename} is not a folder; choose another --out") from error
    except OSError as error:
        where = shorten(error.filename or folder or "outputs/compare")
        raise UsageError(f"cannot write to {where}: {error.strerror}; choose another --out") from error
