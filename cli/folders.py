"""Folders that runs left behind, read with care: somebody else may have made them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tracetorch.cli.adapter import Composed, amend, load
from tracetorch.cli.check import check, check_trusted
from tracetorch.cli.errors import UsageError
from tracetorch.files import read_text

if TYPE_CHECKING:
    from tracetorch.runs import RunFolder
    from tracetorch.runs.state import State

NAME_LINE = "# experiment: "
"""How config.yaml begins: with what its run is called."""

_NAME = re.compile(r"\w[\w.+-]{0,99}")


class Found(NamedTuple):
    """A run that was found in a folder."""

    folder: RunFolder
    composed: Composed
    state: State


def find_run(path: Path, trust: Iterable[str] = (), overrides: Iterable[str] = ()) -> Found:
    """The run in a folder, its config checked: what it would call is trusted, and takes what it is given.

    Args:
        trust: packages whose parts the config may name, beside those of traceTorch and torch.
        overrides: changes to single values of its config.
    Raises: UsageError, one sentence.
    """
    if not path.exists():
        raise UsageError(f"there is no folder {path}")
    if not (path / "config.yaml").is_file():
        raise UsageError(f"{path} is no run folder: it has no config.yaml")
    check_links(path)
    composed = load(path / "config.yaml")
    check_trusted(composed.config, path / "config.yaml", trust)
    changes = list(overrides)
    if changes:
        composed = amend(composed.config, changes)
        check_trusted(composed.config, path / "config.yaml", trust)  # a change may name something to call as well
    check(composed.config)

    from tracetorch.runs import RunFolder
    from tracetorch.runs.state import state_of

    state = state_of(path)
    name = plain_name(state.facts.get("experiment", _name_in(path / "config.yaml")))
    return Found(RunFolder(path), composed._replace(experiment=name), state)


def _name_in(config: Path) -> str:
    """What a run's config is named in its first line: it is there before run.json."""
    line = read_text(config).partition("\n")[0]
    return line.removeprefix(NAME_LINE) if line.startswith(NAME_LINE) else ""


def check_training(found: Found) -> None:
    """Raises: UsageError if the folder is that of an evaluation: a network would be trained there."""
    path, kind = found.folder.path.absolute(), found.state.facts.get("kind")
    run = path.parent.parent
    if kind == "evaluation" or (kind is None and path.parent.name == "eval" and (run / "config.yaml").is_file()):
        raise UsageError(f"{found.folder.path} is an evaluation: tracetorch eval {run} begins another")


def plain_name(experiment: Any) -> str:
    """The name of an experiment as a file says it, if it may name a folder; "run" if not."""
    return experiment if isinstance(experiment, str) and _NAME.fullmatch(experiment) else "run"


def tested_checkpoint(found: Found, name: str | None = None) -> Path:
    """The checkpoint that was tested, or would be; or the one with this name.

    Raises: UsageError if there is none.
    """
    summary = found.state.facts.get("summary")
    tested = summary.get("tested") if isinstance(summary, dict) else None
    path = found.folder.checkpoint(name or ("best" if tested == "best" else "latest"))
    if not path.exists():
        raise UsageError(f"there is no checkpoint {path}" + ("" if name else "; the run has written none yet"))
    return path


def check_links(folder: Path) -> None:
    """Nothing in the folder of a run, or of several, may lead out of it: what is read or written would lie elsewhere.

    Raises: UsageError that names the link.
    """
    inside = folder.resolve()
    for path in [*folder.iterdir(), *(folder / "checkpoints").glob("*"), *(folder / "plots").glob("*")]:
        if path.is_symlink() and not path.resolve().is_relative_to(inside):
            raise UsageError(f"{path} is a link that leads out of {folder}; remove it first")
