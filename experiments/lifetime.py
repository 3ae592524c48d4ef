"""A lifetime: one endless stream of decisions without resets, with sparse rewards or labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch

from tracetorch import device as devices
from tracetorch import runs, training
from tracetorch.diagnostics import Diagnostic, Nothing
from tracetorch.experiments.acting import check_counts, restore
from tracetorch.experiments.evaluation import build
from tracetorch.experiments.schedule import schedule_of
from tracetorch.experiments.supervised import parameter_groups, set_precision
from tracetorch.experiments.teachers import Labelling, Rewarding, Teacher
from tracetorch.memory import memory_bytes, memory_through
from tracetorch.nn import Sequential
from tracetorch.rules.base import Rule
from tracetorch.tasks import Environment, Task
from tracetorch.training.feedback_schedule import FeedbackSchedule
from tracetorch.training.health import check_loss
from tracetorch.training.life import Life
from tracetorch.training.progress import Log
from tracetorch.training.report import draw_life, report, report_play


def main(
    run: runs.Run,
    *,
    task: Task | Environment,
    network: Callable[[int, int], Sequential],
    rule: Callable[[Sequential], Rule],
    loss: Callable[..., Any],
    optimizer: Any,
    seed: int,
    device: str = "auto",
    updates: int | None = None,
    steps: int | None = None,
    teach_every: float = 1.0,
    averages: Sequence[int] = (50, 500, 5000),
    recovered_at: float = 0.9,
    window: int | None = None,
    schedule: Literal["none", "linear", "cosine"] = "none",
    precision: Literal["float32", "bfloat16"] = "float32",
    log_every: int = 100,
    checkpoint_seconds: float = 30.0,
    figures: bool = True,
    diagnostics: Callable[..., Diagnostic] = Nothing,
) -> None:
    """Let a network live: see, decide, and learn whenever it is told something, until it is stopped.

    An update is one decision in each lane. Neither the network's states and traces, nor what the loss expects, nor the
    optimizer is ever reset: where a trial or an episode ends, the stream goes on. For rewards actions are drawn; with
    labels the largest output is the answer. Only a life that was to end is tested, at its end, on what is held out.

    Args:
        run: where it is recorded; entered here, once all parts are built, so that a bad config leaves no folder.
        task, network, rule, loss, optimizer: the parts, or what makes them; a task with rewards or one with labels.
        seed: of the weights, of the actions and of when something is told (the task has it too).
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        updates, steps: how long to live at most: decisions in each lane, and time steps of the network; the shorter of
            the two ends it. None: as long as it is let.
        teach_every: decisions per feedback, on average; see `FeedbackSchedule`.
        averages: half-lives of the running averages of the reward or the accuracy, in decisions.
        recovered_at: which share of the best before any change of the world counts as having learnt it again.
        window: steps at the end of an observation that are read as the answer; what the task says, if None.
        schedule: of the step size: "none", or from its start to 0 at the end, "linear" or "cosine", if there is
            one; it begins with the first moment at which something is told.
        precision: of the factors of the forward matrix products; see `Layer.precision`. All else is float32.
        log_every: updates between two records.
        checkpoint_seconds: a checkpoint is written when the last one is older than this, and when the life is stopped.
        figures: whether to draw at the end, and when it is stopped.
        diagnostics: makes what looks at the run after each update, and changes nothing in it.
    Raises: ValueError if the parts do not fit, before anything is written; TrainingError if the network explodes.
    Memory: independent of how long it lives. metrics.jsonl, on disk, grows by a line every `log_every` decisions, and
        is read as a whole once, at the end, for the figures: some 500 bytes for each line.
    """
    check_counts({"updates": updates, "steps": steps, "log_every": log_every}, task, window, checkpoint_seconds)
    total, window = _length(task, updates, steps), window or task.readout_window
    run.device = devices.resolve(device)
    task.to(run.device)
    torch.manual_seed(seed)
    net, told = build(task, network, loss)
    net.to(run.device)
    learner, optimizer = rule(net), optimizer(parameter_groups(net))
    set_precision(learner, precision)
    teacher = _teacher(task, learner, told, optimizer, FeedbackSchedule(teach_every, seed), window=window, seed=seed)
    chance_level, lanes = teacher.chance_level, task.batch_size
    life = Life(averages, recovered_at, task.output_size, chance_level=chance_level, lanes=lanes)
    diagnostic = diagnostics(learner, task, told, window=window, learn_every=None)
    teacher.rehearse()
    rate = schedule_of(optimizer, schedule, total)
    log, health = Log(["loss", teacher.merit]), training.HealthWatch(rewarded=isinstance(task, Environment))
    parts = {"log": log, "life": life, "health": health, "schedule": rate, **teacher.parts}
    run.planned_updates, update = total, restore(run, learner, optimizer, parts, forget=False)

    with run:
        while (total is None or update < total) and not run.interrupted:
            update += 1
            is_last = update == total
            with run.training():
                did = teacher.live(update)
                if did.loss is not None:
                    check_loss(did.loss, update, net)
                if did.loss is not None or rate.last_epoch:  # from the first moment on at which something was told
                    rate.step()
            log.add({"loss": did.loss, teacher.merit: float(did.merit.mean())}, task.steps)
            switched = life.add(update, did.action, did.merit, teacher.phase)
            run.progress(update, total, **log.averages(), **teacher.so_far())
            if switched is not None:
                run.record(switched)
            if is_last or update % log_every == 0:
                health.look(net, did.output, update, last=is_last)
                kept = {**log.take(run.timings["train_seconds"]), "steps": log.steps, **teacher.take(), **life.take()}
                run.record({"update": update, "split": "train", **kept, "memory_bytes": memory_bytes(run.device)})
            diagnostic.look(run, update, last=is_last)
            if is_last or run.interrupted or run.seconds_since_save() > checkpoint_seconds:
                run.save("latest", net, optimizer, update, **parts)
        run.summary |= {"updates": update, "steps": log.steps, **life.summary()} | memory_through(run.folder.records())
        run.summary["steps_per_second"] = log.steps / run.timings.get("train_seconds", 1.0)
        _end(run, net, task, told, learner, window=window, figures=figures, stopped=total is None or update < total)


def _end(
    run: runs.Run,
    net: Sequential,
    task: Task | Environment,
    told: Any,
    learner: Rule,
    *,
    window: int | None,
    figures: bool,
    stopped: bool,
) -> None:
    """A life that was stopped is drawn; one that is over is tested, too."""
    if stopped:
        run.give_up()
        if figures:
            draw_life(run, task.output_names)
        return
    run.summary["tested"] = "latest"
    if isinstance(task, Environment):
        report_play(run, net, task, told.policy, window, figures=figures)
    else:
        report(run, learner, task, told, window, figures=figures)


def _teacher(
    task: Task | Environment,
    learner: Rule,
    told: Any,
    optimizer: torch.optim.Optimizer,
    moments: FeedbackSchedule,
    *,
    window: int | None,
    seed: int,
) -> Teacher:
    if isinstance(task, Environment):
        return Rewarding(task, learner, told, optimizer, moments, window=window, seed=seed)
    return Labelling(task, learner, told, optimizer, moments, window=window)


def _length(task: Task | Environment, updates: int | None, steps: int | None) -> int | None:
    lengths = [updates, None if steps is None else math.ceil(steps / task.steps)]
    return min((length for length in lengths if length is not None), default=None)
