"""Supervised learning on batches of sequences: run, answer, learn, and test on trials that were never learnt from."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from tracetorch import device as devices
from tracetorch import runs, training
from tracetorch.diagnostics import Diagnostic, Nothing
from tracetorch.experiments.evaluation import check_labels
from tracetorch.experiments.schedule import count_updates, schedule_of
from tracetorch.nn import Sequential
from tracetorch.rules import Rule
from tracetorch.runs.records import check_metrics
from tracetorch.tasks import Task
from tracetorch.tasks.evaluate import Evaluation, evaluate, means
from tracetorch.training.health import check_loss
from tracetorch.training.progress import Best, Log
from tracetorch.training.report import report

Loss = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(output, target) to (loss, signal)."""


def main(
    run: runs.Run,
    *,
    task: Task,
    network: Callable[[int, int], Sequential],
    rule: Callable[[Sequential], Rule],
    loss: Loss,
    optimizer: Any,
    seed: int,
    device: str = "auto",
    updates: int | None = None,
    passes: float | None = None,
    learn_every: int | None = None,
    update_every: int | Literal["moment"] | None = "moment",
    window: int | None = None,
    schedule: Literal["none", "linear", "cosine"] = "none",
    precision: Literal["float32", "bfloat16"] = "float32",
    log_every: int = 20,
    eval_every: int | None = None,
    checkpoint_seconds: float = 30.0,
    patience: int | None = None,
    figures: bool = True,
    diagnostics: Callable[..., Diagnostic] = Nothing,
) -> None:
    """Train a network on a task and test it; everything that happens goes into the run.

    Args:
        run: where it is recorded; entered here, once all parts are built, so that a bad config leaves no folder.
        task, network, rule, loss, optimizer: the parts, or what makes them.
        seed: of the initial weights (the task has it too, for trials and spikes).
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        updates, passes: how long to train: batches, or passes over the training data. Just one of the two.
        learn_every: time steps between two learning moments, each with the label; one moment, at the end of the
            sequence, if None. What is logged is the last. Memory is the same.
        update_every: time steps between two steps of the optimizer, on the sum of the gradients since the last one: a
            multiple of `learn_every`. None: one, at the end of the sequence. "moment": at each learning moment, as in
            configs of earlier versions, which have no such key.
        window: steps at the end that are read as the answer; what the task says, if None.
        schedule: of the step size: "none", or from its start to 0 at the end, "linear" or "cosine".
        precision: of the factors of the forward matrix products; see `Layer.precision`. All else is float32.
        log_every, eval_every: updates between two records, and between two evaluations (one pass, or a tenth of the
            updates, if None).
        checkpoint_seconds: a checkpoint is written with every evaluation, and when the last one is older than this;
            a run that was killed goes on from the latest.
        patience: stop after so many evaluations without a better one, and go back to the best; never, if None.
        figures: whether to draw at the end.
        diagnostics: makes what looks at the run after each update, and changes nothing in it.
    Raises: ValueError if the parts do not fit, before anything is written; training.TrainingError if the network dies.
    """
    update_every = _update_every(learn_every, update_every)
    _check_counts(
        task,
        {
            "learn_every": learn_every,
            "update_every": update_every,
            "log_every": log_every,
            "eval_every": eval_every,
            "patience": patience,
        },
        window,
        checkpoint_seconds,
    )
    total = count_updates(task, task.batches_per_pass, updates, passes)
    eval_every, window = eval_every or task.batches_per_pass or max(1, total // 10), window or task.readout_window
    run.device = devices.resolve(device)
    task.to(run.device)
    torch.manual_seed(seed)
    net = network(task.input_size, task.output_size).to(run.device)
    learner, optimizer = rule(net), optimizer(parameter_groups(net))
    set_precision(learner, precision)
    rate, test = schedule_of(optimizer, schedule, total), partial(evaluate, learner, task, loss, window=window)
    diagnostic = diagnostics(learner, task, loss, window=window, learn_every=learn_every)
    _rehearse(learner, task, loss, window)
    best, log, health = Best(patience), Log(["loss", *task.metrics]), training.HealthWatch()
    parts = {"schedule": rate, "best": best, "log": log, "health": health, "rule": learner}
    run.planned_updates, run.eval_every, update = total, eval_every, run.restore(net, optimizer, **parts)

    with run:
        while update < total and not best.is_final and not run.interrupted:
            update += 1
            is_last = update == total
            with run.training():
                batch = task.train_batch(update - 1)
                learner.begin()
                for stretch in batch.xs.split(update_every or batch.xs.steps):
                    optimizer.zero_grad()
                    for part in stretch.split(learn_every or stretch.steps):
                        output = learner.forward(part, reduce="mean", window=min(window or part.steps, part.steps))
                        value, signal = loss(output, batch.target)
                        check_loss(float(value), update, net)
                        learner.backward(signal)
                    optimizer.step()
                rate.step()
            log.add({"loss": float(value), **means(task.judge(output, batch), task.metrics)}, batch.xs.steps)
            run.progress(update, total, **log.averages())
            if is_last or update % log_every == 0:
                health.look(net, output, update, last=is_last)
                run.record({"update": update, "split": "train", **log.take(run.timings["train_seconds"])})
            diagnostic.look(run, update, last=is_last)
            is_due = is_last or update % eval_every == 0
            score = _validate(run, update, test, partial(health.compare, net)) if is_due else None
            if score is not None and best.update(score[task.metrics[0]]):
                run.save("best", net, optimizer, update, **parts)
            if is_due or run.interrupted or run.seconds_since_save() > checkpoint_seconds:
                run.save("latest", net, optimizer, update, **parts)
        run.summary |= {"updates": update, "steps_per_second": log.steps / run.timings.get("train_seconds", 1.0)}
        if update < total and not best.is_final:
            run.give_up()
            return
        run.summary["tested"] = "best" if patience else "latest"
        if patience:
            runs.load_checkpoint(run.folder.checkpoint("best"), net)
        report(run, learner, task, loss, window, figures=figures)


def _validate(
    run: runs.Run, update: int, test: Callable[..., Evaluation | None], compare: Callable[[float, int], None]
) -> dict[str, float] | None:
    """Test on what is held out for validation, and record it. Returns: None if nothing is held out."""
    with run.timed("evaluate_seconds"):
        held_out = test(split="validation")
    if held_out is not None:
        run.record({"update": update, "split": "validation", **held_out.means})
        compare(held_out.means["loss"], update)
    return held_out and held_out.means


def parameter_groups(net: Sequential) -> list[dict[str, Any]]:
    """Weights, which an optimizer's weight decay may shrink; and the rest, which it may not.

    Thresholds and decays are stored raw, where 0 stands for nothing in particular: shrinking them would be a force of
    its own, towards a threshold of .69 and a decay of .5.
    """
    named = [(name, parameter) for name, parameter in net.named_parameters() if parameter.requires_grad]
    if not named:
        raise ValueError(
            "the network has no trainable parameters: name some in network.neuron.learn or network.readout.learn"
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


def _rehearse(learner: Rule, task: Task, loss: Loss, window: int | None) -> None:
    """One batch without learning, so that parts that do not fit are found before anything is written."""
    check_labels(learner, task)
    batch = task.train_batch(0)
    learner.begin()
    loss(learner.forward(batch.xs, reduce="mean", window=window), batch.target)
    learner.begin()


def _update_every(learn_every: int | None, update_every: int | Literal["moment"] | None) -> int | None:
    """Time steps between two updates; None: one at the end. Raises: ValueError for updates between learning moments."""
    if update_every == "moment":
        return learn_every
    if update_every and (learn_every is None or update_every % learn_every):
        learns = "at the end alone (train.learn_every=null)" if learn_every is None else f"every {learn_every} steps"
        raise ValueError(
            f"train.update_every={update_every}: the network learns {learns}, and updates follow learning moments: "
            "give a multiple of train.learn_every, or null for one update at the end"
        )
    return update_every


def _check_counts(task: Task, counts: dict[str, int | None], window: int | None, checkpoint_seconds: float) -> None:
    if not isinstance(task, Task):
        raise ValueError(f"{type(task).__name__} gives rewards, not labels: choose train=reinforcement")
    check_metrics(task)
    for name, count in counts.items():
        if count is not None and count < 1:
            raise ValueError(f"train.{name} must be at least 1, or null, got {count}")
    if checkpoint_seconds < 0:
        raise ValueError(f"train.checkpoint_seconds must be at least 0, got {checkpoint_seconds:g}")
    if window is not None and not 1 <= window <= task.steps:
        raise ValueError(f"train.window must lie between 1 and the {task.steps} steps of a trial, got {window}")
    if counts["patience"] and next(iter(task.held_out("validation")), None) is None:
        raise ValueError("train.patience needs validation trials, and the task has none")
