"""Running a network over held-out trials, without learning."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from tracetorch.rules.base import Rule
from tracetorch.tasks.task import Task, Trials


class Evaluation(NamedTuple):
    """What came of held-out trials."""

    means: dict[str, float]  # the loss and the task's metrics
    trials: Trials  # one value for each trial, on the CPU


@torch.no_grad()
def evaluate(
    learner: Rule,
    task: Task,
    loss: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    split: str,
    window: int | None,
) -> Evaluation | None:
    """Run over all trials of a split.

    Args:
        learner: its network's state is forgotten before and after.
        split: "validation" or "test".
        window: steps at the end that are read as the answer; all, if None.
    Returns: None if the split is empty.
    """
    columns: list[Trials] = []
    total, count = 0.0, 0
    for batch in task.eval_batches(split):
        learner.reset()
        output = learner.forward(batch.xs, reduce="mean", window=window)
        rows = len(batch.target)
        total, count = total + float(loss(output, batch.target)[0]) * rows, count + rows
        columns.append({name: value.cpu() for name, value in task.score(output, batch).items()})
    learner.reset()
    if not count:
        return None
    trials = {name: torch.cat([part[name] for part in columns]) for name in columns[0]}
    return Evaluation({"loss": total / count, **means(trials, task.metrics)}, trials)


def means(trials: Trials, names: Iterable[str]) -> dict[str, float]:
    """The mean of the named columns."""
    return {name: float(trials[name].double().mean()) for name in names}
