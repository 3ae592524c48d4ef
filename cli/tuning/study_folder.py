"""The files of a study that are read without optuna: its settings, and its best config as a preset."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tracetorch import files
from tracetorch.cli.adapter import Composed
from tracetorch.cli.check import PARTS, STARTS
from tracetorch.cli.errors import UsageError, prefixed, quote, shorten
from tracetorch.cli.folders import check_links, plain_name
from tracetorch.cli.tuning.search import Search, search_from
from tracetorch.renamed import ADDED_KEYS
from tracetorch.runs.folder import RunFolder
from tracetorch.runs.identity import hash_of
from tracetorch.runs.lock import NAME as LOCK
from tracetorch.runs.lock import BusyError

FILE = "study.json"
PRESETS = "presets"
_BEST = Path(PRESETS, "experiment", "best.yaml")
_PATIENCE_SECONDS = 5.0  # how long a joining process waits for another to write the file


class StudySettings(NamedTuple):
    """The content of `study.json`."""

    experiment: str
    typed: list[str]
    overrides: list[str]  # the lines of `typed` for the runs, without those of the search
    search: Search
    configs: dict[str, Any] | None  # see `Composer.content`; None in studies of older versions


def reserve(settings: StudySettings, root: Path, path: Path | None) -> Path:
    """Make a new folder for a study, and write its file.

    Raises: FileExistsError if the folder is not empty or another process uses it; UsageError if it cannot be written.
    """
    content = {**settings._asdict(), "search": settings.search.content()}
    try:
        folder = RunFolder.reserve(root, f"{settings.experiment}/studies", hash_of(content), path)
        lock = folder.take()
        try:
            folder.write_json(FILE, content)
        except OSError:
            folder.remove()
            raise
        finally:
            lock.release()
    except FileExistsError:
        raise
    except BusyError as error:
        raise FileExistsError(str(error)) from error
    except OSError as error:
        path = shorten(error.filename or "the disk")
        raise UsageError(f"cannot write to {path}: {error.strerror}; choose another --study or output.root") from error
    return folder.path


def read_study(folder: Path) -> StudySettings:
    """Read the settings of the study in a folder. Raises: UsageError if there is none, or if its file is broken."""
    path, deadline = folder / FILE, time.monotonic() + _PATIENCE_SECONDS
    while is_being_created(folder) and time.monotonic() < deadline:
        time.sleep(0.05)
    if not path.exists():
        raise UsageError(f"{folder} is not the folder of a study: it has no {FILE}")
    try:
        content = files.read_json(path)
        experiment, typed, overrides = (content[name] for name in ("experiment", "typed", "overrides"))
        if not all(isinstance(text, str) for text in (experiment, *typed, *overrides)):
            raise TypeError
        with prefixed(f"{path} is broken: "):
            check_links(folder)
            search = search_from(content["search"])
        return StudySettings(plain_name(experiment), typed, overrides, search, content.get("configs"))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is broken ({type(error).__name__}): begin a new study") from error


def is_being_created(folder: Path) -> bool:
    """Whether a folder holds at most a lock and an incomplete study file, of a process that writes it or was killed."""
    try:
        return all(path.name == LOCK or path.name.startswith(f".{FILE}.") for path in folder.iterdir())
    except OSError:  # it was removed, or is not a folder
        return False


def resume_hint(study: Path) -> str:
    """The end of a message about a stopped study: the command that continues it."""
    return f"to continue: tracetorch tune --study {quote(study)}"


def run_command(study: Path) -> str:
    """The command that runs the best config."""
    return f"tracetorch run --config-dir {quote(study / PRESETS)} experiment=best"


def best_of(study: Path) -> str:
    """The description of the best trial, such as "accuracy 0.9312 in trial 12"; "" if there is none."""
    try:
        text = files.read_text(study / _BEST)
    except (OSError, ValueError):
        return ""
    line = next((line for line in text.splitlines() if line.startswith("# Best: ")), "")
    return line.removeprefix("# Best: ").partition(", of ")[0]


def write_best(study: Path, composed: Composed, description: str) -> None:
    """Write the config of the best trial as `presets/experiment/best.yaml`.

    Its parts are complete: later changes of `conf/` have no effect on them. It lacks diagnostics, output, seed, device
    and threads.

    Args: description: of the trial, such as "accuracy 0.9312 in trial 12".
    """
    seed = composed.config["seed"]
    parts = {name: _without_seeds(composed.config[name], seed) for name in PARTS}
    parts |= {name: composed.config[name] for name in STARTS if composed.config.get(name) != ADDED_KEYS[name]}
    choices = {name: composed.choices[name] for name in PARTS if name in composed.choices}
    lines = [
        "# @package _global_",
        f"# Best: {description}, of {quote(study)} ({composed.experiment}).",
        f"# Run:       {run_command(study)}",
        f"# Override:  {run_command(study)} seed={seed + 1}",
    ]
    header = "\n".join(" ".join(line.splitlines()) for line in lines)
    defaults = "".join(f"  - override /{group}: {choice}\n" for group, choice in choices.items())
    text = f"{header}\ndefaults:\n{defaults}\n{yaml.safe_dump(parts, sort_keys=False, allow_unicode=True)}"
    (study / _BEST).parent.mkdir(parents=True, exist_ok=True)
    files.write_whole(study / _BEST, text)


def _without_seeds(node: Any, seed: int) -> Any:
    """Leave out seeds that equal the config's seed: a run of the preset sets them from its own seed."""
    if isinstance(node, dict):
        kept = {name: inner for name, inner in node.items() if not (name == "seed" and inner == seed)}
        return {name: _without_seeds(inner, seed) for name, inner in kept.items()}
    return [_without_seeds(inner, seed) for inner in node] if isinstance(node, list) else node
