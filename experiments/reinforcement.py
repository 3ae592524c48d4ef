"""Learning from rewards: look, act, be rewarded, learn; and play episodes that were never learnt from."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from tracetorch import device as devices
from tracetorch import runs, training
from tracetorch.diagnostics import Diagnostic, Nothing
from tracetorch.experiments.acting import act, check, learn, rehearse, restore
from tracetorch.experiments.evaluation import build, load_tested
from tracetorch.experiments.schedule import count_updates, schedule_of
from tracetorch.experiments.supervised import parameter_groups, set_precision
from tracetorch.loss import ActorCritic, Reflect
from tracetorch.nn import Sequential
from tracetorch.rules import Rule
from tracetorch.tasks import Environment
from tracetorch.tasks.evaluate import means
from tracetorch.tasks.play import look_ahead, play
from tracetorch.training.episodes import Episodes
from tracetorch.training.health import check_loss
from tracetorch.training.progress import Best, Log
from tracetorch.training.report import report_play


def main(
    run: runs.Run,
    *,
    task: Environment,
    network: Callable[[int, int], Sequential],
    rule: Callable[[Sequential], Rule],
    loss: Callable[[], Reflect | ActorCritic],
    optimizer: Any,
    seed: int,
    device: str = "auto",
    updates: int | None = None,
    passes: float | None = None,
    window: int | None = None,
    schedule: Literal["none", "linear", "cosine"] = "none",
    precision: Literal["float32", "bfloat16"] = "float32",
    log_every: int = 100,
    eval_every: int | None = None,
    checkpoint_seconds: float = 30.0,
    patience: int | None = None,
    figures: bool = True,
    diagnostics: Callable[..., Diagnostic] = Nothing,
) -> None:
    """Let a network act in an environment, and learn from its rewards; everything that happens goes into the run.

    An update is one action in each lane, and what is learnt from its reward. Actions are drawn; in evaluations the
    likeliest is taken. A lane whose episode is over is forgotten, alone. The network that did best in the episodes held
    out for validation, if there are any, is the one that is tested.

    Args:
        run: where it is recorded; entered here, once all parts are built, so that a bad config leaves no folder.
        task, network, rule, loss, optimizer: the parts, or what makes them.
        seed: of the initial weights and of the actions (the task has it too, for episodes and spikes).
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        updates, passes: how long to learn: actions, or passes over the training data. Just one of the two.
        window: steps at the end of an observation that are read as the answer; what the task says, if None.
        schedule: of the step size: "none", or from its start to 0 at the end, "linear" or "cosine".
        precision: of the factors of the forward matrix products; see `Layer.precision`. All else is float32.
        log_every, eval_every: updates between two records, and between two evaluations (a tenth of all, if None).
        checkpoint_seconds: a checkpoint is written with every evaluation, and when the last one is older than this;
            a run that was killed goes on from the latest.
        patience: stop after so many evaluations without a better one; never, if None.
        figures: whether to draw at the end.
        diagnostics: makes what looks at the run after each update, and changes nothing in it.
    Raises: ValueError if the parts do not fit, before anything is written; TrainingError if the network explodes.
    """
    counts = {"log_every": log_every, "eval_every": eval_every, "patience": patience}
    check(task, counts, window, checkpoint_seconds)
    total = count_updates(task, task.actions_per_pass, updates, passes)
    eval_every, window = eval_every or max(1, total // 10), window or task.readout_window
    run.device = devices.resolve(device)
    task.to(run.device)
    torch.manual_seed(seed)
    net, judge = build(task, network, loss)
    net.to(run.device)
    learner, optimizer = rule(net), optimizer(parameter_groups(net))
    set_precision(learner, precision)
    rate = schedule_of(optimizer, schedule, total)
    diagnostic = diagnostics(learner, task, judge, window=window, learn_every=None)
    rehearse(learner, task, judge, window)
    test = partial(play, net, task, judge.policy, window=window)
    best, log, episodes = Best(patience), Log(["loss", "reward"]), Episodes(task.lanes)
    health = training.HealthWatch(rewarded=True)
    parts: dict[str, Any] = {"schedule": rate, "best": best, "log": log, "episodes": episodes, "health": health}
    parts |= {"loss": judge, "task": task, "rule": learner}
    run.planned_updates, run.eval_every, update = (
        total,
        eval_every,
        restore(run, learner, optimizer, parts, forget=True),
    )

    with run:
        while update < total and not best.is_final and not run.interrupted:
            update += 1
            is_last = update == total
            with run.training():
                value, reward, over = _act_and_learn(task, learner, judge, optimizer, window, seed=seed, update=update)
                check_loss(value, update, net)
                if is_last or update % log_every == 0:
                    health.look(net, None, update, last=is_last)  # before anything is forgotten
                _forget(learner, over)
                rate.step()
            episodes.add(reward, over)
            log.add({"loss": value, "reward": float(reward.mean())}, task.steps)
            run.progress(update, total, **log.averages(), **{"return": episodes.mean})
            if is_last or update % log_every == 0:
                kept = {**log.take(run.timings["train_seconds"]), **episodes.take()}
                run.record({"update": update, "split": "train", **kept})
            diagnostic.look(run, update, last=is_last)
            is_due = is_last or update % eval_every == 0
            score = _validate(run, task, test, update) if is_due else None
            if score is not None and best.update(score):
                run.save("best", net, optimizer, update, **parts)
            if is_due or run.interrupted or run.seconds_since_save() > checkpoint_seconds:
                run.save("latest", net, optimizer, update, **parts)
        run.summary |= {"updates": update, "episodes": episodes.count, "late_reward": episodes.late}
        run.summary["steps_per_second"] = log.steps / run.timings.get("train_seconds", 1.0)
        if update < total and not best.is_final:
            run.give_up()
            return
        _report_best(run, net, task, judge, best, window=window, figures=figures)


def _act_and_learn(
    task: Environment,
    learner: Rule,
    judge: Reflect | ActorCritic,
    optimizer: torch.optim.Optimizer,
    window: int | None,
    *,
    seed: int,
    update: int,
) -> tuple[float, Tensor, Tensor]:
    """One action in each lane, and what it teaches. Returns: loss; rewards, and whose episode is over, (lanes,)."""
    outcome = act(task, learner, judge, window, seed=seed, update=update).outcome
    over = outcome.terminated | outcome.truncated
    if isinstance(judge, ActorCritic):
        upcoming = look_ahead(learner.net, outcome.final or task.observe(), window)
        value, signal = judge(outcome.reward, outcome.terminated, upcoming)
    else:
        value, signal = judge(outcome.reward, over)
    optimizer.zero_grad()
    learn(learner, judge, signal)
    optimizer.step()
    return float(value), outcome.reward, over


def _forget(learner: Rule, over: Tensor) -> None:
    """What is over, in some lanes or all, is not remembered."""
    if bool(over.any()):
        learner.begin(None if bool(over.all()) else over)


def _report_best(
    run: runs.Run,
    net: Sequential,
    task: Environment,
    judge: Reflect | ActorCritic,
    best: Best,
    *,
    window: int | None,
    figures: bool,
) -> None:
    """Test the network that did best in validation, if there was one, with what it had seen by then."""
    run.summary["tested"] = "best" if best.score > -math.inf else "latest"
    load_tested(run.folder.checkpoint(run.summary["tested"]), net, task)
    report_play(run, net, task, judge.policy, window, figures=figures)


def _validate(run: runs.Run, task: Environment, test: Callable[..., dict[str, Tensor]], update: int) -> float | None:
    """Play what is held out for validation, and record it. Returns: the first metric; None if nothing is held out."""
    with run.timed("evaluate_seconds"):
        played = test(split="validation")
    if not played:
        return None
    found = means(played, task.metrics)
    run.record({"update": update, "split": "validation", "loss": None, **found})
    return found[task.metrics[0]]
