"""Reads run folders. They are not trusted, because they may come from elsewhere."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tracetorch.cli import project
from tracetorch.cli.adapter import Composed, amend, load
from tracetorch.cli.check import check, check_trusted
from tracetorch.cli.errors import UsageError, quote, shorten
from tracetorch.cli.signatures import accepts
from tracetorch.files import leads_out, read_text, real
from tracetorch.renamed import current
from tracetorch.runs.folder import RunFolder, RunState, state_of
from tracetorch.runs.identity import NOT_THE_EXPERIMENT, id_of
from tracetorch.runs.records import to_json

NAME_LINE = "# experiment: "  # the start of the first line of config.yaml; the experiment's name follows

_NAME = re.compile(r"\w[\w.+-]{0,99}")
_LONGEST_NAME = 100  # bytes; a file system allows 255


class Found(NamedTuple):
    """A run folder as `find_run` reads it: its config, the changes included, and its recorded state."""

    folder: RunFolder
    composed: Composed
    state: RunState


def find_run(
    path: Path, trust: Collection[str] = (), overrides: Iterable[str] = (), *, may_differ: Collection[str] = ()
) -> Found:
    """Read the run in a folder; check that its config calls only trusted targets, with valid arguments.

    Args:
        trust: packages to trust in addition to traceTorch and torch.
        overrides: changes of the config's values.
        may_differ: keys that `check_unchanged` does not compare.
    Raises: UsageError, one sentence.
    """
    if not os.path.lexists(path):
        raise UsageError(f"there is no folder {path}")
    if not holds(path, "config.yaml"):
        raise UsageError(f"{path} is not a run folder: it has no config.yaml")
    check_links(path)
    composed = load(path / "config.yaml")
    packages = [*trust, *project.trusted(path)]
    check_trusted(composed.config, path / "config.yaml", packages)
    check_unchanged(RunFolder(path), composed.config, may_differ)
    if changes := list(overrides):
        composed = amend(composed.config, changes)
        check_trusted(composed.config, path / "config.yaml", packages)  # a change may name a target
    check(composed.config)
    state = state_of(path)
    name = plain_name(state.facts["experiment"] if "experiment" in state.facts else _name_in(path / "config.yaml"))
    return Found(RunFolder(path), composed._replace(experiment=name), state)


def _name_in(config: Path) -> str:
    """The experiment's name in config.yaml, which is written before run.json. Raises: UsageError."""
    try:
        line = read_text(config).partition("\n")[0]
    except (OSError, ValueError) as error:
        raise UsageError(f"{config} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    return line.removeprefix(NAME_LINE) if line.startswith(NAME_LINE) else ""


def check_training(found: Found) -> None:
    """Raises: UsageError if the folder is that of an evaluation."""
    path, kind = found.folder.path, found.state.facts.get("kind")
    paths = [real(path), path.absolute()]  # the second, because "eval" itself may be a link
    runs = [each.parent.parent for each in paths if each.parent.name == "eval"]
    tested_run = next((run for run in runs if (run / "config.yaml").is_file()), None)
    if kind == "evaluation" or (kind is None and tested_run):
        run = tested_run or paths[0].parent.parent
        raise UsageError(f"{path} is an evaluation; to start another: tracetorch eval {quote(run)}")


class ConfigDifference(NamedTuple):
    """The first difference of two configs."""

    key: str
    one: Any  # also None if the key does not exist
    other: Any


def config_difference(one: Any, other: Any, key: str = "") -> ConfigDifference | None:
    """The first difference of two plain values; None if they are equal. 1 equals 1.0, but not true."""
    if isinstance(one, dict) and isinstance(other, dict):
        pairs = ((f"{key}.{name}" if key else str(name), one.get(name), other.get(name)) for name in {**one, **other})
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = ((f"{key}[{at}]", *pair) for at, pair in enumerate(zip(one, other, strict=True)))
    else:
        is_equal = one == other and isinstance(one, bool) == isinstance(other, bool)
        return None if is_equal or one is other else ConfigDifference(key, one, other)
    return next((found for name, a, b in pairs if (found := config_difference(a, b, name))), None)


LENGTHS = ("train.updates", "train.passes", "train.steps")
"""Keys of the length of a training."""

CHANGEABLE = (*LENGTHS, "train.patience")
"""Keys that a run may change when it is continued."""


def with_other_lengths(config: dict[str, Any], lengths: Sequence[str]) -> list[str]:
    """Changes of length as typed, and null for the other lengths of the config, which the typed ones replace."""
    typed = {line.partition("=")[0] for line in lengths}
    others = [key for key in LENGTHS if key not in typed and key.partition(".")[2] in config["train"]]
    return [*lengths, *(f"{key}=null" for key in others if typed & {*LENGTHS})]


def check_unchanged(folder: RunFolder, config: dict[str, Any], may_differ: Collection[str] = ()) -> None:
    """Raises: UsageError if a run's config has changed since its start; output, device and threads may differ.

    Unchanged data may be in another folder. A run that recorded no config, as in older versions, is not checked.

    Args: may_differ: further keys, such as "train.updates".
    """
    recorded = state_of(folder.path).facts.get("config")
    if not isinstance(recorded, dict):
        return
    before, after = (_compared(each, may_differ) for each in (current(recorded), json.loads(to_json(config))))
    found = config_difference(before, after)
    if found is None or (not may_differ and state_of(folder.path).facts.get("id") == id_of(config)):
        return
    old, new = (shorten(json.dumps(value, ensure_ascii=False), 40) for value in (found.one, found.other))
    key, shown = shorten(found.key), quote(folder.path)
    advice = "for other settings, start a new run with tracetorch run"
    if found.key in CHANGEABLE:
        advice = f"to go on for longer: tracetorch resume {shown} {quote(f'{key}={new}')}"
    elif found.key.startswith("task."):
        advice = f"to test with other settings: tracetorch eval {shown} {quote(f'{key}={new}')}"
    raise UsageError(
        f"{folder.path / 'config.yaml'}: {key} is {new}, but the run started with {old}; this file is a record: "
        f"restore it, or, {advice}"
    )


def _compared(config: dict[str, Any], may_differ: Collection[str]) -> dict[str, Any]:
    """The entries of a config that may not change."""
    kept = {name: part for name, part in config.items() if name == "seed" or name not in NOT_THE_EXPERIMENT}
    for key in may_differ:
        part, _, name = key.partition(".")
        if isinstance(kept.get(part), dict):
            kept[part] = {inner: value for inner, value in kept[part].items() if inner != name}
    return kept


def plain_name(experiment: Any) -> str:
    """An experiment's name from a file, if it can name a folder; otherwise "run"."""
    return experiment if isinstance(experiment, str) and _NAME.fullmatch(experiment) else "run"


def folder_name(number: str, varies: str) -> str:
    """The name of the folder of one of several runs, valid on all file systems. Args: varies: such as "seed=1"."""
    safe = re.sub(r"[^\w.,=+\[\]-]+", "-", varies.replace(", ", ",")).strip("-")
    safe = safe.encode()[:_LONGEST_NAME].decode(errors="ignore")
    return f"{number}_{safe}" if safe else number


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """Map each dotted key to its last word, or to the whole key if another key has the same last word."""
    last = {key: key.rpartition(".")[2] for key in keys}
    return {key: name if list(last.values()).count(name) == 1 else key for key, name in last.items()}


def tested_checkpoint(found: Found, name: str | None = None) -> Path:
    """The checkpoint of this name; by default, the tested one, or else the latest. Raises: UsageError."""
    summary = found.state.facts.get("summary")
    tested = summary.get("tested") if isinstance(summary, dict) else None
    path = found.folder.checkpoint(name or ("best" if tested == "best" else "latest"))
    if not holds(path.parent, path.name):
        others = [other for other in ("best", "latest") if holds(path.parent, f"{other}.pt")]
        also = f'; there is another: --checkpoint {others[0]}, in Python checkpoint="{others[0]}"' if others else ""
        advice = also or "; the run has written none yet"
        raise UsageError(f"there is no checkpoint {path}{advice}")
    return path


def with_targets_of(config: dict[str, Any], checkpoint: Path, typed: Iterable[str]) -> dict[str, Any]:
    """A run's config with the classes and the kind of target of its training, so that other data are read with them.

    Args: typed: the changes of the config; without one of the task, the config is returned as it is.
    """
    if not any(line.startswith("task.") for line in typed):
        return config
    from tracetorch.runs.checkpoint import read_checkpoint

    try:
        state = read_checkpoint(checkpoint).get("parts", {}).get("task")
    except (OSError, ValueError):  # the test says so
        return config
    return {**config, "task": _with_targets(config["task"], state)}


def _with_targets(node: dict[str, Any], state: Any) -> dict[str, Any]:
    """As `with_targets_of`, for a task or a task inside it. Args: state: of the task in a checkpoint."""
    if not isinstance(state, dict):
        return node
    if isinstance(node.get("task"), dict):  # a wrapper
        return {**node, "task": _with_targets(node["task"], state.get("task", state))}
    names, target = state.get("classes"), node.get("_target_")
    if not isinstance(names, list) or not (accepts(target, "classes") and accepts(target, "kind")):
        return node
    kind = {"kind": "label" if names else "values"} if node.get("kind", "auto") == "auto" else {}
    return node | kind | ({"classes": names} if names and not node.get("classes") else {})


@contextmanager
def naming_the_other(folder: RunFolder, verb: str) -> Iterator[None]:
    """If the body raises a UsageError for a damaged checkpoint, add how to use the run's other one, if it is whole."""
    try:
        yield
    except UsageError as error:
        from tracetorch.runs.checkpoint import read_checkpoint

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
    """Raises: UsageError for a link that leads out of a run's folder: files outside would be read or written."""
    try:
        for path in [*folder.iterdir(), *(folder / "checkpoints").glob("*"), *(folder / "plots").glob("*")]:
            if path.is_symlink() and leads_out(path, folder):
                raise UsageError(f"{path} is a link that leads out of {folder}; remove it first")
    except OSError as error:
        raise UsageError(f"{error.filename or folder} cannot be read: {error.strerror}") from error


def holds(folder: Path, name: str) -> bool:
    """Whether a folder has an entry of this name, of any kind. Raises: UsageError if that is unknown."""
    try:
        (folder / name).stat()
        return True
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return False
        raise UsageError(f"{folder / name} cannot be read: {error.strerror}") from error
