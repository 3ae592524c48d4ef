"""`tracetorch runs`: list runs, filter and sort them."""

from __future__ import annotations

import fnmatch
import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tracetorch.cli.errors import UsageError, did_you_mean, shorten
from tracetorch.cli.shared_arguments import Traceback, as_folder, parse_age
from tracetorch.cli.suggest import no_such_key, value_at
from tracetorch.cli.terminal import say
from tracetorch.printable import printable

if TYPE_CHECKING:
    from tracetorch.runs.listing import ListedRun

_MISSING = object()
STATUSES = ("completed", "failed", "interrupted", "killed", "running", "broken", "unreadable")

Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="FOLDER|KEY=VALUE", help="Folders to search (default: outputs), and values of the config to require."
    ),
]
Experiment = Annotated[
    str | None, typer.Option(metavar="NAME", help="Only this experiment; * stands for any letters, as in 'mnist*'.")
]
Since = Annotated[
    str | None, typer.Option(metavar="AGE", help="Only runs of the last 7d or 12h, or since a date, 2026-01-31.")
]
Status = Annotated[
    str | None, typer.Option(metavar="NAME", help="Only runs with this status, such as completed or failed.")
]
Tag = Annotated[list[str] | None, typer.Option(metavar="NAME", help="Only runs with this tag (repeatable: with all).")]
Sort = Annotated[
    str | None,
    typer.Option(
        metavar="KEY",
        help="Sort, best first: when (default), experiment, status, duration, folder, metric or any result.",
    ),
]
Best = Annotated[int | None, typer.Option(metavar="N", min=1, help="The N best of each experiment, by --sort.")]
Limit = Annotated[int, typer.Option(metavar="N", min=0, help="Lines of the table; 0: all.")]
Format = Annotated[Literal["table", "csv", "json"], typer.Option("--format", help="table, csv or json.")]


def command(
    words: Words = None,
    *,
    experiment: Experiment = None,
    since: Since = None,
    status: Status = None,
    tag: Tag = None,
    sort: Sort = None,
    best: Best = None,
    limit: Limit = 40,
    format_: Format = "table",
    traceback: Traceback = False,
) -> None:
    """List runs: the newest first, or the best. Jobs of sweeps are included. No database: reads the run folders."""
    folders = [as_folder(word) for word in words or () if "=" not in word] or [Path("outputs")]
    conditions = [word.partition("=")[::2] for word in words or () if "=" in word]
    for folder in folders:
        if not folder.is_dir():
            hint = "; `tracetorch run` makes runs there" if folder == Path("outputs") else ""
            raise UsageError(f"there is no folder {folder}{hint}")
    start = None if since is None else _start(since)
    if status is not None and status not in STATUSES:
        close, known = did_you_mean(status, STATUSES), ", ".join(STATUSES)
        raise UsageError(f"--status {shorten(status)}: there is no such status.{close} There are: {known}.")

    from tracetorch.runs.listing import list_runs

    try:
        found = list_runs(folders)
    except OSError as error:
        raise UsageError(f"{error.filename} cannot be read: {error.strerror}") from error
    _check_keys(found, [key for key, _ in conditions])
    chosen = [run for run in found if _matches(run, conditions, status, tag or [], start)]
    if experiment is not None:
        names = {run.experiment for run in found}
        if not fnmatch.filter(names, experiment):
            listing = ", ".join(shorten(name, 40) for name in sorted(names)[:20]) or "none"
            close = did_you_mean(experiment, names)
            raise UsageError(f"--experiment {shorten(experiment)}: no run has it.{close} There are: {listing}.")
        chosen = [run for run in chosen if fnmatch.fnmatchcase(run.experiment, experiment)]
    key = sort or ("metric" if best else "when")
    chosen = _sorted(chosen, key)
    if best is not None:
        chosen = _best(chosen, best)
    if format_ == "table":
        _print_table(chosen, limit, len(found), _extra(chosen, sort))
    else:
        from tracetorch.runs.records import to_csv, to_json

        rows = [_row(run) for run in chosen]
        text = to_json(rows, indent=2) if format_ == "json" else to_csv([_flat(row) for row in rows]).rstrip("\n")
        say(*text.split("\n"))


def _start(since: str) -> datetime:
    """The time from which runs are listed. Args: since: an age or a date. Raises: UsageError."""
    now = datetime.now().astimezone()
    try:
        return datetime.combine(date.fromisoformat(since), datetime.min.time()).astimezone()
    except ValueError:
        pass
    try:
        return now - timedelta(seconds=parse_age("--since", since, f"; or a date, such as {now:%Y-%m-%d}"))
    except OverflowError:
        raise UsageError(f"--since {shorten(since)}: that is before the first calendar year") from None


def _matches(
    run: ListedRun, conditions: Iterable[tuple[str, ...]], status: str | None, tags: list[str], start: datetime | None
) -> bool:
    if status is not None and run.status != status:
        return False
    if not set(tags) <= set(run.tags) or (start is not None and (run.when is None or run.when < start)):
        return False
    return all(_has_value(run.facts, key, wanted) for key, wanted in conditions)


def _check_keys(runs: list[ListedRun], keys: Iterable[str]) -> None:
    """Raises: UsageError for a key that no run has."""
    for key in keys:
        if runs and not any(_values(run.facts, key) for run in runs):
            from tracetorch.cli.adapter import keys_of  # loads Hydra

            joined: dict[str, Any] = {}
            for run in runs:
                _join(joined, run.facts.get("config"))
            raise UsageError(no_such_key(key, joined, keys_of))


def _join(node: dict[str, Any], more: Any) -> None:
    """Add, in place, the keys of a config, so that all keys of several configs are known."""
    for name, value in more.items() if isinstance(more, dict) else ():
        if isinstance(value, dict) and isinstance(node.setdefault(name, {}), dict):
            _join(node[name], value)
        else:
            node.setdefault(name, value)


def _values(facts: dict[str, Any], key: str) -> list[Any]:
    """The values of a key in the config of a run, and in run.json itself (seed, rule, device)."""
    config = facts.get("config")
    values = [value_at(config, key, _MISSING) if isinstance(config, dict) else _MISSING, facts.get(key, _MISSING)]
    return [value for value in values if value is not _MISSING]


def _has_value(facts: dict[str, Any], key: str, wanted: str) -> bool:
    """Whether a key has this value, compared as it is typed."""
    return any(_is_value(value, wanted) for value in _values(facts, key))


def _is_value(value: Any, wanted: str) -> bool:
    if isinstance(value, bool) or value is None:
        return wanted.lower() == {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, int | float):
        try:
            return float(wanted) == value
        except ValueError:
            return False
    if isinstance(value, list):
        return wanted.replace(" ", "") == f"[{','.join(map(str, value))}]"
    return str(value) == wanted


def _sorted(runs: list[ListedRun], key: str) -> list[ListedRun]:
    """Sort runs: the best first, runs without the value last. Raises: UsageError for a key that no run has."""
    from tracetorch.runs.folder import lower_is_better

    def number(run: ListedRun) -> float | None:
        if key == "when":
            return run.when.timestamp() if run.when else None
        name: str = {"duration": "wall_seconds"}.get(key, key)
        value = run.summary.get(name)
        if run.metric and key in ("metric", run.metric[0]):
            name, value = run.metric
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            return None
        return -value if lower_is_better(name) else value

    texts: dict[str, Callable[[ListedRun], str]] = {
        "experiment": lambda run: run.experiment,
        "status": lambda run: run.status,
        "folder": lambda run: str(run.folder),
    }
    newest = sorted(runs, key=lambda run: (run.when.timestamp() if run.when else 0.0, str(run.folder)), reverse=True)
    if key in texts:
        return sorted(newest, key=texts[key])
    numbers = {id(run): number(run) for run in newest}
    if runs and all(value is None for value in numbers.values()) and key not in ("metric", "when", "duration"):
        known = sorted({name for run in runs for name in run.summary})
        close = did_you_mean(key, known)
        raise UsageError(f"--sort {shorten(key)}: no run has it.{close} There are: {', '.join(map(shorten, known))}.")
    return sorted(newest, key=lambda run: (numbers[id(run)] is None, -(numbers[id(run)] or 0.0)))


def _best(runs: list[ListedRun], count: int) -> list[ListedRun]:
    """The first `count` runs of each experiment."""
    groups: dict[str, list[ListedRun]] = defaultdict(list)
    for run in runs:
        if len(groups[run.experiment]) < count:
            groups[run.experiment].append(run)
    return [run for group in groups.values() for run in group]


def _row(run: ListedRun) -> dict[str, Any]:
    name, value = run.metric or (None, None)
    when = run.when.isoformat(timespec="seconds") if run.when else None
    row: dict[str, Any] = {"folder": str(run.folder), "when": when, "experiment": run.experiment, "status": run.status}
    row |= {"metric": name, "value": value, "loss": run.summary.get("loss")}
    return row | {"wall_seconds": run.summary.get("wall_seconds"), "tags": run.tags, "summary": run.summary}


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """A row for CSV: without the summary; the tags in one cell."""
    return {**{name: value for name, value in row.items() if name != "summary"}, "tags": " ".join(row["tags"])}


def _extra(runs: list[ListedRun], sort: str | None) -> str:
    """The result by which the runs are sorted, if the table has no column for it."""
    known = {"when", "experiment", "status", "duration", "metric", "loss", "folder", None}
    return "" if sort in known or all(run.metric and run.metric[0] == sort for run in runs) else str(sort)


def _print_table(runs: list[ListedRun], limit: int, total: int, extra: str) -> None:
    shown = runs[: limit or None]
    names = {run.metric[0] for run in shown if run.metric}
    heading = printable(names.pop(), 20) if len(names) == 1 else ""
    has_tags, has_loss = any(run.tags for run in shown), any("loss" in run.summary for run in shown)
    head = ["when", "experiment", "status", heading or "metric", *["loss"] * has_loss, *[extra] * bool(extra)]
    head += ["took", *["tags"] * has_tags, "folder"]
    rows = [head]
    for run in shown:
        metric = "" if run.metric is None else f"{'' if heading else f'{run.metric[0]} '}{_number(run.metric[1])}"
        row = [f"{run.when:%Y-%m-%d %H:%M}" if run.when else "", run.experiment, run.status, metric]
        row += [_number(run.summary.get(name)) for name in (*["loss"] * has_loss, *[extra] * bool(extra))]
        row += [_duration(run.summary.get("wall_seconds")), *[" ".join(run.tags)] * has_tags]
        rows.append([printable(text, 40) for text in row] + [printable(run.folder, 1000)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    if shown:
        lines = ("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows)
        say(*lines)
    if len(runs) > len(shown):
        say(f"and {len(runs) - len(shown):,} more: --limit 0 shows all")
    if not runs:
        say(f"none of {total:,} runs" if total else "no runs yet")


def _number(value: object) -> str:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}" if abs(value) < 1e4 else f"{value:.4g}"


def _duration(seconds: object) -> str:
    """A time in its largest unit."""
    if not isinstance(seconds, int | float):
        return ""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"
