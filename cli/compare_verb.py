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
from tracetorch.cli.shared_arguments import Traceback, folder_argument, folder_option
from tracetorch.cli.suggest import has_key, no_such_key
from tracetorch.cli.terminal import console, say
from tracetorch.files import leads_out

if TYPE_CHECKING:
    from rich.console import Console

    from tracetorch.compare import tables
    from tracetorch.compare.collect import LeftOut
    from tracetorch.compare.comparison import Comparison
    from tracetorch.compare.scatter import Scatter

_MOST_ROWS, _MOST_COLUMNS, _MOST_LINES, _MOST_NAMED = 40, 9, 20, 40
_LEAST_WIDTH = 20  # of a column of text, which may break longer words


Folders = Annotated[list[Path], folder_argument(help="Folders of runs or sweeps, or folders that contain some.")]
By = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY",
        help="Group runs by this config key (repeatable). "
        "Default: all keys but seed, device, threads, output, diagnostics, logger.",
    ),
]
Metric = Annotated[
    str | None, typer.Option(metavar="NAME", help="Number to compare. Default: the task's first metric.")
]
ScatterKey = Annotated[
    str | None,
    typer.Option(
        metavar="KEY", help="Only plot the metric against this number, such as training_memory_bytes or task.delay."
    ),
]
Tag = Annotated[str | None, typer.Option(metavar="NAME", help="Only runs with this tag (see tracetorch tag).")]
Out = Annotated[
    Path | None,
    folder_option(
        help="Output folder. Default: DIR/compare; for one run, or several DIRs, a new folder in outputs/compare."
    ),
]


def command(
    folders: Folders,
    by: By = None,
    metric: Metric = None,
    *,
    scatter: ScatterKey = None,
    tag: Tag = None,
    out: Out = None,
    traceback: Traceback = False,
) -> None:
    """Compare runs: means and intervals over seeds, differences, learning curves. Tables, a figure, an HTML page."""
    for option, name in (("--metric", metric), ("--scatter", scatter)):
        if name is not None and not name:
            raise UsageError(f"{option}: the name of a number is empty; leave {option} out, or give one")
    comparison = _compare_folders(folders, by or [], metric, tag)
    folder = out
    if out is None and len(folders) == 1 and not os.path.lexists(folders[0] / "run.json"):
        folder = _output_folder(folders[0])
    if scatter is not None:
        message, drawn = _write_scatter(comparison, scatter, folder)
        from tracetorch.compare.scatter import table

        _print(table(drawn), f"{drawn.stem}.csv")
        _remark(comparison, drawn.left_out)
        say(message)
        return
    words = [*map(str, folders), *(f"--by={key}" for key in by or []), *([f"--metric={metric}"] if metric else [])]
    words += [f"--tag={tag}"] if tag else []
    typed = shlex.join(["tracetorch", "compare", *words, *([f"--out={out}"] if out else [])])

    def write(folder: Path) -> None:
        from tracetorch.compare.output import write_comparison

        write_comparison(comparison, folder, typed)  # takes a second: it loads torch, for the figure

    written = _write_into(folder, [run.run.name for run in comparison.runs], write)
    _show(comparison)
    say(f"comparison.html, .png, .svg, .csv and runs.csv in {written}")


def _compare_folders(folders: list[Path], by: list[str], metric: str | None, tag: str | None = None) -> Comparison:
    """Compare the runs in and below folders. Raises: UsageError, one sentence."""
    for folder in folders:
        if not folder.is_dir():
            raise UsageError(f"{folder} is not a folder; give folders of runs or sweeps, such as outputs")
    from tracetorch.compare.comparison import NothingToCompareError, compare
    from tracetorch.compare.groups import UnknownNameError

    try:
        return compare(folders, by=by, metric=metric, tag=tag)
    except NothingToCompareError as error:
        names = ", ".join(map(str, folders[:3])) + ", …" * (len(folders) > 3)
        raise UsageError(
            f"nothing to compare in {names}: {error}; `tracetorch run` makes a run, `tracetorch resume` finishes one"
        ) from error
    except UnknownNameError as error:
        if error.name not in by:
            close = did_you_mean(error.name, error.known)
            listing = ", ".join(map(shorten, error.known)) or "none"
            raise UsageError(f"--metric {shorten(metric)}: no run has it.{close} There are: {listing}.") from error
        raise UsageError(f"--by {_no_such_key(error.name, error.known)}") from error


def _no_such_key(name: str, known: list[str]) -> str:
    """The message for a key that no run has, or that names a part. Args: known: the dotted keys of the runs."""
    nested: dict[str, Any] = {}
    for key in known:
        *parts, last = key.split(".")
        node = nested
        for part in parts:
            node = node.setdefault(part, {})
        node.setdefault(last, {} if any(other.startswith(f"{key}.") for other in known) else "a value")
    if has_key(nested, name):
        inner = [key for key in known if key.startswith(f"{name}.")]
        return f"{shorten(name)}: that is a part of the config, not a value. Name one of {', '.join(inner[:8])}."
    return no_such_key(name, nested)


def _show(comparison: Comparison) -> None:
    from tracetorch.compare import tables

    num_groups = len(comparison.groups)
    experiments = ", ".join(comparison.experiments)
    title = f"{experiments}: {len(comparison.runs)} runs in {num_groups} group{'s' * (num_groups != 1)}"
    say(shorten(title, 200))
    _print(tables.of_groups(comparison))
    if num_groups > 1:
        pairs = tables.of_pairs(comparison, in_short=True)
        if pairs.rows:
            _print(pairs)
        _print(tables.differences_in_short(comparison))
    if activity := tables.of_costs(comparison):
        _print(activity)
    _remark(comparison, comparison.left_out)


def _remark(comparison: Comparison, left_out: Sequence[LeftOut]) -> None:
    from tracetorch.compare import tables

    lines_by_kind = {"compared, with a remark": tables.remarks(comparison), "left out": tables.left_out(left_out)}
    for kind, lines in lines_by_kind.items():
        for line in tables.first_lines(lines, _MOST_LINES):
            say(f"{kind}: {line}")


def draw_scatter(folder: Path, by: list[str], metric: str | None, key: str) -> str:
    """Plot the runs of a folder into its subfolder `compare`. Returns: the files, as a message. Raises: UsageError."""
    return _write_scatter(_compare_folders([folder], by, metric), key, _output_folder(folder))[0]


def _write_scatter(comparison: Comparison, key: str, folder: Path | None) -> tuple[str, Scatter]:
    """Plot a comparison against a quantity. Returns: the files, as a message; the plotted numbers."""
    scatter = _scatter(comparison, key)
    from tracetorch.compare.scatter import write_scatter

    written = _write_into(folder, [run.run.name for run in comparison.runs], lambda path: write_scatter(scatter, path))
    return f"{scatter.stem}.png, .svg and .csv in {written}", scatter


def _scatter(comparison: Comparison, key: str) -> Scatter:
    """The numbers of a plot against a quantity. Raises: UsageError if no run has it, or if it is not a number."""
    from tracetorch.compare.groups import UnknownNameError
    from tracetorch.compare.scatter import NoNumberError, make_scatter

    try:
        return make_scatter(comparison, key)
    except NoNumberError as error:
        values = shorten(", ".join(error.values[:8]))
        advice = f"to group by it: --by {shorten(key)}"
        raise UsageError(f"--scatter {shorten(key)}: its values are not numbers ({values}); {advice}") from error
    except UnknownNameError as error:
        last = {name.rpartition(".")[2]: name for name in error.known}
        close = did_you_mean(key, error.known)
        if not close and (name := last.get(key.rpartition(".")[2])):
            close = f" Did you mean '{name}'?"
        listing = ", ".join(map(shorten, error.known[:_MOST_NAMED])) + ", …" * (len(error.known) > _MOST_NAMED)
        raise UsageError(f"--scatter {shorten(key)}: no run has it.{close} There are: {listing or 'none'}.") from error


def _print(content: tables.Table, file: str = "comparison.html") -> None:
    """Print a table: at most 40 rows; of too many columns, only the number. Args: file: of the whole table."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    screen = console()
    screen.print(content.title, style="bold", soft_wrap=False)
    if content.rows and len(content.head) <= _MOST_COLUMNS:
        rows = content.rows[:_MOST_ROWS]
        table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
        for column, cells in enumerate(zip(content.head, *rows, strict=True)):
            is_text, longest_cell = column < content.words, max(map(len, cells))
            longest_word = max(len(word) for cell in cells for word in cell.split() or [""])
            least = min(longest_word, _LEAST_WIDTH) if is_text else longest_cell
            table.add_column(
                Text(cells[0]),
                justify="left" if is_text else "right",
                no_wrap=least == longest_cell,
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
            say(f"and {len(content.rows) - _MOST_ROWS} more, in {file}")
    elif content.rows:
        say(f"{len(content.head) - 1} keys for {len(content.rows)} groups: see {file}")
    screen.print(f"{content.note}\n", style="dim", soft_wrap=False)


def _print_below_each_other(screen: Console, head: list[str], rows: list[list[str]]) -> None:
    """Print a table that is too wide: a paragraph for each row, a line for each cell."""
    from rich.padding import Padding

    for first, *cells in rows:
        screen.print(first, style="bold", soft_wrap=False)
        for name, cell in zip(head[1:], cells, strict=True):
            if cell:
                screen.print(Padding(f"{name}: {cell}", (0, 0, 0, 2), expand=False), soft_wrap=False)


def _output_folder(folder: Path) -> Path:
    """The output folder inside a folder of runs. Raises: UsageError if it is a link that leads out of it."""
    output = folder / "compare"
    if leads_out(output, folder):
        raise UsageError(f"{output} is a link that leads out of {folder}; remove it, or name a folder with --out")
    return output


def _write_into(folder: Path | None, runs: list[str], write: Callable[[Path], Any]) -> Path:
    """Call `write` with a folder; if None, with a new one in outputs/compare, named after the time and the runs.

    Returns: the folder. Raises: UsageError if it cannot be written.
    """
    from tracetorch.runs.folder import RunFolder
    from tracetorch.runs.identity import hash_of
    from tracetorch.runs.lock import WRITING, remove_all_abandoned

    try:
        if folder is not None:
            write(folder)
            return folder
        _output_folder(Path("outputs"))
        for earlier in Path("outputs").glob("compare/*"):
            if remove_all_abandoned(earlier, WRITING):
                with suppress(OSError):  # not empty: it holds a comparison
                    earlier.rmdir()
        reserved = RunFolder.reserve(Path("outputs"), "compare", hash_of(runs))
        try:
            write(reserved.path)
        except BaseException:
            reserved.remove()
            raise
        return reserved.path
    except FileExistsError as error:
        raise UsageError(f"{error.filename} is not a folder; choose another --out") from error
    except OSError as error:
        path = shorten(error.filename or folder or "outputs/compare")
        raise UsageError(f"cannot write to {path}: {error.strerror}; choose another --out") from error
