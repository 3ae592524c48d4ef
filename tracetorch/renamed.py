"""Names of earlier versions, and what they are now: run folders, checkpoints and programs made before go on to work.

A name that changes gets an entry here. Configs, saved states, checkpoints and calls are translated by these tables, and
the command line says what a key is called now.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, ParamSpec, TypeVar

ARGUMENTS = {"learn": "trainable", "bank": "trace_bank", "lanes": "num_envs"}
"""Arguments of layers and tasks, which are keys of their configs."""

TARGETS = {"tracetorch.tasks.Switching": "tracetorch.tasks.Reversal"}
"""Classes and functions that a `_target_` names."""

METHODS = {"held_out": "eval_batches", "judge": "score", "phase": "context"}
"""What a class of a user's task or environment defines."""

STATE = {"second": "trace_sensitivity"}
"""Tensors of a layer's state."""

TASK_STATE = {"moments": "statistics"}
"""Entries of an environment's state in a checkpoint."""

PARTS = {"put_by": "reward_accumulator"}
"""Parts of a run in a checkpoint."""

PARAMETERS = {
    "weight": "connection.weight",
    "bias": "connection.bias",
    "raw_trace_decay": "input_trace.raw_decay",
    "raw_decay": "neuron.raw_decay",
    "raw_threshold": "neuron.raw_threshold",
}
"""Parameters of a layer, as checkpoints have them from when a layer was one module."""

WORKER = {"owner": "controller"}
"""Fields of a sweep's worker, which a cluster's queue holds as a pickle."""

_HAVE_ARGUMENTS = ("tracetorch.nn.", "tracetorch.tasks.")
_FORMER_ARGUMENTS, _FORMER_TARGETS = ({now: before for before, now in names.items()} for names in (ARGUMENTS, TARGETS))

P = ParamSpec("P")
R = TypeVar("R")


def current(config: Any) -> Any:
    """A config, or a part of one, with its keys and targets as they are called now."""
    return _translated(config, ARGUMENTS, TARGETS)


def former(config: Any) -> Any:
    """The same with the names as they were first: a new name then changes no hash of a config."""
    return _translated(config, _FORMER_ARGUMENTS, _FORMER_TARGETS)


def present(names: Mapping[str, str], values: Mapping[str, Any]) -> dict[str, Any]:
    """Values with their names as they are now. Args: names: such as `STATE`."""
    return {names.get(name, name): value for name, value in values.items()}


def _translated(node: Any, names: Mapping[str, str], targets: Mapping[str, str]) -> Any:
    if isinstance(node, list | tuple):
        return [_translated(inner, names, targets) for inner in node]
    if not isinstance(node, Mapping):
        return node
    target = str(node.get("_target_", ""))
    known = {name: other for name, other in names.items() if target.startswith(_HAVE_ARGUMENTS) and other not in node}
    translated = {known.get(name, name): _translated(inner, names, targets) for name, inner in node.items()}
    return {**translated, "_target_": targets[target]} if target in targets else translated


def adopt_former_methods(cls: type) -> None:
    """Let a user's class define what it did under the former names, with a warning that says the present ones."""
    for before, now in METHODS.items():
        if before in vars(cls) and now not in vars(cls):
            warnings.warn(f"{cls.__name__}.{before} is now {now}", DeprecationWarning, stacklevel=4)
            setattr(cls, now, vars(cls)[before])


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
