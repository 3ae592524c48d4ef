"""The training loop of every kind of experiment: update, record, evaluate, save, stop, test."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LRScheduler

from tracetorch.runs import Run
from tracetorch.runs.folder import lower_is_better
from tracetorch.tasks import Environment
from tracetorch.training.health import HealthWatch
from tracetorch.training.progress import Best, Log
from tracetorch.training.setup import Setup, load_for_test
from tracetorch.training.step import Step

Schedule = Literal["none", "linear", "cosine"]


def learning_rate_schedule(optimizer: torch.optim.Optimizer, schedule: Schedule, total: int | None) -> LRScheduler:
    """Return a schedule of the learning rate: constant, or falling to 0 at the end along a line or half a cosine.

    Raises: ValueError for a decreasing schedule in a run without an end (`total=None`).
    """
    if schedule == "none":
        return LambdaLR(optimizer, lambda update: 1.0)
    if total is None:
        raise ValueError(
            f"train.schedule={schedule} lowers the learning rate until the end, and this run has no end: give "
            "train.updates or train.steps, or train.schedule=none"
        )
    if schedule == "cosine":
        return CosineAnnealingLR(optimizer, total)
    return LambdaLR(optimizer, lambda update: share_of_rate("linear", update, total))


def share_of_rate(schedule: Schedule, done: int, total: int) -> float:
    """Return the learning rate after `done` of `total` updates, as a fraction of that at the start."""
    return {"none": 1.0, "linear": 1 - done / total, "cosine": (1 + math.cos(math.pi * done / total)) / 2}[schedule]


def fit(
    run: Run,
    step: Step,
    setup: Setup,
    *,
    total: int | None,
    eval_every: int | None = None,
    patience: int | None = None,
    test_best: bool = False,
) -> None:
    """Run updates until all are done, patience is exhausted or the run is stopped; then test, unless it was stopped.

    Args:
        run: entered after the parts are checked, so that a config whose parts do not fit leaves no folder.
        step: makes an update; see `Step`.
        setup: the parts and options that all kinds of experiment share.
        total: number of updates; None for a run without an end.
        eval_every: updates between two evaluations on the validation data; None for no evaluation.
        patience: stop after so many evaluations without a better one; None for no limit.
        test_best: whether to test the network of the best evaluation, if there was one, instead of the last.
    Raises: ValueError or TypeError if the parts do not fit, before anything is written; TrainingError if the network
        is dead or diverges; RuntimeError if metrics.jsonl is changed during the run; files.WriteError.
    """
    net, optimizer = step.net, step.optimizer
    schedule = learning_rate_schedule(optimizer, setup.schedule, total)
    diagnostic = setup.diagnostics(step.learner, step.task, step.loss, window=step.window, learn_every=step.learn_every)
    step.rehearse()
    log, best = Log(["loss", *step.logged]), Best(patience, minimize=lower_is_better(step.task.metrics[0]))
    health = HealthWatch(rewarded=isinstance(step.task, Environment))
    parts: dict[str, Any] = {
        "schedule": schedule,
        "log": log,
        "health": health,
        "clipping": step.clipping,
        **step.parts,
    }
    if eval_every is not None:
        parts["best"] = best
    run.planned_updates, run.eval_every = total, eval_every
    update = _restore(run, step, setup, parts, best)

    with run:
        if run.init and not update:
            run.save("latest", net, optimizer, update, **parts)  # `resume` does not read the other run again
        while (total is None or update < total) and not best.is_final and not run.interrupted:
            update += 1
            is_last = update == total
            is_logged = is_last or update % setup.log_every == 0
            is_evaluated = eval_every is not None and (is_last or update % eval_every == 0)
            with run.training():
                result = step(update)
                if is_logged:
                    health.look(net, result.output, update, last=is_last)
                step.forget()
                if result.loss is not None or schedule.last_epoch:  # a lifetime's schedule begins at the first feedback
                    schedule.step()
            log.add({"loss": result.loss, **result.values}, result.steps)
            run.progress(update, total, **log.averages(), **step.so_far())
            if result.event is not None:
                run.record(result.event)
            if is_logged:
                values = log.take(run.timings["train_seconds"]) | step.clipping.take()
                run.record({"update": update, "split": "train", **values, **step.take(log.steps)})
            diagnostic.look(run, update, last=is_last)
            evaluation = _validate(run, step, update, health) if is_evaluated else None
            if evaluation is not None and best.update(evaluation[step.task.metrics[0]], evaluation["loss"]):
                run.save("best", net, optimizer, update, **parts)
            if is_evaluated or is_last or run.interrupted or run.seconds_since_save() > setup.checkpoint_seconds:
                run.save("latest", net, optimizer, update, **parts)
        run.summary |= {"updates": update, **step.summary(run, log.steps)}
        run.summary["steps_per_second"] = log.steps / run.timings.get("train_seconds", 1.0)
        if (total is None or update < total) and not best.is_final:
            run.give_up()
            if setup.figures:
                step.draw_stopped(run)
            return
        is_best = test_best and best.exists
        tested = load_for_test(run.folder.checkpoint("best"), net, step.task)["update"] if is_best else update
        run.summary |= {"tested": "best" if is_best else "latest", "tested_update": tested}
        step.report(run, figures=setup.figures)


def _restore(run: Run, step: Step, setup: Setup, parts: dict[str, Any], best: Best) -> int:
    """Restore a run that continues. Returns: the number of updates done. Raises: as `fit`."""
    update = run.restore(step.net, step.optimizer, **parts)
    if run.has_new_length:
        _adapt_to_length(run, step.optimizer, parts["schedule"], setup.schedule, update)
        if best.is_final:
            best.waited = 0
    if warning := step.resumed(update):
        run.warn(warning)
    return update


def _adapt_to_length(
    run: Run, optimizer: torch.optim.Optimizer, schedule: LRScheduler, kind: Schedule, update: int
) -> None:
    """Set the learning rate of a restored run to that of a run of the new length.

    Raises: ValueError if the run has done so many updates already.
    """
    total = run.planned_updates
    if total is not None and update >= total:
        raise ValueError(
            f"the run has done {update:,} updates, and the new length is {total:,}: give a longer one, such as "
            f"train.updates={2 * update}"
        )
    note = f"goes on from update {update:,} {'until it is stopped' if total is None else f'to {total:,}'}"
    if kind != "none" and total is not None:
        before = optimizer.param_groups[0]["lr"]
        if isinstance(schedule, CosineAnnealingLR):
            schedule.T_max = total  # the state in a checkpoint includes it
        for group, base in zip(optimizer.param_groups, schedule.base_lrs, strict=True):
            group["lr"] = base * share_of_rate(kind, schedule.last_epoch, total)
        now = optimizer.param_groups[0]["lr"]
        note += f"; the learning rate is that of a {kind} schedule of {total:,} updates: {now:.3g}, after {before:.3g}"
    run.notes.append(note)


def _validate(run: Run, step: Step, update: int, health: HealthWatch) -> dict[str, Any] | None:
    """Evaluate and record. Returns: loss and metrics; None without validation data."""
    with run.timed("evaluate_seconds"):
        evaluation = step.validate()
    if evaluation is not None:
        run.record({"update": update, "split": "validation", **evaluation})
        if evaluation["loss"] is not None:
            health.compare(step.net, evaluation["loss"], update)
    return evaluation
