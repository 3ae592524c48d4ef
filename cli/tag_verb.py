"""`tracetorch tag`: add a tag to runs, or remove it."""

from __future__ import annotations

from typing import Annotated

import typer

from tracetorch.cli.errors import UsageError, quote, shorten
from tracetorch.cli.shared_arguments import Traceback, as_folder
from tracetorch.cli.terminal import say

Words = Annotated[
    list[str],
    typer.Argument(metavar="DIR... NAME", help="Folders of runs or of sweeps, and the tag, such as paper."),
]
Remove = Annotated[bool, typer.Option("--remove", help="Remove the tag.")]


def command(words: Words, *, remove: Remove = False, traceback: Traceback = False) -> None:
    """Tag runs, in tags.txt of their folders. `runs` and `compare` select by --tag; `clean` keeps tagged runs."""
    from tracetorch.cli.folders import holds
    from tracetorch.runs.listing import list_runs
    from tracetorch.runs.lock import REMOVING
    from tracetorch.runs.tags import FILE, is_tag, read_tags, write_tags

    *folders, name = words
    if not folders:
        if as_folder(name).is_dir():
            raise UsageError(f"the tag is missing: tracetorch tag {quote(name)} NAME")
        raise UsageError(f"the folder is missing: tracetorch tag DIR {quote(name)}")
    if not is_tag(name):
        advice = "a tag is one word of letters, digits, and . _ + -, such as paper"
        if name and as_folder(name).is_dir():
            advice = f"the last word is the tag, and this is a folder: tracetorch tag {shorten(' '.join(words))} NAME"
        raise UsageError(f"'{shorten(name)}': {advice}")
    runs = []
    for folder in map(as_folder, folders):
        if not folder.is_dir():
            raise UsageError(f"there is no folder {folder}")
        try:
            found = [folder] if holds(folder, "run.json") else [run.folder for run in list_runs([folder])]
        except OSError as error:
            raise UsageError(f"{error.filename} cannot be read: {error.strerror}") from error
        if not found or folder.name.startswith(REMOVING):
            raise UsageError(f"{folder} is not the folder of a run, and there is none below it")
        runs += found
    changed = 0
    for run in dict.fromkeys(runs):
        if (run / FILE).is_symlink():
            raise UsageError(f"{run / FILE} is a link; remove it first")
        before = read_tags(run)
        after = [tag for tag in before if tag != name] if remove else sorted({*before, name})
        if after != before:
            write_tags(run, after)
            changed += 1
    verb = "removed from" if remove else "given to"
    unchanged = len(dict.fromkeys(runs)) - changed
    remark = f"; {unchanged} {'did not have' if remove else 'had'} it" if unchanged else ""
    say(f"{name}: {verb} {changed} run{'s' * (changed != 1)}{remark}")
