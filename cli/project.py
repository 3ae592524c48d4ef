"""A project: a folder with `tracetorch.toml`, which names a folder of configs and the user's own packages.

The file is read, never run. Code of a project is imported only when a part from it is made; see `make_importable`.
"""

from __future__ import annotations

import os
import stat
import sys
import tomllib
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from tracetorch.cli.errors import UsageError, did_you_mean, shorten
from tracetorch.files import MOST_CONFIG_BYTES, read_text, real

FILE = "tracetorch.toml"
_KEYS = ("conf", "packages")
_CONF = "conf"


class Project(NamedTuple):
    """The content of a project's file."""

    root: Path
    conf: Path | None  # the folder of configs, if it exists
    packages: tuple[str, ...]  # modules of the project, and installed packages, that its configs may call

    @property
    def file(self) -> Path:
        return self.root / FILE


_chosen: list[Path | None] = [None]  # the root in a process that runs jobs; elsewhere the working directory decides


def choose(root: Path | None) -> None:
    """Set the project's folder for this process; None: the project of the working directory."""
    _chosen[0] = root


def current() -> Project | None:
    """The chosen project, or else that of the working directory, if any. Raises: UsageError if its file is broken."""
    root = _chosen[0] or _find(None)
    if root is None:
        return None
    try:
        changed = (root / FILE).stat().st_mtime_ns
    except OSError as error:
        raise UsageError(f"{root / FILE} cannot be read: {error.strerror}") from error
    return _read(root, changed)


def trusted(folder: Path) -> tuple[str, ...]:
    """The packages of the project that a run, a sweep or a study in this folder may call; () for a folder elsewhere."""
    own = current()
    return own.packages if own is not None and _is_inside(folder, own) else ()


def _is_inside(path: Path, own: Project) -> bool:
    written = Path(os.path.normpath(path.absolute()))  # it counts too: `outputs` may be a link to a larger disk
    return any(place.is_relative_to(own.root) for place in (real(path), written))


def advice(path: Path, package: str) -> str:
    """The advice on how to trust a package that is called by a config in this file or folder."""
    own, root = current(), _find(real(path))
    trust = f"add --trust {package}"
    if own is not None and _is_inside(path, own):
        return f"add it to packages in {shorten(own.file, 200)}, or {trust}"
    return f"{trust}, or run this in {shorten(root, 200)}, its project" if root else trust


def make_importable() -> None:
    """Put the project's folder on the import path. Call this before a user's part is imported."""
    project = current()
    if project is not None and str(project.root) not in sys.path:
        sys.path.insert(0, str(project.root))


def _find(start: Path | None) -> Path | None:
    """The nearest folder with `tracetorch.toml`, from a folder upwards; None without one.

    Args: start: None for the working directory.

    The search ends at the user's home folder, at the root of the file system, and at a folder that any user may
    write to, such as /tmp: a file there may be that of another user.
    """
    with suppress(OSError, RuntimeError):
        here, home = start or Path.cwd(), Path.home()
        for folder in (here, *here.parents):
            if folder != here and (folder in (home, Path(folder.anchor)) or folder.stat().st_mode & stat.S_IWOTH):
                return None
            if (folder / FILE).exists():
                return folder
    return None


@lru_cache(maxsize=8)
def _read(root: Path, changed: int) -> Project:
    del changed
    path = root / FILE
    try:
        content = tomllib.loads(read_text(path, MOST_CONFIG_BYTES).removeprefix("\ufeff"))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        fault = str(error).removeprefix(f"{path} ")
        raise UsageError(f"{path} is not valid TOML: {shorten(fault, 200)}") from error
    unknown = [name for name in content if name != "tracetorch"]
    table = content.get("tracetorch", {})
    if unknown or not isinstance(table, dict):
        fault = f"it has {shorten(unknown[0])!r}" if unknown else "tracetorch is a value"
        raise UsageError(f"{path}: {fault}; it takes one table, [tracetorch], with {' and '.join(_KEYS)}")
    for name in table:
        if name not in _KEYS:
            hint = did_you_mean(name, _KEYS)
            raise UsageError(f"{path}: there is no {shorten(name)!r}.{hint} It takes {', '.join(_KEYS)}")
    return Project(root, _conf(path, table.get("conf")), _packages(path, table.get("packages", [])))


def _conf(path: Path, given: Any) -> Path | None:
    """The folder of configs. Raises: UsageError if it is not a folder in the project; the default may be missing."""
    if given is None:
        return path.parent / _CONF if (path.parent / _CONF).is_dir() else None
    if not isinstance(given, str) or not given:
        raise UsageError(f"{path}: conf must name a folder, such as {_CONF!r}, got {shorten(repr(given))}")
    folder = path.parent / given
    if not folder.is_dir():
        raise UsageError(f"{path}: conf = {shorten(given)!r}: there is no such folder")
    if not real(folder).is_relative_to(real(path.parent)):
        raise UsageError(f"{path}: conf = {shorten(given)!r} lies outside of the project")
    return folder


def _packages(path: Path, given: Any) -> tuple[str, ...]:
    if not isinstance(given, list) or not all(isinstance(name, str) for name in given):
        raise UsageError(f'{path}: packages must be a list of names, such as ["mine"], got {shorten(repr(given))}')
    for name in given:
        if not all(part.isidentifier() for part in name.split(".")):
            raise UsageError(f"{path}: packages: {shorten(repr(name))} is not the name of a module, such as mine")
        if name.partition(".")[0] in (*sys.stdlib_module_names, "torch", "tracetorch"):
            raise UsageError(f"{path}: packages: {shorten(name)} is not a package of your own")
    return tuple(given)
