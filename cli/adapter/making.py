"""Instantiates the parts of a checked config (`cli.check`). Only `_target_` is interpreted; no other string is."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from tracetorch.cli import project
from tracetorch.cli.check import GYM, SPECIAL
from tracetorch.cli.errors import UsageError, shorten
from tracetorch.runs.ending import named, sentence, where


class Part(partial[Any]):
    """A function or class with arguments from a config.

    A TypeError or ValueError of a call becomes a UsageError that names the part of the config.
    """

    name = ""

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().__call__(*args, **kwargs)
        except (TypeError, ValueError) as error:
            accepted = getattr(error, "accepted", None)  # of a TrainableError
            advice = "" if accepted is None else f"; type {self.name}.trainable=[{','.join(accepted)}]"
            raise UsageError(f"{self.name}: {message_of(error)}{advice}") from error


def make(node: dict[str, Any], name: str) -> Any:
    """Instantiate a part of a config; for a node with `_partial_`, return a `Part`, which does so when it is called.

    Args: name: of the node; a `Part` inside it has a name such as "network.neuron".
    Raises: UsageError for any error here; for a TypeError or ValueError when a `Part` is called.
    """
    with naming(name, lambda error: message_of(error) if isinstance(error, TypeError | ValueError) else located(error)):
        return _instantiate(node, name)


def function(node: dict[str, Any]) -> Callable[..., Any]:
    """Return the function of a part with `_partial_`; unlike a `Part`, it raises its own errors unchanged.

    Raises: UsageError if the function does not exist or cannot be imported, or if an argument cannot be instantiated.
    """
    with naming(str(node.get("_target_")), message_of):
        made: Callable[..., Any] = _instantiate(node, "")
    return partial(made.func, *made.args, **made.keywords) if isinstance(made, Part) else made


@contextmanager
def naming(name: str, message: Callable[[BaseException], str] = sentence) -> Iterator[None]:
    """Turn any error of the body, SystemExit included, into a UsageError that begins with a name; Ctrl-C passes.

    Args: name: of the part. message: the text of an error.
    """
    try:
        yield
    except (UsageError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise UsageError(f"{name}: {message(error)}") from error


def located(error: BaseException) -> str:
    """The message of an error and, if a user's part raised it, the function, file and line; not for an ImportError."""
    origin = "" if isinstance(error, ImportError) else where(error, ours=False)
    return f"{message_of(error)}{' in ' if origin else ''}{origin}"


def message_of(error: BaseException) -> str:
    """The message of an error in one line, with advice for a missing module.

    An error whose message may be a single word, such as a KeyError, is given with its type.
    """
    text = " ".join(str(error).split())
    if isinstance(error, ModuleNotFoundError):
        searched = {os.path.realpath(folder) for folder in sys.path}
        hint = ""
        if os.path.realpath("") not in searched:
            hint = f"; the current folder is not searched without PYTHONPATH=. or a file {project.FILE}"
        return f"{text}: install it with pip, or add the folder that contains it to the variable PYTHONPATH{hint}"
    is_sentence = isinstance(error, TypeError | ValueError | RuntimeError | ImportError | OSError) and text
    return text if is_sentence else " ".join(named(error).split())


def _instantiate(value: Any, name: str) -> Any:
    if isinstance(value, list):
        return [_instantiate(inner, f"{name}[{index}]") for index, inner in enumerate(value)]
    if not isinstance(value, dict):
        return value
    if "_target_" not in value:
        return {key: _instantiate(inner, f"{name}.{key}") for key, inner in value.items()}
    if value["_target_"] == GYM and ":" in str(value.get("id", "")):  # gymnasium imports the module before the colon
        project.make_importable()
    target = locate(value["_target_"])
    if not callable(target):
        raise ValueError(f"{value['_target_']} cannot be called")
    args = _instantiate(value.get("_args_", []), f"{name}._args_")
    if not isinstance(args, list):
        raise ValueError(f"_args_ must be a list, got {shorten(args)}")
    kwargs = {key: _instantiate(inner, f"{name}.{key}") for key, inner in value.items() if key not in SPECIAL}
    if not value.get("_partial_"):
        return target(*args, **kwargs)
    part = Part(target, *args, **kwargs)
    part.name = name
    return part


def locate(target: Any) -> Any:
    """Import the object of a dotted name; every component of the name must be public.

    Raises: ValueError if the name is not public or a module lacks the object; ModuleNotFoundError without the first
        module; any error of an imported module.
    """
    return _resolve(target)[-1][1]


def is_defined_in(target: str, package: str) -> bool:
    """Whether a package itself defines the object of a dotted name. Raises: as `locate`."""
    for name, value in _resolve(target):
        if isinstance(value, ModuleType) and value.__name__ != name:
            return False
    return f"{getattr(value, '__module__', '')}.".startswith(f"{package}.")


def _resolve(target: Any) -> list[tuple[str, Any]]:
    """Import the prefixes of a dotted name (a, a.b, a.b.c). Returns: each with its object. Raises: as `locate`."""
    names = target.split(".") if isinstance(target, str) else []
    if len(names) < 2 or not all(name.isidentifier() and not name.startswith("_") for name in names):
        raise ValueError(f"{shorten(repr(target))} is not a public name such as torch.optim.Adam")
    if names[0] not in ("torch", "tracetorch"):
        project.make_importable()
    prefix, value = names[0], import_module(names[0])
    resolved: list[tuple[str, Any]] = [(prefix, value)]
    for name in names[1:]:
        inner = f"{prefix}.{name}"
        is_package = isinstance(value, ModuleType) and hasattr(value, "__path__")
        if is_package and not hasattr(value, name) and find_spec(inner) is not None:
            import_module(inner)
        if not hasattr(value, name):
            raise ValueError(f"{prefix} has no {name}")
        prefix, value = inner, getattr(value, name)
        resolved.append((prefix, value))
    return resolved
