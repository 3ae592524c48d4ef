"""Names of earlier versions, and what they are now: run folders, checkpoints and programs made before go on to work.

A name that changes gets an entry here. Configs, saved states, checkpoints and calls are translated by these tables, and
the command line says what a key is called now.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, ParamSpec, TypeVar

ARGUMENTS = {"learn": "trainable", "bank": "trace_bank"}
"""Arguments of layers, which are keys of their configs."""

STATE = {"second": "trace_sensitivity"}
"""Tensors of a layer's state."""

PARAMETERS = {
    "weight": "connection.weight",
    "bias": "connection.bias",
    "raw_trace_decay": "input_trace.raw_decay",
    "raw_decay": "neuron.raw_decay",
    "raw_threshold": "neuron.raw_threshold",
}
"""Parameters of a layer, as checkpoints have them from when a layer was one module."""

METHODS = {"begin": "reset"}
"""Methods that a rule or a loss for rewards of one's own may override."""

_FORMER = {now: before for before, now in ARGUMENTS.items()}

P = ParamSpec("P")
R = TypeVar("R")


def current(config: Any) -> Any:
    """A config, or a part of one, with the keys of its layers as they are called now."""
    return _translated(config, ARGUMENTS)


def former(config: Any) -> Any:
    """The same with the keys as they were called first: a new name then changes no hash of a config."""
    return _translated(config, _FORMER)


def _translated(node: Any, names: Mapping[str, str]) -> Any:
    if isinstance(node, list | tuple):
        return [_translated(inner, names) for inner in node]
    if not isinstance(node, Mapping):
        return node
    is_layer = str(node.get("_target_", "")).startswith("tracetorch.nn.")
    known = {name: other for name, other in names.items() if is_layer and other not in node}
    return {known.get(name, name): _translated(inner, names) for name, inner in node.items()}


def takes_former_names(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function take its arguments by their former names too, with a warning that says the present one."""

    @wraps(function)
    def call(*args: P.args, **options: P.kwargs) -> R:
        for before in ARGUMENTS.keys() & options.keys():
            now = ARGUMENTS[before]
            if now in options:
                raise TypeError(f"{before} is now {now}: give one of them")
            warnings.warn(f"{before} is now {now}", DeprecationWarning, stacklevel=2)
            options[now] = options.pop(before)
        return function(*args, **options)

    return call


def refuse_former_methods(kind: type) -> None:
    """Raises: TypeError for a class with a method that is called by another name now: it would never be called."""
    for before, now in METHODS.items():
        if hasattr(kind, before):
            raise TypeError(f"{kind.__name__}.{before} is never called: {before} is now {now}, rename it")
