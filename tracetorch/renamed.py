"""Names of earlier versions, and what they are now: run folders, checkpoints and programs made before go on to work.

A name that changes gets an entry here. Configs, saved states, checkpoints and calls are translated by these tables, and
the command line says what a key is called now.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Mapping
from functools import wraps
from inspect import signature
from typing import Any, ParamSpec, TypeVar

ARGUMENTS = {"learn": "trainable", "bank": "trace_bank", "rate": "rate_map"}
"""Arguments of layers, which are keys of their configs."""

_OF_NEURONS = {"rate", "rate_map"}
"""Those that `Layer` passes on to its neuron, which may be one of the user's with an argument of that name."""

STATE = {"second": "trace_sensitivity", "expect": "baseline"}
"""Entries of the state of a layer or a loss."""

PARAMETERS = {
    "weight": "connection.weight",
    "bias": "connection.bias",
    "raw_trace_decay": "input_trace.raw_decay",
    "raw_decay": "neuron.raw_decay",
    "raw_threshold": "neuron.raw_threshold",
}
"""Parameters of a layer, as checkpoints have them from when a layer was one module."""

RANDOM = {"draw": "uniform", "draw_below": "bernoulli"}
"""Functions of `tracetorch.backends` that tasks of one's own call."""

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
    skipped = {*node, *(() if _is_ours(node.get("neuron", node)) else _OF_NEURONS)}
    known = {name: other for name, other in names.items() if _is_ours(node) and other not in skipped}
    return {known.get(name, name): _translated(inner, names) for name, inner in node.items()}


def _is_ours(node: Any) -> bool:
    return isinstance(node, Mapping) and str(node.get("_target_", "")).startswith("tracetorch.nn.")


def takes_former_names(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function take its arguments by their former names too, with a warning that says the present one."""
    arguments = signature(function).parameters

    @wraps(function)
    def call(*args: P.args, **options: P.kwargs) -> R:
        return function(*args, **current_arguments(options, arguments))

    return call


def current_arguments(options: Mapping[str, Any], known: Collection[str], *, depth: int = 1) -> dict[str, Any]:
    """The arguments of a call by their present names, with a warning.

    Args:
        known: the names that the function takes.
        depth: how many calls lie between the one that warns and its caller.
    Raises: TypeError if one is given by both names.
    """
    found = dict(options)
    for before in ARGUMENTS.keys() & options.keys() - set(known):
        now = ARGUMENTS[before]
        if now not in known:
            continue
        if now in options:
            raise TypeError(f"{before} is now {now}: give one of them")
        warnings.warn(f"{before} is now {now}", DeprecationWarning, stacklevel=2 + depth)
        found[now] = found.pop(before)
    return found


def refuse_former_methods(kind: type) -> None:
    """Raises: TypeError for a class with a method that is called by another name now: it would never be called."""
    for before, now in METHODS.items():
        if hasattr(kind, before):
            raise TypeError(f"{kind.__name__}.{before} is never called: {before} is now {now}, rename it")
