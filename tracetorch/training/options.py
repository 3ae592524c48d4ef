"""The options of `train`, checked: all that calls from Python and from the command line have in common."""

from __future__ import annotations

import math
from collections.abc import Collection

from tracetorch.runs.records import check_metrics
from tracetorch.tasks import Environment, Task


def check_counts(**counts: int | None) -> None:
    """Raises: ValueError for an option of `train` that counts from 1, and does not. Args: counts: by name."""
    for name, count in counts.items():
        if count is not None and not isinstance(count, int):
            raise ValueError(f"train.{name} must be a whole number, got {count!r}")
        if count is not None and count < 1:
            raise ValueError(f"train.{name} must be at least 1, got {count}")


def check_choice(name: str, value: object, allowed: Collection[str]) -> None:
    """Raises: ValueError for a value of an option of `train` that is not one of those allowed."""
    if value not in allowed:
        raise ValueError(f"train.{name} must be one of {', '.join(allowed)}, got {value!r}")


def check_task(task: Task | Environment, window: int | None, feedback: str | None = None) -> None:
    """Raises: ValueError for another kind of feedback, a metric whose name is taken, or a window that does not fit.

    Args: feedback: "labels" or "rewards", what the run learns from; None for either.
    """
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
        if not 0 < passes < math.inf:
            raise ValueError(f"train.passes must be above 0 and finite, got {passes:g}")
        updates = round(passes * per_pass)
    if updates < 1:
        raise ValueError(f"train.updates or train.passes must make at least 1 update, got {updates}")
    return updates
