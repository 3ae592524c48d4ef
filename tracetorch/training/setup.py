"""What every kind of experiment takes, checks and makes in the same way: the parts of a run."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from tracetorch import device as devices
from tracetorch import runs
from tracetorch.diagnostics import Diagnostic, Nothing
from tracetorch.loss import cross_entropy, cross_entropy_with_logits, mse
from tracetorch.nn import Sequential
from tracetorch.rules import Rule
from tracetorch.runs.checkpoint import read_checkpoint
from tracetorch.tasks import Environment, Task
from tracetorch.training.options import check_choice, check_counts, check_task


class Setup:
    """The parts of a run, made from what a config names, and the options that all kinds of experiment share.

    Args:
        run: gets the device.
        feedback: "labels" or "rewards": what the kind of experiment learns from; None for either.
        task: with labels or with rewards.
        network: (inputs, outputs) to a network.
        rule: of a network, how it learns.
        loss: (output, target) to (loss, signal); for rewards, what makes one such as `Reflect`.
        optimizer: of parameter groups, such as `partial(torch.optim.Adam, lr=0.02)`.
        seed: of the initial weights and of drawn actions (the task has it too, for trials and spikes).
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        window: steps at the end of a trial or observation that are read as the answer; the task's own, if None.
        schedule: of the learning rate: "none", or from its start to 0 at the end, "linear" or "cosine".
        precision: of the factors of the forward matrix products; see `Layer.precision`. All else is float32.
        log_every: updates between two records.
        checkpoint_seconds: a checkpoint is written when the last one is older than this; a run that was killed
            continues from it.
        figures: whether to draw at the end.
        diagnostics: makes what looks at the run after each update, and changes nothing in it.
    Raises: ValueError if the parts do not fit.
    """

    def __init__(
        self,
        run: runs.Run,
        *,
        feedback: Literal["labels", "rewards"] | None,
        task: Task | Environment,
        network: Callable[[int, int], Sequential],
        rule: Callable[[Sequential], Rule],
        loss: Callable[..., Any],
        optimizer: Callable[..., torch.optim.Optimizer],
        seed: int,
        device: str = "auto",
        window: int | None = None,
        schedule: Literal["none", "linear", "cosine"] = "none",
        precision: Literal["float32", "bfloat16"] = "float32",
        log_every: int = 100,
        checkpoint_seconds: float = 30.0,
        figures: bool = True,
        diagnostics: Callable[..., Diagnostic] = Nothing,
    ):
        check_task(task, window, feedback)
        check_counts(log_every=log_every)
        check_choice("schedule", schedule, ("none", "linear", "cosine"))
        check_choice("precision", precision, ("float32", "bfloat16"))
        if not checkpoint_seconds >= 0:
            raise ValueError(f"train.checkpoint_seconds must be at least 0, got {checkpoint_seconds:g}")
        run.device = devices.resolve(device)
        task.to(run.device)
        torch.manual_seed(seed)
        net, self.loss = network_and_loss(task, network, loss)
        net.to(run.device)
        self.learner, self.optimizer = rule(net), optimizer(parameter_groups(net))
        set_precision(self.learner, precision)
        self.task: Any = task
        self.seed, self.window, self.schedule = seed, window or task.readout_window, schedule
        self.log_every, self.checkpoint_seconds, self.figures = log_every, checkpoint_seconds, figures
        self.diagnostics = diagnostics


def network_and_loss(
    task: Task | Environment, network: Callable[[int, int], Sequential], loss: Callable[..., Any]
) -> tuple[Sequential, Any]:
    """A network of the size that a task and a loss need; and the loss, which for rewards has yet to be made."""
    made, name = loss.func if isinstance(loss, partial) else loss, type(task).__name__
    rewarded = hasattr(made, "observe")
    if isinstance(task, Environment) and made in (cross_entropy, cross_entropy_with_logits, mse):
        raise ValueError(f"{name} gives rewards, not labels: choose loss=reflect or loss=actor_critic")
    if rewarded and not isinstance(task, Environment):
        raise ValueError(f"{name} gives labels, not rewards: choose loss=cross_entropy or loss=mse")
    loss = loss() if isinstance(task, Environment) else loss
    return network(task.input_size, task.output_size + getattr(loss, "values", 0)), loss


def parameter_groups(net: Sequential) -> list[dict[str, Any]]:
    """Weights, which an optimizer's weight decay may shrink; and the rest, which it may not.

    Thresholds and decays are stored raw, where 0 has no meaning: weight decay would pull them towards a threshold of
    .69 and a decay of .5.
    """
    named = [(name, parameter) for name, parameter in net.named_parameters() if parameter.requires_grad]
    if not named:
        raise ValueError(
            "the network has no trainable parameters: name some in network.neuron.trainable "
            "or network.readout.trainable"
        )
    weights = [parameter for name, parameter in named if name.endswith("weight")]
    others = [parameter for name, parameter in named if not name.endswith("weight")]
    groups: list[dict[str, Any]] = [{"params": weights}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def set_precision(learner: Rule, precision: str) -> None:
    """Raises: ValueError if the rule would learn from other spikes than those of the rounded weights."""
    if precision == "float32":
        return
    if not learner.takes_precision:
        name = type(learner).__name__
        raise ValueError(f"train.precision={precision} needs rule=trace: {name} computes in float32")
    learner.net.precision = torch.bfloat16


def load_tested(checkpoint: Path, net: Sequential, task: Task | Environment) -> dict[str, Any]:
    """Load a checkpoint's weights into a network, and into an environment what it had learned of its observations.

    Returns: the rest of the checkpoint.
    Raises: FileNotFoundError, ValueError as `runs.load_checkpoint`.
    """
    counters = runs.load_checkpoint(checkpoint, net)
    if isinstance(task, Environment):
        task.load_for_test(counters["parts"]["task"])
    return counters


def network_of(checkpoint: Path, network: Callable[[int, int], Sequential]) -> Sequential:
    """The network of a checkpoint, its sizes taken from the weights there.

    Raises: FileNotFoundError, ValueError as `runs.load_checkpoint`.
    """
    shapes = [v.shape for name, v in read_checkpoint(checkpoint)["net"].items() if name.endswith("weight")]
    if not shapes:
        raise ValueError(f"{checkpoint} holds no weights")
    net = network(shapes[0][1], shapes[-1][0])
    runs.load_checkpoint(checkpoint, net)
    return net
