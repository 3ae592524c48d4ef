"""Testing a network that was trained before: no learning, only the test and what it leaves."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from tracetorch import device as devices
from tracetorch import runs
from tracetorch.loss import cross_entropy, cross_entropy_with_logits, mse
from tracetorch.nn import Sequential
from tracetorch.rules import Rule
from tracetorch.runs.checkpoint import read_checkpoint
from tracetorch.runs.records import check_metrics
from tracetorch.tasks import Environment, Task
from tracetorch.training.report import report, report_play


def main(
    run: runs.Run,
    *,
    task: Task | Environment,
    network: Callable[[int, int], Sequential],
    rule: Callable[[Sequential], Rule],
    loss: Callable[..., Any],
    checkpoint: Path,
    device: str = "auto",
    window: int | None = None,
    precision: Literal["float32", "bfloat16"] = "float32",
    figures: bool = True,
) -> None:
    """Test a checkpoint's network on a task; what comes of it goes into the run.

    Args:
        run: where it is recorded; entered here, once all parts are built, so that a bad config leaves no folder.
        task, network, rule, loss: the parts, or what makes them.
        checkpoint: with the weights.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        window: steps at the end that are read as the answer; what the task says, if None.
        precision: of the factors of the forward matrix products.
        figures: whether to draw.
    Raises: ValueError if the checkpoint is damaged, or the task has become another's size, before anything is written.
    """
    if window is not None and not 1 <= window <= task.steps:
        raise ValueError(f"train.window must lie between 1 and the {task.steps} steps of a trial, got {window}")
    check_metrics(task)
    run.device = devices.resolve(device)
    task.to(run.device)
    net, told = build(task, network, loss)
    net.to(run.device)
    counters = load_tested(checkpoint, net, task)
    net.precision = torch.bfloat16 if precision == "bfloat16" else None
    with run:
        run.summary |= {"updates": counters["update"], "checkpoint": checkpoint.stem}
        if isinstance(task, Environment):
            report_play(run, net, task, told.policy, window or task.readout_window, figures=figures)
        else:
            report(run, rule(net), task, told, window or task.readout_window, figures=figures)


def load_tested(checkpoint: Path, net: Sequential, task: Task | Environment) -> dict[str, Any]:
    """Put a checkpoint's weights into a network, and into an environment what it had become by then.

    Returns: the rest of the checkpoint.
    Raises: FileNotFoundError, ValueError as `runs.load_checkpoint`.
    """
    counters = runs.load_checkpoint(checkpoint, net)
    if isinstance(task, Environment):
        task.load_for_test(counters["parts"]["task"])
    return counters


def of_checkpoint(checkpoint: Path, network: Callable[[int, int], Sequential]) -> Sequential:
    """The network of a checkpoint, its sizes taken from the weights there.

    Raises: FileNotFoundError, ValueError as `runs.load_checkpoint`.
    """
    shapes = [v.shape for name, v in read_checkpoint(checkpoint)["net"].items() if name.endswith("weight")]
    if not shapes:
        raise ValueError(f"{checkpoint} holds no weights")
    net = network(shapes[0][1], shapes[-1][0])
    runs.load_checkpoint(checkpoint, net)
    return net


def build(
    task: Task | Environment, network: Callable[[int, int], Sequential], loss: Callable[..., Any]
) -> tuple[Sequential, Any]:
    """A network of the size that a task and a loss ask for; and the loss, which for rewards has yet to be made."""
    made, name = loss.func if isinstance(loss, partial) else loss, type(task).__name__
    rewarded = hasattr(made, "observe")
    if isinstance(task, Environment) and made in (cross_entropy, cross_entropy_with_logits, mse):
        raise ValueError(f"{name} gives rewards, not labels: choose loss=reflect or loss=actor_critic")
    if rewarded and not isinstance(task, Environment):
        raise ValueError(f"{name} gives labels, not rewards: choose loss=cross_entropy or loss=mse")
    told = loss() if isinstance(task, Environment) else loss
    return network(task.input_size, task.output_size + getattr(told, "values", 0)), told


def check_labels(learner: Rule, task: Task) -> None:
    """Raises: ValueError if the rule cannot learn from labels."""
    if learner.learns_from == "rewards":
        raise ValueError(
            f"{type(learner).__name__} learns from rewards, and {type(task).__name__} gives labels: choose rule=trace"
        )
