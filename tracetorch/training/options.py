"""The options of `train`, checked: all that calls from Python and from the command line have in common."""

from __future__ import annotations

import math
from collections.abc import Collection

from torch.nn import Module

from tracetorch.modes import check_number, kind_of
from tracetorch.runs.records import check_metrics
from tracetorch.tasks import Environment, Task


def check_counts(**counts: int | None) -> None:
    """Raises: as `check_count`, for any that is not None. Args: counts: by name."""
    for name, count in counts.items():
        if count is not None:
            check_count(name, count)


def check_count(name: str, count: object) -> None:
    """Raises: ValueError for an option of `train` that is not a whole number above 0."""
    if not isinstance(count, int):
        raise ValueError(f"train.{name} must be a whole number, got {count!r}")
    if count < 1:
        raise ValueError(f"train.{name} must be at least 1, got {count}")


def check_parts(**parts: object) -> None:
    """Raises: TypeError for a part that is not a function, or that is the module a function should make.

    Args: parts: by name.
    """
    for name, part in parts.items():
        if not callable(part) or (isinstance(part, Module) and name != "loss"):
            got = repr(part) if isinstance(part, str) else kind_of(part)
            raise TypeError(f"{name} must be {_MAKES[name]}, got {got}")


_MAKES = {
    "network": "a function of the numbers of inputs and outputs that makes the network, such as "
    "partial(feedforward, hidden=[64], neuron=LIF, readout=LIS)",
    "rule": "a function of the network that makes the rule, such as tracetorch.rules.Trace",
    "loss": "a function (output, target) to (loss, signal), such as tracetorch.loss.mse, or what makes a loss for "
    "rewards, such as tracetorch.loss.Reflect",
    "optimizer": "a function of the parameters that makes the optimizer, such as partial(torch.optim.Adam, lr=0.02)",
    "diagnostics": "a function that makes the diagnostic, such as tracetorch.diagnostics.Nothing",
}


def check_choice(name: str, value: object, allowed: Collection[str]) -> None:
    """Raises: ValueError for a value of an option of `train` that is not one of those allowed."""
    if value not in allowed:
        raise ValueError(f"train.{name} must be one of {', '.join(allowed)}, got {value!r}")


def check_task(task: Task | Environment, window: int | None, feedback: str | None = None) -> None:
    """Raises: TypeError for what is not a task; ValueError for another kind of feedback, a metric whose name is taken,
    or a window that does not fit.

    Args: feedback: "labels" or "rewards", what the run learns from; None for either.
    """
    if not isinstance(task, Task | Environment):
        got = repr(task) if isinstance(task, str) else kind_of(task)
        raise TypeError(f"task must be a task or an environment, such as tracetorch.tasks.Patterns(), got {got}")
    given, other = ("rewards", "reinforcement") if isinstance(task, Environment) else ("labels", "supervised")
    if feedback not in (None, given):
        raise ValueError(f"{type(task).__name__} gives {given}, not {feedback}: choose train={other}")
    check_metrics(task)
    if window is not None and not 1 <= window <= task.steps:
        raise ValueError(f"train.window must lie between 1 and the {task.steps} steps of a trial, got {window}")


def count_updates(task: object, per_pass: int | None, updates: int | None, passes: float | None) -> int:
    """The updates of a run, from the one of two settings that is given.

    Args: per_pass: updates in one pass over the training data; None if these never end.
    Raises: ValueError if not exactly one is given, or if it makes no update.
    """
    if passes is not None and per_pass is None:
        name = type(task).__name__
        raise ValueError(f"train.passes: the data of {name} never end; give train.updates, and train.passes=null")
    if updates is not None and passes is not None:
        raise ValueError(
            f"train.updates={updates} and train.passes={passes:g} are both set: add train.passes=null to train for "
            f"{updates} updates, or train.updates=null to train for {passes:g} passes"
        )
    if updates is None:
        if passes is None or per_pass is None:
            raise ValueError(
                "train.updates and train.passes are both null: give one of them, such as train.updates=300"
            )
        check_number(passes, "train.passes")
        if not 0 < passes < math.inf:
            raise ValueError(f"train.passes must be above 0 and finite, got {passes:g}")
        updates = round(passes * per_pass)
    if not isinstance(updates, int):
        raise ValueError(f"train.updates must be a whole number, got {updates!r}")
    if updates < 1:
        raise ValueError(f"train.updates or train.passes must make at least 1 update, got {updates}")
    return updates
