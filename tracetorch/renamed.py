"""Names of earlier versions and their present names: older run folders, checkpoints and programs still work.

These tables translate configs, saved states, checkpoints and calls. A name that changes gets an entry.
"""

import warnings
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import wraps
from inspect import signature
from typing import Any, ParamSpec, TypeVar

LAYER_ARGUMENTS = {"learn": "trainable", "bank": "trace_bank", "rate": "rate_map"}
TASK_ARGUMENTS = {"lanes": "num_envs"}
ARGUMENTS = LAYER_ARGUMENTS | TASK_ARGUMENTS
"""Arguments of layers and tasks, which are keys of their configs."""

_NEURON_ARGUMENTS = {"rate"}
"""Arguments of a layer that are passed to its neuron: a user's neuron may have an argument of that name."""

TARGETS = {"tracetorch.tasks.Switching": "tracetorch.tasks.Reversal"}
"""Classes and functions that a `_target_` names."""

_CLIPPING = {"clip_norm": None, "clip_value": None}
ADDED = {
    "tracetorch.nn.LIF": {"reset": "subtract"},
    "tracetorch.rules.CoarseBPTT": {"decay": None},
    "tracetorch.rules.DECOLLE": {"membrane_penalty": 0.0, "silence_penalty": 0.0, "min_rate": 0.1},
    "tracetorch.rules.STLLR": {"feedback": "symmetric", "seed": 0},
    "tracetorch.tasks.Gym": {"observed": None},
    "tracetorch.experiments.supervised.main": {"update_every": "moment", **_CLIPPING},
    "tracetorch.experiments.reinforcement.main": _CLIPPING,
    "tracetorch.experiments.lifetime.main": _CLIPPING,
}
"""Arguments that earlier versions did not have, by target, with the value that reproduces those versions."""

ADDED_KEYS: dict[str, Any] = {"init_from": None, "init_parts": ["hidden", "readout"], "frozen": [], "logger": {}}
"""Keys of a config that earlier versions did not have, with the value that reproduces those versions."""

TASK_METHODS = {"held_out": "eval_batches", "judge": "score", "phase": "context"}
"""Methods that a user's task or environment may define."""

TASK_ATTRIBUTES = {"lanes": "num_envs", "held_out_batch": "eval_batch_size"}
"""Numbers that a user's task or environment may set."""

RESET = {"begin": "reset"}
"""Methods that a user's rule, loss for rewards or environment may override."""

RANDOM = {"draw": "uniform", "draw_below": "bernoulli"}
"""Functions of `tracetorch.backends` that users' tasks call."""

STATE = {"second": "trace_sensitivity", "expect": "baseline"}
"""Entries of the state of a layer or a loss."""

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
"""Parameters of a layer in checkpoints of versions in which a layer was one module."""

FIGURE = {"against": "scatter"}
"""Keys of the figures of a sweep's preset."""

OPTIONS = {f"--{before}": f"--{now}" for before, now in FIGURE.items()}
"""Options of the command line."""

WORKER = {"owner": "controller"}
"""Fields of a sweep's worker, which a cluster's queue holds as a pickle."""

CONTROLLER = {"Owner": "ControllerProcess"}
"""The class of a worker's field in such a pickle."""

_FORMER_TARGETS = {now: before for before, now in TARGETS.items()}

P = ParamSpec("P")
R = TypeVar("R")


def current(config: Any) -> Any:
    """A whole config with its present keys and targets, and with added arguments."""
    found = _translated(config, _names_of, TARGETS, _complete)
    is_whole = isinstance(found, dict) and "train" in found and "_target_" not in found  # not a part alone
    return _complete(found, ADDED_KEYS) if is_whole else found


def renamed(config: Any) -> Any:
    """A part of a config with its present keys and targets, such as a preset, which holds changes alone."""
    return _translated(config, _names_of, TARGETS, lambda node, added: node)


def former(config: Any) -> Any:
    """A config, or a part of one, with former names and without added arguments, which gives it its former hash."""
    return _translated(config, _former_names_of, _FORMER_TARGETS, _without)


def current_overrides(lines: Iterable[str]) -> list[str]:
    """Typed lines of a sweep or study, such as "network.neuron.learn=[weight]", with the present keys and targets."""
    found = []
    for line in lines:
        key, equals, value = line.partition("=")
        names = {"network": LAYER_ARGUMENTS, "task": TASK_ARGUMENTS}.get(key.lstrip("+~").partition(".")[0], {})
        stem, dot, name = key.rpartition(".")
        found.append(f"{stem}{dot}{names.get(name, name)}{equals}{TARGETS.get(value, value)}")
    return found


def present(names: Mapping[str, str], values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by their present names. Args: names: present names by former ones, such as `STATE`."""
    return {names.get(name, name): value for name, value in values.items()}


def _translated(
    node: Any,
    names_of: Callable[..., dict[str, str]],
    targets: Mapping[str, str],
    finish: Callable[..., dict[str, Any]],
) -> Any:
    """Args: finish: adds arguments to a node, or removes them; called with the node and the `ADDED` of its target."""
    if isinstance(node, list | tuple):
        return [_translated(inner, names_of, targets, finish) for inner in node]
    if not isinstance(node, Mapping):
        return node
    names = {before: now for before, now in names_of(node).items() if now not in node}
    translated = {names.get(name, name): _translated(inner, names_of, targets, finish) for name, inner in node.items()}
    target = str(node.get("_target_"))
    found = finish(translated, ADDED.get(target, {}))
    return {**found, "_target_": targets[target]} if target in targets else found


def _complete(node: dict[str, Any], added: Mapping[str, Any]) -> dict[str, Any]:
    return node | {name: value for name, value in added.items() if name not in node}


def _without(node: dict[str, Any], added: Mapping[str, Any]) -> dict[str, Any]:
    texts = {name: "null" if value is None else value for name, value in added.items()}  # as `compare` reads it
    left = [name for name, value in node.items() if name in added and value in (added[name], texts[name])]
    return {name: value for name, value in node.items() if name not in left}


def _former_names_of(node: Mapping[str, Any]) -> dict[str, str]:
    return {now: before for before, now in _names_of(node).items()}


def _names_of(node: Mapping[str, Any]) -> dict[str, str]:
    """The renamed arguments of the `_target_` of a node: present names by former ones."""
    target = str(node.get("_target_", ""))
    if target.startswith("tracetorch.tasks."):
        return TASK_ARGUMENTS
    if not target.startswith("tracetorch.nn."):
        return {}
    neuron = node.get("neuron")
    has_user_neuron = isinstance(neuron, Mapping) and not str(neuron.get("_target_", "")).startswith("tracetorch.nn.")
    return {name: now for name, now in LAYER_ARGUMENTS.items() if not (has_user_neuron and name in _NEURON_ARGUMENTS)}


def takes_former_names(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function accept its arguments by former names too, with a warning."""
    arguments = signature(function).parameters

    @wraps(function)
    def call(*args: P.args, **options: P.kwargs) -> R:
        return function(*args, **current_arguments(options, arguments))

    return call


def current_arguments(options: Mapping[str, Any], known: Collection[str], *, depth: int = 1) -> dict[str, Any]:
    """Translate the arguments of a call to their present names, with a warning.

    Args: known: the names that the function takes. depth: number of calls between this one and the user's.
    Raises: TypeError if one is given by both names.
    """
    found = dict(options)
    for before, now in ARGUMENTS.items():
        if before not in options or before in known or now not in known:
            continue
        if now in options:
            raise TypeError(f"{before} is now {now}: give one of them")
        warnings.warn(f"{before} is now {now}", DeprecationWarning, stacklevel=2 + depth)
        found[now] = found.pop(before)
    return found


def former_method(before: str, now: str) -> Callable[..., Any]:
    """Make a method of a former name, which warns and calls the present one."""

    def call(self: Any, *args: Any, **options: Any) -> Any:
        warnings.warn(f"{type(self).__name__}.{before} is now {now}", DeprecationWarning, stacklevel=2)
        return getattr(self, now)(*args, **options)

    return call


def former_globals(module: Mapping[str, Any], names: Mapping[str, str], *, warn: bool = True) -> Callable[[str], Any]:
    """Make the `__getattr__` of a module, which finds its globals by former names. Args: module: its `globals()`."""

    def find(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {module['__name__']!r} has no attribute {name!r}")
        if warn:
            warnings.warn(f"{module['__name__']}.{name} is now {names[name]}", DeprecationWarning, stacklevel=2)
        return module[names[name]]

    return find


def former_attribute(before: str, now: str) -> Any:
    """Make an attribute of a former name, which warns, and reads and sets the present one."""

    def present_name(self: Any) -> str:
        warnings.warn(f"{type(self).__name__}.{before} is now {now}", DeprecationWarning, stacklevel=3)
        return now

    return property(
        lambda self: getattr(self, present_name(self)), lambda self, value: setattr(self, present_name(self), value)
    )


class TakesFormerTaskNames:
    """Base of tasks and environments. What a user's class defines by former names is added by the present names."""

    lanes = former_attribute("lanes", "num_envs")
    held_out_batch = former_attribute("held_out_batch", "eval_batch_size")

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for before, now in (TASK_METHODS | TASK_ATTRIBUTES).items():
            if before in vars(cls) and now not in vars(cls):
                warnings.warn(f"{cls.__name__}.{before} is now {now}", DeprecationWarning, stacklevel=3)
                setattr(cls, now, vars(cls)[before])
                if before in TASK_ATTRIBUTES:
                    delattr(cls, before)  # else it hides the property, and a later assignment is lost


class RefusesFormerReset:
    """Base of rules, losses for rewards and environments. Its subclasses must not override `begin`, now `reset`.

    Raises: TypeError for such a class: the method would never be called.
    """

    begin = former_method("begin", "reset")

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for before, now in RESET.items():
            if getattr(cls, before) is not getattr(RefusesFormerReset, before):
                raise TypeError(f"{cls.__name__}.{before} is never called: {before} is now {now}, rename it")
