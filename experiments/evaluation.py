"""Test of a trained network: no learning, only the test and its report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch

from tracetorch import device as devices
from tracetorch.nn import Sequential
from tracetorch.rules import Rule
from tracetorch.runs import Run
from tracetorch.tasks import Environment, Task
from tracetorch.training.report import report, report_policy
from tracetorch.training.setup import check_task, load_for_test, load_task_state, network_and_loss


def main(
    run: Run,
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
    """Test a checkpoint's network on a task; the results go into the run.

    Args:
        run: entered here, after all parts are built, so that an invalid config leaves no folder.
        checkpoint: file with the weights.
        task, network, rule, loss, device, window, precision, figures: as of `Setup`.
    Raises: ValueError for a damaged checkpoint or a task of another size, before anything is written.
    """
    check_task(task, window)
    run.device = devices.resolve(device)
    task.to(run.device)
    load_task_state(checkpoint, task)
    net, built_loss = network_and_loss(task, network, loss)
    net.to(run.device)
    content = load_for_test(checkpoint, net, task)
    net.precision = torch.bfloat16 if precision == "bfloat16" else None
    window = window or task.readout_window
    with run:
        run.summary |= {"updates": content["update"], "checkpoint": checkpoint.stem}
        if isinstance(task, Environment):
            report_policy(run, net, task, built_loss.policy, window, figures=figures)
        else:
            report(run, rule(net), task, built_loss, window, figures=figures)
