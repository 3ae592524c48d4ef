"""The step with rewards: observe, act, and learn from the reward; in episodes or in an endless stream."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from tracetorch import backends
from tracetorch.encode import mix_seed
from tracetorch.modes import all_finite
from tracetorch.runs import Run
from tracetorch.tasks import Reversal, RewardedTask
from tracetorch.tasks.evaluate import evaluate_policy, look_ahead
from tracetorch.tasks.task import means
from tracetorch.training.health import TrainingError, check_loss
from tracetorch.training.progress import Stateful
from tracetorch.training.report import report_policy
from tracetorch.training.setup import Setup
from tracetorch.training.step import Decision, FeedbackSchedule, FeedbackSource, Update

LATE = 5000  # number of last rewards whose mean a run reports at its end


class Episodes(Stateful):
    """Returns of the episodes that ended since the last record, and recent rewards, over all environments.

    Args: num_envs: number of environments.
    Memory: `LATE`/num_envs numbers, and one for each environment; independent of time.
    """

    kept = ("count", "_mean", "_sum", "_ended", "_open", "_late", "_acts")

    def __init__(self, num_envs: int):
        self.count, self._mean, self._sum, self._ended = 0, 0.0, 0.0, 0
        self._open = torch.zeros(num_envs, dtype=torch.float64)
        self._late = torch.zeros(max(1, LATE // num_envs), dtype=torch.float64)
        self._acts = 0

    def add(self, reward: Tensor, done: Tensor) -> None:
        """Count an action in each environment. Args: reward, done (whether the episode ended): (num_envs,)."""
        reward, done = reward.cpu().double(), done.cpu()
        self._late[self._acts % len(self._late)] = reward.mean()
        self._acts += 1
        self._open += reward
        if ended := int(done.sum()):
            self._sum, self._ended = self._sum + float(self._open[done].sum()), self._ended + ended
            self.count += ended
            self._open.masked_fill_(done, 0)

    def drop(self) -> None:
        """Drop the episodes in progress."""
        self._open.zero_()

    @property
    def mean(self) -> float:
        """Mean return of the episodes since the last `take`; if none ended, the previous mean; 0 at the start."""
        return self._sum / self._ended if self._ended else self._mean

    @property
    def late(self) -> float:
        """Mean of the last rewards, at most `LATE`."""
        return float(self._late[: max(1, self._acts)].mean())

    def take(self) -> dict[str, float]:
        """Return the values of a record: the mean return since the last one, and the number of all ended episodes."""
        self._mean, self._sum, self._ended = self.mean, 0.0, 0
        return {"return": self._mean, "episodes": self.count}


class RewardAccumulator(Stateful):
    """Mean of the rewards since the last feedback; its scale does not depend on the time between feedbacks.

    Args: num_envs: number of environments.
    Memory: one number per environment.
    """

    kept = ("sum", "count")

    def __init__(self, num_envs: int):
        self._sum, self._count = torch.zeros(num_envs), 0

    def add(self, reward: Tensor) -> None:
        """Add a reward, (num_envs,)."""
        self._sum, self._count = self._sum.to(reward) + reward, self._count + 1

    def take(self) -> Tensor:
        """Return the mean of the rewards since the last call, (num_envs,)."""
        mean = self._sum / self._count
        self._sum, self._count = torch.zeros_like(self._sum), 0
        return mean


_ACTIONS = 1  # purpose of the seed in `mix_seed`; 2 is for feedback; the weights use the seed itself
_BLOCK = 64  # updates whose random numbers are drawn at once


class RewardFeedback(FeedbackSource):
    """One update: one action in each environment, and learning from its reward through a loss such as `Reflect`.

    Args:
        schedule: for an endless stream: when to give the mean reward since the last feedback. Nothing is reset, but
            a critic takes the value after a terminated episode as 0. None: each action gets its reward, and network and
            loss are reset where an episode ends.
    Raises: ValueError for a rule that learns from labels; with a schedule, also for a rule that is not online, and for
        a critic without feedback after each action.
    """

    logged = ("reward",)
    _done: Tensor  # where an episode ended with the last action, (num_envs,)

    def __init__(self, setup: Setup, schedule: FeedbackSchedule | None = None):
        super().__init__(setup)
        if self.learner.learns_from == "labels":
            mismatch = f"{type(self.learner).__name__} learns from labels, and {type(self.task).__name__} gives rewards"
            raise ValueError(f"{mismatch}: choose rule=trace or rule=three_factor")
        self.schedule, self.seed = schedule, mix_seed(setup.seed, _ACTIONS)
        self.episodes, self.rewards = Episodes(self.task.num_envs), RewardAccumulator(self.task.num_envs)
        self.parts = {"loss": self.loss, "task": self.task, "episodes": self.episodes, "rule": self.learner}
        if schedule is None:
            return
        self.parts["reward_accumulator"] = self.rewards
        if not self.learner.is_online:
            raise ValueError(
                f"{type(self.learner).__name__} needs sequences with an end, and a lifetime has none: "
                f"choose {self.learner.online_option}rule=trace or rule=three_factor"
            )
        if self.loss.bootstraps and schedule.every != 1:
            raise ValueError(
                f"{type(self.loss).__name__} judges each action by the next observation: train.teach_every must be 1, "
                f"got {schedule.every:g}; choose loss=reflect for delayed rewards"
            )

    @property
    def context(self) -> int:
        return int(self.task.context)

    @property
    def chance_level(self) -> float | None:
        environment = self.task.environment if isinstance(self.task, Reversal) else self.task
        return 1 / environment.output_size if isinstance(environment, RewardedTask) else None

    def rehearse(self) -> None:
        if self.loss.at == "logits" and not self.learner.takes_logits:
            name = type(self.learner).__name__
            raise ValueError(
                f"{name} takes signals at the output: choose rule=trace, rule=coarse or rule=three_factor, or "
                "loss.at=output"
            )
        if self.loss.values and not self.net.chain[-1].neuron.real_valued:
            raise ValueError(
                f"{type(self.loss).__name__} needs logits, because it applies the softmax itself: choose network=lif_li"
            )
        self.learner.reset()
        self.loss.policy(self.learner.forward(self.task.observe(), reduce="mean", window=self.window))
        self.learner.reset()

    def decide(self, number: int) -> Decision:
        output = self.learner.forward(self.task.observe(), reduce="mean", window=self.window)
        action = sample_actions(self.loss.policy(output), self.seed, number)
        self.loss.observe(output, action)
        self.learner.observe(self.loss.score, at=self.loss.at)
        outcome = self.task.act(action)
        self._check_reward(outcome.reward, number)
        self._done, value = outcome.terminated | outcome.truncated, None
        self.episodes.add(outcome.reward, self._done)
        self.rewards.add(outcome.reward)
        if self.schedule is None or self.schedule.is_due(number):
            reward = self.rewards.take()
            if self.loss.bootstraps:
                upcoming = look_ahead(self.net, outcome.final or self.task.observe(), self.window)
                loss, signal = self.loss(reward, outcome.terminated, upcoming)
            else:
                loss, signal = self.loss(reward, self._done if self.schedule is None else None)
            value = float(loss)
            check_loss(value, number, self.net)
            self.optimizer.zero_grad()
            bonus = self.loss.bonus if self.loss.explore else None
            self.learner.backward_reward(signal, modulation=self.loss.modulation, bonus=bonus, at=self.loss.at)
            self.step_optimizer(number)
        update = Update(value, {"reward": float(outcome.reward.mean())}, output, self.task.steps)
        return Decision(action, outcome.reward, update)

    def forget(self) -> None:
        if self.schedule is None and bool(self._done.any()):
            self.learner.reset(None if bool(self._done.all()) else self._done)

    def validate(self) -> dict[str, Any] | None:
        played = evaluate_policy(self.net, self.task, self.loss.policy, "validation", self.window)
        return {"loss": None, **means(played, self.task.metrics)} if played else None

    def report(self, run: Run, *, figures: bool) -> None:
        report_policy(run, self.net, self.task, self.loss.policy, self.window, figures=figures)

    def so_far(self) -> dict[str, float]:
        return {"return": self.episodes.mean}

    def take(self, steps: int) -> dict[str, Any]:
        return self.episodes.take()

    def summary(self, run: Run, steps: int) -> dict[str, Any]:
        return {"episodes": self.episodes.count, "late_reward": self.episodes.late}

    def resumed(self, update: int) -> str:
        """Drop the episodes in progress if the environment began new ones."""
        if not self.task.restarted:
            return ""
        self.episodes.drop()
        if self.schedule is None:
            self.learner.reset()
            self.loss.reset()
        return f"the run continued with new episodes: those in progress at update {update} are lost"

    def _check_reward(self, reward: Tensor, number: int) -> None:
        if all_finite(reward):
            return
        name, rewards = str(getattr(self.task, "id", type(self.task).__name__)), reward.flatten().tolist()
        at = next(at for at, value in enumerate(rewards) if not math.isfinite(value))
        raise TrainingError(
            f"update {number}: the reward of {name} in environment {at} is {rewards[at]}; check its rewards"
        )


def sample_actions(p: Tensor, seed: int, update: int) -> Tensor:
    """Draw an action in each environment with the probabilities p, (num_envs, actions). Returns: (num_envs,)."""
    drawn = _uniform(seed, update // _BLOCK, len(p), p.device)[update % _BLOCK].to(p.dtype)
    return (drawn * p.sum(dim=-1, keepdim=True) >= p.cumsum(dim=-1)).sum(dim=-1).clamp(max=p.shape[-1] - 1)


@lru_cache(maxsize=2)
def _uniform(seed: int, block: int, num_envs: int, device: torch.device) -> Tensor:
    """Draw uniform numbers, (updates, num_envs, 1), for `_BLOCK` updates, which takes little longer than for one."""
    updates = range(block * _BLOCK, (block + 1) * _BLOCK)
    return backends.uniform(seed, updates, torch.arange(num_envs, device=device), 1)
