"""Reads the folders of runs, which may come from elsewhere and are not trusted."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tracetorch.cli.adapter import Composed, amend, load
from tracetorch.cli.check import check, check_trusted
from tracetorch.cli.errors import UsageError, quote, shorten
from tracetorch.files import leads_out, read_text, real
from tracetorch.renamed import current

if TYPE_CHECKING:
    from tracetorch.runs import RunFolder
    from tracetorch.runs.folder import RunState

NAME_LINE = "# experiment: "
"""The start of config.yaml; the experiment's name follows."""

_NAME = re.compile(r"\w[\w.+-]{0,99}")


class Found(NamedTuple):
    """A run that was found in a folder."""

    folder: RunFolder
    composed: Composed
    state: RunState


def find_run(path: Path, trust: Collection[str] = (), overrides: Iterable[str] = ()) -> Found:
    """The run in a folder, its config checked: all that it calls is trusted and takes its arguments.

    Args:
        trust: packages whose parts the config may name, in addition to those of traceTorch and torch.
        overrides: changes to single values of its config.
    Raises: UsageError, one sentence.
    """
    if not os.path.lexists(path):
        raise UsageError(f"there is no folder {path}")
    if not holds(path, "config.yaml"):
        raise UsageError(f"{path} is not a run folder: it has no config.yaml")
    check_links(path)
    composed = load(path / "config.yaml")
    check_trusted(composed.config, path / "config.yaml", trust)
    changes = list(overrides)
    if changes:
        composed = amend(composed.config, changes)
        check_trusted(composed.config, path / "config.yaml", trust)  # a change may name something to call as well
    check(composed.config)

    from tracetorch.runs import RunFolder
    from tracetorch.runs.folder import state_of

    state = state_of(path)
    name = plain_name(state.facts["experiment"] if "experiment" in state.facts else _name_in(path / "config.yaml"))
    return Found(RunFolder(path), composed._replace(experiment=name), state)


def _name_in(config: Path) -> str:
    """The experiment's name in the first line of config.yaml, which is written before run.json. Raises: UsageError."""
    try:
        line = read_text(config).partition("\n")[0]
    except (OSError, ValueError) as error:
        raise UsageError(f"{config} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    return line.removeprefix(NAME_LINE) if line.startswith(NAME_LINE) else ""


def check_training(found: Found) -> None:
    """Raises: UsageError if the folder is that of an evaluation: a network would be trained there."""
    path, kind = found.folder.path, found.state.facts.get("kind")
    places = [real(path), path.absolute()]  # the second if "eval" itself is a link
    runs = [place.parent.parent for place in places if place.parent.name == "eval"]
    of = next((one for one in runs if (one / "config.yaml").is_file()), None)
    if kind == "evaluation" or (kind is None and of):
        run = of or places[0].parent.parent
        raise UsageError(f"{path} is an evaluation; to start another: tracetorch eval {quote(run)}")


class ConfigDifference(NamedTuple):
    """Where two configs differ first."""

    key: str
    one: Any  # None, too, where there is no such key
    other: Any


def config_difference(one: Any, other: Any, key: str = "") -> ConfigDifference | None:
    """Where two plain values differ first; None if they are equal. 1 and 1.0 are, 1 and true are not."""
    if isinstance(one, dict) and isinstance(other, dict):
        pairs = ((f"{key}.{name}" if key else str(name), one.get(name), other.get(name)) for name in {**one, **other})
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = ((f"{key}[{at}]", *pair) for at, pair in enumerate(zip(one, other, strict=True)))
    else:
        same = one == other and isinstance(one, bool) == isinstance(other, bool)
        return None if same or one is other else ConfigDifference(key, one, other)
    return next((found for name, a, b in pairs if (found := config_difference(a, b, name))), None)


def check_unchanged(folder: RunFolder, config: dict[str, Any]) -> None:
    """A run continues with the config of its start; only output, device and threads may differ.

    The same data may be in another place now. A folder of an older version does not record the config of its start.
    Raises: UsageError that names the first key that differs.
    """
    from tracetorch.runs.folder import state_of
    from tracetorch.runs.identity import NOT_THE_EXPERIMENT, id_of
    from tracetorch.runs.records import to_json

    facts = state_of(folder.path).facts
    begun = facts.get("config")
    if not isinstance(begun, dict) or facts.get("id") == id_of(config):
        return
    free = set(NOT_THE_EXPERIMENT) - {"seed"}
    now = json.loads(to_json(config))
    before, after = ({name: part for name, part in one.items() if name not in free} for one in (current(begun), now))
    found = config_difference(before, after)
    if found:
        was, is_now = (shorten(repr(value), 40) for value in (found.one, found.other))
        raise UsageError(
            f"{folder.path / 'config.yaml'}: {shorten(found.key)} is {is_now}, but the run started with {was}; "
            "restore it, or start a new run with tracetorch run"
        )


def plain_name(experiment: Any) -> str:
    """An experiment's name from a file, if it can name a folder; otherwise "run"."""
    return experiment if isinstance(experiment, str) and _NAME.fullmatch(experiment) else "run"


def tested_checkpoint(found: Found, name: str | None = None) -> Path:
    """The checkpoint that was tested, or would be; or the one with this name.

    Raises: UsageError if there is none.
    """
    summary = found.state.facts.get("summary")
    tested = summary.get("tested") if isinstance(summary, dict) else None
    path = found.folder.checkpoint(name or ("best" if tested == "best" else "latest"))
    if not holds(path.parent, path.name):
        others = [other for other in ("best", "latest") if holds(path.parent, f"{other}.pt")]
        advice = f"; there is another: --checkpoint {others[0]}" if others else "; the run has written none yet"
        raise UsageError(f"there is no checkpoint {path}{advice}")
    return path


@contextmanager
def naming_the_other(folder: RunFolder, verb: str) -> Iterator[None]:
    """Where a checkpoint is damaged and the run's other one is not, say what to type to use that. Args: verb: at work.

    Raises: UsageError, as the body does.
    """
    try:
        yield
    except UsageError as error:
        from tracetorch.runs.checkpoint import DamagedError, read_checkpoint

        if not isinstance(error.__cause__, DamagedError):
            raise
        for name, other in (("latest", "best"), ("best", "latest")):
            path = folder.checkpoint(other)
            if f"{name}.pt is damaged" not in str(error):
                continue
            try:
                update = read_checkpoint(path).get("update")
            except (OSError, ValueError):
                continue
            typed = f"tracetorch {verb} {folder.path}"
            whole = f"{path.name}, of update {update}, is whole"
            if verb != "resume":
                raise UsageError(f"{error}; {whole}: {typed} --checkpoint {other}") from error
            copied = f"cp {path} {folder.checkpoint(name)}"
            raise UsageError(f"{error}; {whole}; to continue from there: {copied}, then {typed}") from error
        raise


def check_links(folder: Path) -> None:
    """Nothing in the folder of a run, or of several, may link to the outside: files there would be read or written.

    Raises: UsageError that names the link.
    """
    try:
        for path in [*folder.iterdir(), *(folder / "checkpoints").glob("*"), *(folder / "plots").glob("*")]:
            if path.is_symlink() and leads_out(path, folder):
                raise UsageError(f"{path} is a link that leads out of {folder}; remove it first")
    except OSError as error:
        raise UsageError(f"{error.filename or folder} cannot be read: {error.strerror}") from error


def holds(folder: Path, name: str) -> bool:
    """Whether there is anything of this name in a folder; its reader refuses what is not a regular file.

    Raises: UsageError if the system does not say.
    """
    try:
        (folder / name).stat()
        return True
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return False
        raise UsageError(f"{folder / name} cannot be read: {error.strerror}") from error
