"""Making what the parts of a config describe.

The parts are plain values, and are taken as they are: no string in them is interpreted again. So what
`cli.check` has checked is what is made.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from tracetorch.cli.check import SPECIAL
from tracetorch.cli.errors import UsageError, shorten
from tracetorch.runs.ending import named, where


class Part(partial[Any]):
    """A function or class with the arguments of a config; `func` is that function itself.

    Errors of a call name the part of the config.
    """

    name = ""

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().__call__(*args, **kwargs)
        except (TypeError, ValueError) as error:
            raise UsageError(f"{self.name}: {words_of(error)}") from error


def make(node: dict[str, Any], name: str) -> Any:
    """Make what a part of a config describes.

    Returns: the object; for a node with `_partial_`, a `Part` that makes it.
    Raises: UsageError, now or when that part is called, if a value of it is invalid.
    """
    try:
        made = _made(node)
    except (UsageError, KeyboardInterrupt):
        raise
    except BaseException as error:  # of a part, which may also call sys.exit
        place = "" if isinstance(error, TypeError | ValueError) else place_of(error)
        raise UsageError(f"{name}: {words_of(error)}{place}") from error
    if node.get("_partial_"):
        made = Part(made.func, *made.args, **made.keywords)
        made.name = name
    return made


def function(node: dict[str, Any]) -> Callable[..., Any]:
    """The function that a part of a config with `_partial_` describes, its arguments filled in; errors are its own.

    Raises: UsageError if there is no such function, or if it cannot be imported.
    """
    try:
        made: Callable[..., Any] = _made(node)
    except (UsageError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise UsageError(f"{node.get('_target_')}: {words_of(error)}") from error
    return made


def place_of(error: BaseException) -> str:
    """Where in a user's part an error was raised, behind what it says."""
    place = "" if isinstance(error, ImportError) else where(error, ours=False)
    return f" in {place}" if place else ""


def words_of(error: BaseException) -> str:
    """What an error of a part says, in one line; for a missing module, where Python looks for it."""
    text = " ".join(str(error).split())
    if isinstance(error, ModuleNotFoundError):
        searches = {os.path.realpath(place) for place in sys.path}
        here = "" if os.path.realpath("") in searches else "; the current folder is not searched without PYTHONPATH=."
        return f"{text}: install it with pip, or name its folder in the variable PYTHONPATH{here}"
    says_enough = isinstance(error, TypeError | ValueError | RuntimeError | ImportError | OSError) and text
    return text if says_enough else " ".join(named(error).split())


def _made(value: Any) -> Any:
    if isinstance(value, list):
        return [_made(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    if "_target_" not in value:
        return {name: _made(inner) for name, inner in value.items()}
    called = locate(value["_target_"])
    if not callable(called):
        raise ValueError(f"{value['_target_']} cannot be called")
    args = _made(value.get("_args_", []))
    if not isinstance(args, list):
        raise ValueError(f"_args_ must be a list, got {shorten(args)}")
    kwargs = {name: _made(inner) for name, inner in value.items() if name not in SPECIAL}
    return partial(called, *args, **kwargs) if value.get("_partial_") else called(*args, **kwargs)


def locate(target: Any) -> Any:
    """What has this dotted name: modules are imported, and only public names lead on.

    Raises: ValueError if there is none; whatever a module raises that is imported.
    """
    *_, (_, found) = _way(target)
    return found


def is_defined_in(target: str, package: str) -> bool:
    """Whether a dotted name leads to something of a package, and not through it to what it has imported itself.

    Raises: as `locate`.
    """
    for name, found in _way(target):
        if isinstance(found, ModuleType) and found.__name__ != name:
            return False
    return f"{getattr(found, '__module__', '')}.".startswith(f"{package}.")


def _way(target: Any) -> list[tuple[str, Any]]:
    names = target.split(".") if isinstance(target, str) else []
    if len(names) < 2 or not all(name.isidentifier() and not name.startswith("_") for name in names):
        raise ValueError(f"{shorten(repr(target))} is not a public name such as torch.optim.Adam")
    at, found = names[0], import_module(names[0])
    way: list[tuple[str, Any]] = [(at, found)]
    for name in names[1:]:
        inner = f"{at}.{name}"
        if not hasattr(found, name) and isinstance(found, ModuleType) and _is_module(found, inner):
            import_module(inner)
        if not hasattr(found, name):
            raise ValueError(f"{at} has no {name}")
        at, found = inner, getattr(found, name)
        way.append((at, found))
    return way


def _is_module(package: ModuleType, name: str) -> bool:
    return hasattr(package, "__path__") and find_spec(name) is not None
