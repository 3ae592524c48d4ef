"""`tracetorch clean`: list failed or old runs; with --yes, remove them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tracetorch.cli.errors import FAILED, UsageError, complain
from tracetorch.cli.shared_arguments import Traceback, folder_option, parse_age
from tracetorch.cli.terminal import say

Root = Annotated[Path, folder_option(help="Only runs below this folder.")]
Failed = Annotated[
    bool, typer.Option("--failed", help="Runs that failed, or have a damaged run.json and no checkpoint.")
]
Unfinished = Annotated[bool, typer.Option("--unfinished", help="Runs that were interrupted or killed.")]
Older = Annotated[str | None, typer.Option(metavar="AGE", help="Only runs older than AGE, such as 7d or 12h.")]
Keep = Annotated[int, typer.Option(metavar="N", min=0, help="Keep the N best of each experiment.")]
Yes = Annotated[bool, typer.Option("--yes", help="Remove them; without it, only list them.")]


def command(
    *,
    root: Root = Path("outputs"),
    failed: Failed = False,
    unfinished: Unfinished = False,
    older_than: Older = None,
    keep_best: Keep = 0,
    yes: Yes = False,
    traceback: Traceback = False,
) -> None:
    """List failed or old runs; with --yes, remove them."""
    if not (failed or unfinished or older_than):
        raise UsageError("say which runs: --failed, --unfinished, --older-than 7d, or several of them")
    age = None if older_than is None else parse_age("--older-than", older_than)
    if not root.is_dir():
        raise UsageError(f"there is no folder {root}; give the folder of your runs (output.root) with --root")

    from tracetorch.runs.cleanup import choose, remove

    chosen, kept = choose(root, failed=failed, unfinished=unfinished, older_than_seconds=age, keep_best=keep_best)
    for run in kept:
        say(f"skipped  {run.path}  ({run.why})")
    if not chosen:
        say(f"nothing to remove in {root}")
        return
    removed, first_error = 0, ""
    for removable in chosen:
        path, size = removable.path, f"{removable.mebibytes:,.1f} MiB"
        say(f"{'remove' if yes else 'would remove'}  {path}  ({removable.status}, {removable.age}, {size})")
        if yes:
            try:
                removed += remove(path, root)
            except OSError as error:
                first_error = first_error or f"{error.filename or path}: {error.strerror or error}"
    if not yes:
        total = sum(removable.mebibytes for removable in chosen)
        say(f"{len(chosen)} runs, {total:,.1f} MiB; add --yes to remove them")
        return
    say(f"{removed} of {len(chosen)} runs removed")
    if first_error:
        complain(f"some runs could not be removed: {first_error}")
        raise typer.Exit(FAILED)
