"""What all loops over rewards share: look and act, tell the rule what came of it, and whether the parts fit at all."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tracetorch import kernels
from tracetorch.encode import mix_seed
from tracetorch.loss import ActorCritic, Reflect
from tracetorch.rules import Rule
from tracetorch.runs import Run
from tracetorch.runs.records import check_metrics
from tracetorch.tasks import Environment, Task
from tracetorch.tasks.environment import Outcome
from tracetorch.training.health import TrainingError

_ACTIONS = 1  # what the seed is for, beside the weights


class Act(NamedTuple):
    """An action in each lane, and what came of it."""

    output: Tensor  # of the network, before it acted, (lanes, outputs)
    action: Tensor  # (lanes,)
    outcome: Outcome


def act(
    task: Environment, learner: Rule, judge: Reflect | ActorCritic, window: int | None, *, seed: int, update: int
) -> Act:
    """One action in each lane, of which the loss and, if it wants to, the rule take note; nothing is learnt yet.

    Raises: TrainingError for a reward that is not finite.
    """
    output = learner.forward(task.observe(), reduce="mean", window=window)
    action = draw(judge.policy(output), mix_seed(seed, _ACTIONS), update)
    judge.observe(output, action)
    learner.observe(judge.score, at=judge.at)
    outcome = task.act(action)
    if not bool(outcome.reward.isfinite().all()):
        name, given = str(getattr(task, "id", type(task).__name__)), outcome.reward.flatten().tolist()
        at = next(at for at, reward in enumerate(given) if not math.isfinite(reward))
        raise TrainingError(
            f"update {update}: the reward of {name} in environment {at} is {given[at]}; check its rewards"
        )
    return Act(output, action, outcome)


def restore(run: Run, learner: Rule, stepper: torch.optim.Optimizer, parts: dict[str, Any], *, forget: bool) -> int:
    """As `Run.restore`. Where an environment begins new episodes then, the old ones are not counted, and it is noted.

    Args: forget: whether network, rule and loss forget at the end of an episode.
    """
    update = run.restore(learner.net, stepper, **parts)
    if getattr(parts.get("task"), "restarted", False):
        parts["episodes"].drop()
        if forget:
            learner.begin()
        if forget and isinstance(parts["loss"], Reflect):
            parts["loss"].begin()
        run.warn(f"the run continued with new episodes everywhere: those under way at update {update} are lost")
    return update


def draw(p: Tensor, seed: int, update: int) -> Tensor:
    """An action in each lane, with the probabilities p, (lanes, actions)."""
    lanes = torch.arange(len(p), device=p.device)
    chance = kernels.draw(seed, range(update, update + 1), lanes, 1)[0].to(p.dtype)
    return (chance * p.sum(dim=-1, keepdim=True) >= p.cumsum(dim=-1)).sum(dim=-1).clamp(max=p.shape[-1] - 1)


def learn(learner: Rule, judge: Reflect | ActorCritic, signal: Tensor) -> None:
    """Add the gradients of a reward."""
    bonus = judge.bonus if judge.explore else None
    learner.backward_reward(signal, modulation=judge.modulation, bonus=bonus, at=judge.at)


def rehearse(learner: Rule, task: Environment, judge: Reflect | ActorCritic, window: int | None) -> None:
    """Look once without acting, so that parts that do not fit are found before anything is written."""
    if judge.at == "logits" and not learner.takes_logits:
        name = type(learner).__name__
        raise ValueError(
            f"{name} takes signals at the output: choose rule=trace or rule=three_factor, or loss.at=output"
        )
    if judge.values and not learner.net.chain[-1].neuron.real_valued:
        raise ValueError(
            f"{type(judge).__name__} needs logits, because it applies the softmax itself: choose network=lif_li"
        )
    learner.begin()
    judge.policy(learner.forward(task.observe(), reduce="mean", window=window))
    learner.begin()


def check(task: Environment, counts: dict[str, int | None], window: int | None, checkpoint_seconds: float) -> None:
    """Raises: ValueError for a task without rewards, and for options of `train` that make no sense."""
    if not isinstance(task, Environment):
        raise ValueError(f"{type(task).__name__} gives labels, not rewards: choose train=supervised")
    check_counts(counts, task, window, checkpoint_seconds)


def check_counts(
    counts: dict[str, int | None], task: Task | Environment, window: int | None, checkpoint_seconds: float
) -> None:
    """Raises: ValueError for options of `train` that make no sense, and for a metric with a name that is taken."""
    check_metrics(task)
    for name, count in counts.items():
        if count is not None and count < 1:
            raise ValueError(f"train.{name} must be at least 1, or null, got {count}")
    if not checkpoint_seconds >= 0:
        raise ValueError(f"train.checkpoint_seconds must be at least 0, got {checkpoint_seconds:g}")
    if window is not None and not 1 <= window <= task.steps:
        raise ValueError(f"train.window must lie between 1 and the {task.steps} steps of an observation, got {window}")
