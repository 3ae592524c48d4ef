"""What a network is told of its life, and when: rewards for what it did, or labels of what it should have done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from tracetorch.experiments.acting import act, learn, rehearse
from tracetorch.experiments.evaluation import check_labels
from tracetorch.loss import ActorCritic, Reflect
from tracetorch.rules import Rule
from tracetorch.tasks import Environment, RewardedTask, Switching, Task
from tracetorch.tasks.environment import Outcome
from tracetorch.tasks.play import look_ahead
from tracetorch.training.episodes import Episodes
from tracetorch.training.feedback_schedule import FeedbackSchedule, RewardAccumulator

Loss = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(output, target) to (loss, signal)."""


class Decision(NamedTuple):
    """What was decided in each lane, and what came of it."""

    action: Tensor  # (lanes,)
    merit: Tensor  # (lanes,): the reward, or whether the answer was right; told or not
    loss: float | None  # of what was learnt; None if nothing was told
    output: Tensor  # of the network, (lanes, outputs)


class Teacher(Protocol):
    """Presents inputs, scores the network's decisions, and sometimes gives feedback (a reward or a label)."""

    merit: str
    """What the merit of a decision is called: "reward", or the task's metric."""
    parts: dict[str, Any]
    """What a checkpoint holds, besides the network."""

    @property
    def phase(self) -> int:
        """How often the world has changed so far without notice."""

    @property
    def chance_level(self) -> float | None:
        """The score of chance_level, if decisions are right or wrong; None if unknown."""

    def rehearse(self) -> None:
        """Look once and learn nothing. Raises: ValueError if the parts do not fit."""

    def live(self, number: int) -> Decision:
        """One decision in each lane; its number counts from 1. Afterwards gradients are those of what was learnt."""

    def so_far(self) -> dict[str, float]:
        """What else there is to show, such as the first metric of an environment; a record of it is not due yet."""

    def take(self) -> dict[str, float]:
        """For a record: what else there is to say since the last one."""


class Rewarding:
    """Tells rewards: of an `Environment`, through a loss such as `Reflect`: the mean of those not yet told."""

    merit = "reward"

    def __init__(
        self,
        task: Environment,
        learner: Rule,
        judge: Reflect | ActorCritic,
        optimizer: torch.optim.Optimizer,
        moments: FeedbackSchedule,
        *,
        window: int | None,
        seed: int,
    ):
        if not learner.is_online:
            raise ValueError(
                f"{type(learner).__name__} needs sequences with an end, and a lifetime has none: "
                "choose rule=trace or rule=three_factor"
            )
        if isinstance(judge, ActorCritic) and moments.every != 1:
            raise ValueError(
                "ActorCritic judges each action by the next observation: train.teach_every must be 1, got "
                f"{moments.every:g}; choose loss=reflect for delayed rewards"
            )
        self.task, self.learner, self.judge, self.optimizer = task, learner, judge, optimizer
        self.moments, self.window, self.seed = moments, window, seed
        self.put_by, self.episodes = RewardAccumulator(task.lanes), Episodes(task.lanes)
        self.parts: dict[str, Any] = {"loss": judge, "task": task, "put_by": self.put_by, "episodes": self.episodes}
        self.parts["rule"] = learner

    @property
    def phase(self) -> int:
        return self.task.phase

    @property
    def chance_level(self) -> float | None:
        world = self.task.environment if isinstance(self.task, Switching) else self.task
        return 1 / world.output_size if isinstance(world, RewardedTask) else None

    def rehearse(self) -> None:
        rehearse(self.learner, self.task, self.judge, self.window)

    def live(self, number: int) -> Decision:
        did = act(self.task, self.learner, self.judge, self.window, seed=self.seed, update=number)
        self.put_by.add(did.outcome.reward)
        self.episodes.add(did.outcome.reward, did.outcome.terminated | did.outcome.truncated)
        loss = self._learn(self.put_by.take(), did.outcome) if self.moments.is_due(number) else None
        return Decision(did.action, did.outcome.reward, loss, did.output)

    def so_far(self) -> dict[str, float]:
        return {"return": self.episodes.mean}

    def take(self) -> dict[str, float]:
        return self.episodes.take()

    def _learn(self, reward: Tensor, outcome: Outcome) -> float:
        """Where an episode ends nothing is forgotten; but of what has terminated a critic expects nothing more."""
        if isinstance(self.judge, ActorCritic):
            upcoming = look_ahead(self.learner.net, outcome.final or self.task.observe(), self.window)
            value, signal = self.judge(reward, outcome.terminated, upcoming)
        else:
            value, signal = self.judge(reward)
        self.optimizer.zero_grad()
        learn(self.learner, self.judge, signal)
        self.optimizer.step()
        return float(value)


class Labelling:
    """Tells labels: of a `Task`, through a loss such as `cross_entropy`, of the trial that was just answered."""

    def __init__(
        self,
        task: Task,
        learner: Rule,
        loss: Loss,
        optimizer: torch.optim.Optimizer,
        moments: FeedbackSchedule,
        *,
        window: int | None,
    ):
        check_labels(learner, task)
        if not learner.is_online:
            raise ValueError(
                f"{type(learner).__name__} needs sequences with an end, and a lifetime has none: choose rule=trace"
            )
        self.task, self.learner, self.loss, self.optimizer = task, learner, loss, optimizer
        self.moments, self.window, self.merit = moments, window, task.metrics[0]
        self.parts: dict[str, Any] = {"rule": learner}
        self._number = 0

    @property
    def phase(self) -> int:
        return self.task.phase(self._number)

    @property
    def chance_level(self) -> float | None:
        return 1 / self.task.output_size if self.merit == "accuracy" else None

    def rehearse(self) -> None:
        batch = self.task.train_batch(0)
        self.learner.begin()
        self.loss(self.learner.forward(batch.xs, reduce="mean", window=self.window), batch.target)
        self.learner.begin()

    def live(self, number: int) -> Decision:
        batch, loss = self.task.train_batch(number - 1), None
        output = self.learner.forward(batch.xs, reduce="mean", window=self.window)
        merit = self.task.judge(output, batch)[self.merit]
        if self.moments.is_due(number):
            value, signal = self.loss(output, batch.target)
            self.optimizer.zero_grad()
            self.learner.backward(signal)
            self.optimizer.step()
            loss = float(value)
        self._number = number
        return Decision(output.argmax(dim=-1), merit, loss, output)

    def so_far(self) -> dict[str, float]:
        return {}

    def take(self) -> dict[str, float]:
        return {}
