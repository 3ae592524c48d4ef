"""The parts of a run, which every kind of experiment checks and builds in the same way."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any, Literal

import torch
from torch.nn import Module

from tracetorch import device as devices
from tracetorch import runs
from tracetorch.diagnostics import Diagnostic, Nothing
from tracetorch.modes import check_number, kind_of
from tracetorch.nn import Sequential
from tracetorch.rules import Rule
from tracetorch.runs.checkpoint import read_checkpoint
from tracetorch.runs.records import COSTS, RESERVED
from tracetorch.tasks import Environment, Task
from tracetorch.tasks.task import choices
from tracetorch.training.clipping import Clipping
from tracetorch.training.transfer import freeze, transfer, transfer_note


def check_counts(**counts: int | None) -> None:
    """Raises: as `check_count`, for each count that is not None."""
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
    """Raises: TypeError for a part that cannot be called, or for a module (except a loss) in place of its factory."""
    for name, part in parts.items():
        if not callable(part) or (isinstance(part, Module) and name != "loss"):
            got = repr(part) if isinstance(part, str) else kind_of(part)
            raise TypeError(f"{name} must be {_EXPECTED[name]}, got {got}")


_EXPECTED = {
    "network": "a function of the numbers of inputs and outputs that makes the network, such as "
    "partial(feedforward, hidden=[64], neuron=LIF, readout=LIS)",
    "rule": "a function of the network that makes the rule, such as tracetorch.rules.Trace",
    "loss": "a function (output, target) to (loss, signal), such as tracetorch.loss.mse, or a function that "
    "makes a loss for rewards, such as tracetorch.loss.Reflect",
    "optimizer": "a function of the parameters that makes the optimizer, such as partial(torch.optim.Adam, lr=0.02)",
    "diagnostics": "a function that makes the diagnostic, such as tracetorch.diagnostics.Nothing",
}


def check_task(task: Task | Environment, window: int | None, feedback: str | None = None) -> None:
    """Raises: TypeError for an object that is not a task; ValueError for another kind of feedback, a metric with a
    reserved name, or a window that does not fit.

    Args: window: as in `Setup`. feedback: "labels" or "rewards"; None for either.
    """
    if not isinstance(task, Task | Environment):
        got = repr(task) if isinstance(task, str) else kind_of(task)
        raise TypeError(f"task must be a task or an environment, such as tracetorch.tasks.Patterns(), got {got}")
    given, other = ("rewards", "reinforcement") if isinstance(task, Environment) else ("labels", "supervised")
    if feedback not in (None, given):
        raise ValueError(f"{type(task).__name__} gives {given}, not {feedback}: choose train={other}")
    for name in task.metrics:
        if name in RESERVED or name.endswith(COSTS):
            why = (
                "is a field of every record"
                if name in RESERVED
                else f"has an ending reserved for costs ({', '.join(COSTS)})"
            )
            raise ValueError(f"{type(task).__name__}.metrics: {name!r} {why}; give the metric another name")
    if window is not None and not 1 <= window <= task.steps:
        raise ValueError(f"train.window must lie between 1 and the {task.steps} steps of a trial, got {window}")


def count_updates(task: object, per_pass: int | None, updates: int | None, passes: float | None) -> int:
    """Return the number of updates of a run, from `updates` or `passes`.

    Args: per_pass: updates in one pass over the training data; None if the data never end.
    Raises: ValueError unless exactly one of the two is given and gives at least one update.
    """
    if passes is not None and per_pass is None:
        name = type(task).__name__
        raise ValueError(f"train.passes: the data of {name} never end; give train.updates in its place")
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
        raise ValueError(f"train.updates or train.passes must give at least 1 update, got {updates}")
    return updates


class Setup:
    """The parts of a run, built from the functions of a config, and the options that all kinds of experiment share.

    Args:
        run: gets its device, its sizes, and notes on a start from a trained network.
        feedback: "labels" or "rewards", as the kind of experiment needs; None for either.
        task: with labels or with rewards.
        network: from numbers of inputs and outputs to a network.
        rule: from a network to its learning rule.
        loss: (output, target) to (loss, signal); for rewards, a function that makes a loss such as `Reflect`.
        optimizer: from parameter groups to an optimizer, such as `partial(torch.optim.Adam, lr=0.02)`.
        seed: of the initial weights and of drawn actions; trials and spikes depend on the task's seed.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        init_from, init_parts: the folder of a run whose network to start from, and what to take; see `transfer`.
        frozen: layers that are not trained; see `freeze`.
        window: steps at the end of a trial or observation that are read as the answer; None: `task.readout_window`.
        schedule: of the learning rate: "none" (constant), or "linear" or "cosine" to 0 at the end.
        clip_norm, clip_value: limits of the gradients; see `Clipping`. None: no limit.
        precision: of the factors of the forward matrix products; see `Layer.precision`. The rest is float32.
        log_every: updates between two records.
        checkpoint_seconds: a checkpoint is written when the last one is older than this; a run that was killed
            continues from it.
        figures: whether to draw at the end.
        diagnostics: makes a diagnostic, which observes the run after each update without changing it.
    Raises: TypeError for a part of the wrong kind; ValueError if the parts do not fit.
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
        init_from: str | Path | None = None,
        init_parts: Sequence[str] = ("hidden", "readout"),
        frozen: Sequence[int | str] = (),
        window: int | None = None,
        schedule: Literal["none", "linear", "cosine"] = "none",
        clip_norm: float | None = None,
        clip_value: float | None = None,
        precision: Literal["float32", "bfloat16"] = "float32",
        log_every: int = 100,
        checkpoint_seconds: float = 30.0,
        figures: bool = True,
        diagnostics: Callable[..., Diagnostic] = Nothing,
    ):
        check_task(task, window, feedback)
        check_parts(network=network, rule=rule, loss=loss, optimizer=optimizer, diagnostics=diagnostics)
        check_count("log_every", log_every)
        choices("train.schedule", schedule, ("none", "linear", "cosine"))
        choices("train.precision", precision, ("float32", "bfloat16"))
        check_number(checkpoint_seconds, "train.checkpoint_seconds")
        if not checkpoint_seconds >= 0:
            raise ValueError(f"train.checkpoint_seconds must be at least 0, got {checkpoint_seconds:g}")
        run.device = devices.resolve(device)
        task.to(run.device)
        torch.manual_seed(seed)
        net, self.loss = network_and_loss(task, network, loss)
        run.sizes = sizes_of(task, self.loss)
        net.to(run.device)
        freeze(net, frozen)
        self.learner, self.optimizer = rule(net), optimizer(parameter_groups(net))
        if init_from is not None and not run.has_checkpoint:
            run.init = transfer(init_from, net, parts=init_parts, optimizer=self.optimizer, task=task)
            run.notes.append(transfer_note(run.init, len(net)))
        if precision != "float32":
            if not self.learner.takes_precision:  # its forward pass uses float32 weights, whose spikes may differ
                name = type(self.learner).__name__
                raise ValueError(
                    f"train.precision={precision} needs rule=trace or three_factor: {name} computes in float32"
                )
            net.precision = torch.bfloat16
        self.clipping = Clipping(net.parameters(), clip_norm, clip_value)
        self.task: Any = task
        self.seed, self.window, self.schedule = seed, window or task.readout_window, schedule
        self.log_every, self.checkpoint_seconds, self.figures = log_every, checkpoint_seconds, figures
        self.diagnostics = diagnostics


def network_and_loss(
    task: Task | Environment, network: Callable[[int, int], Sequential], loss: Callable[..., Any]
) -> tuple[Sequential, Any]:
    """Return a network with the sizes that the task and the loss need, and the loss.

    For rewards, `loss` is a function that makes the loss, and is called here.

    Raises: ValueError for a loss for labels with an environment, or a loss for rewards with another task.
    """
    factory, name = loss.func if isinstance(loss, partial) else loss, type(task).__name__
    rewarded = hasattr(factory, "observe")
    if isinstance(task, Environment) and not rewarded and not _takes_no_arguments(loss):
        raise ValueError(f"{name} gives rewards, not labels: choose loss=reflect or loss=actor_critic")
    if rewarded and not isinstance(task, Environment):
        raise ValueError(f"{name} gives labels, not rewards: choose loss=cross_entropy or loss=mse")
    loss = loss() if isinstance(task, Environment) else loss
    return network(*sizes_of(task, loss)), loss


def sizes_of(task: Task | Environment, loss: Any) -> tuple[int, int]:
    """Return the numbers of inputs and outputs that a network needs."""
    return task.input_size, task.output_size + getattr(loss, "values", 0)


def _takes_no_arguments(function: Callable[..., Any]) -> bool:
    """Whether a function can be called without arguments."""
    try:
        signature(function).bind()
    except TypeError:
        return False
    return True


def parameter_groups(net: Sequential) -> list[dict[str, Any]]:
    """Return two parameter groups: weights, and all other parameters without weight decay.

    Weights are parameters of a connection with two or more dimensions, also if pruning or a norm reparametrises them.
    Thresholds and decays are stored raw: weight decay would pull them towards a threshold of .69 and a decay of .5.

    Raises: ValueError for a network without trainable parameters.
    """
    named = [(name, parameter) for name, parameter in net.named_parameters() if parameter.requires_grad]
    if not named:
        raise ValueError(
            "the network has no trainable parameters: name some in network.neuron.trainable "
            "or network.readout.trainable"
        )
    of_connections = {parameter for layer in net for parameter in layer.connection.parameters()}
    weights = [parameter for _, parameter in named if parameter in of_connections and parameter.ndim > 1]
    others = [parameter for _, parameter in named if parameter not in of_connections or parameter.ndim < 2]
    groups: list[dict[str, Any]] = [{"params": weights}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def load_task_state(checkpoint: Path, task: Task | Environment) -> None:
    """Load a checkpoint's state of a task, before the network is made.

    Raises: ValueError if the network has another number of inputs than the task.
    """
    content = read_checkpoint(checkpoint)
    if "task" in content["parts"]:
        task.load_for_test(content["parts"]["task"])
    inputs = (content.get("sizes") or [task.input_size])[0]
    if inputs != task.input_size:
        raise ValueError(
            f"the network has {inputs:,} inputs, and with these settings the task has {task.input_size:,}: leave out "
            "the settings of the task that change its inputs"
        )


def load_for_test(checkpoint: Path, net: Sequential, task: Task | Environment) -> dict[str, Any]:
    """Load a checkpoint's weights into a network, and its state of the task (such as statistics of observations).

    Returns: the other values of the checkpoint, such as {"update": 120}.
    Raises: FileNotFoundError, ValueError as `runs.load_checkpoint`.
    """
    content = runs.load_checkpoint(checkpoint, net)
    if isinstance(task, Environment) or "task" in content["parts"]:
        task.load_for_test(content["parts"]["task"])
    return content


def network_of(checkpoint: Path, network: Callable[[int, int], Sequential]) -> Sequential:
    """Return the network of a checkpoint, with the sizes stored in it. Raises: as `runs.load_checkpoint`."""
    content = read_checkpoint(checkpoint)
    sizes = content.get("sizes")
    if not sizes:  # older versions stored no sizes; their weights were matrices only
        shapes = [value.shape for name, value in content["net"].items() if "weight" in name and value.ndim > 1]
        if not shapes:
            raise ValueError(f"{checkpoint} holds no weights")
        sizes = shapes[0][1], shapes[-1][0]
    net = network(*sizes)
    runs.load_checkpoint(checkpoint, net)
    return net
