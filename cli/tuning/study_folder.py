"""A study's folder: the file that says what the study is, written once and read with care."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

from tracetorch import files
from tracetorch.cli.errors import UsageError, shorten
from tracetorch.cli.folders import check_links, plain_name
from tracetorch.cli.tuning.search import Search, made
from tracetorch.runs.lock import NAME as LOCK

FILE = "study.json"
_PATIENCE = 5.0  # of a process that joins another, which has made the folder a moment ago


class StudySettings(NamedTuple):
    """What a study was begun with."""

    experiment: str
    typed: list[str]
    overrides: list[str]  # of what was typed, what is about the runs
    search: Search
    configs: dict[str, Any] | None  # composed when it was begun, see `Composer`; an older version kept none

    @property
    def is_of(self) -> str:
        """What was typed, in a line."""
        return shorten(" ".join(self.typed), 200)


def reserve(begun: StudySettings, root: Path, path: Path | None) -> Path:
    """A new folder for a study, with its file in it.

    Raises: FileExistsError if another process has begun something in it; UsageError if nothing can be written.
    """
    from tracetorch.runs.folder import RunFolder
    from tracetorch.runs.identity import hash_of
    from tracetorch.runs.lock import BusyError

    content = {**begun._asdict(), "search": begun.search.content()}
    try:
        folder = RunFolder.reserve(root, f"{begun.experiment}/studies", hash_of(content), path)
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
        where = shorten(error.filename or "the disk")
        raise UsageError(f"cannot write to {where}: {error.strerror}; choose another --study or output.root") from error
    return folder.path


def read_study(folder: Path) -> StudySettings:
    """The study in a folder. Raises: UsageError if there is none, or if its file is broken."""
    path, until = folder / FILE, time.monotonic() + _PATIENCE
    while is_being_begun(folder) and time.monotonic() < until:
        time.sleep(0.05)
    if not path.exists():
        raise UsageError(f"{folder} is not the folder of a study: it has no {FILE}")
    try:
        content = files.read_json(path)
        experiment, typed, overrides = (content[name] for name in ("experiment", "typed", "overrides"))
        if not all(isinstance(text, str) for text in (experiment, *typed, *overrides)):
            raise TypeError
        check_links(folder)
        return StudySettings(plain_name(experiment), typed, overrides, made(content["search"]), content.get("configs"))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is broken ({type(error).__name__}): begin a new study") from error
    except UsageError as error:
        raise UsageError(f"{path} is broken: {error}") from error


def is_being_begun(folder: Path) -> bool:
    """Whether a folder holds nothing yet but, perhaps, what another process is writing there; see `write_whole`.

    That process may also have been killed.
    """
    try:
        return all(path.name == LOCK or path.name.startswith(f".{FILE}.") for path in folder.iterdir())
    except OSError:  # it was removed, or is not a folder
        return False
