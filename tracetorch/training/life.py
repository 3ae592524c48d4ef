"""A lifetime: decisions without resets, running averages of the score, and recovery after each change of the task."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tracetorch.memory import memory_bytes, memory_through
from tracetorch.plot import TraceMeter
from tracetorch.runs import Run
from tracetorch.training.progress import Stateful
from tracetorch.training.report import draw_life
from tracetorch.training.setup import Setup
from tracetorch.training.step import FeedbackSource, Step, Update

_MOST_ACTIONS = 16  # with more actions, records omit the share of each


class Life(Stateful):
    """Running averages of the score, and its fall and recovery after each change of the task.

        level = b − (1 − share)·|b|,    b: highest value, at any change so far, of the fastest running average

    The score of a decision is its reward, or whether the answer was correct. The network has recovered from a change
    once the fastest average has fallen below the level and returned to it. No recovery is measured if the average does
    not fall below the level, if the task changes again first, or while b is at most three standard errors above
    `chance_level`, because nothing was learned. An average takes a few half-lives to fall and to rise, so shorter
    recoveries cannot be measured.

    Args:
        averages: half-lives of the running averages, in decisions, whole and distinct; the shortest is the fastest.
        share: fraction of b that counts as recovery, in (0, 1].
        actions: number of actions.
        chance_level: mean score of guessing, if scores are 0 or 1; None if unknown.
        num_envs: number of environments, over which each score is averaged.
    Raises: ValueError if `averages` is empty, has equal values or a value below 1, or if `share` is out of range.
    Memory: a few numbers for each average and action; independent of time, and of the number of changes.
    """

    kept = ("open", "switches", "_last_switch", "_best", "_felt", "_recovered", "_decisions", "_fall", "count", "total")

    def __init__(
        self,
        averages: Sequence[int],
        share: float,
        actions: int,
        *,
        chance_level: float | None = None,
        num_envs: int = 1,
    ):
        if not averages or len(set(averages)) < len(averages) or any(half_life < 1 for half_life in averages):
            raise ValueError(
                f"train.averages must be one or more half-lives of at least 1 decision, all different, got {averages}"
            )
        if not 0 < share <= 1:
            raise ValueError(f"train.recovered_at must be above 0 and at most 1, got {share:g}")
        self._meter, self._fastest, self._share = TraceMeter(averages), min(averages), share
        self._actions, self._min_best = actions, -math.inf
        if chance_level is not None:  # the variance of an average is that of a decision, times (1 − d)/(1 + d)
            d = 2 ** (-1 / self._fastest)
            variance = chance_level * (1 - chance_level) * (1 - d) / (1 + d) / num_envs
            self._min_best = chance_level + 3 * math.sqrt(variance)
        self._count, self._total = (torch.zeros(actions, dtype=torch.float64) for _ in range(2))
        self.switches, self._last_switch, self._best = 0, 0, -math.inf
        self._felt, self._fall = 0, 0.0  # number of falls, and their sum
        self._recovered, self._decisions = 0, 0  # number of recoveries, and their sum in decisions
        self._open: dict[str, Any] = {}

    @property
    def averages(self) -> dict[str, float]:
        """The running averages of the score, for example {"average_100": .8}."""
        return {f"average_{half_life:.0f}": value for half_life, value in self._meter.averages.items()}

    def add(self, update: int, action: Tensor, score: Tensor, context: int) -> dict[str, Any] | None:
        """Count a decision in each environment.

        Args:
            update: the number of decisions, this one included.
            action, score: (num_envs,).
            context: number of task changes before the next decision.
        Returns: a record of the last change, once the network has recovered or the task has changed again; else None.
        """
        action, score = action.cpu(), score.cpu().double()
        np.add.at(self._count.numpy(), action.numpy(), 1.0)
        np.add.at(self._total.numpy(), action.numpy(), score.numpy())
        self._meter.update(float(score.mean()))
        return self._follow(update, self._meter.averages[self._fastest], context)

    def _follow(self, update: int, average: float, context: int) -> dict[str, Any] | None:
        change, record = self._open, None
        if change and self._best > self._min_best:
            level = self._best - (1 - self._share) * abs(self._best)
            change["lowest"], change["fell"] = min(change["lowest"], average), change["fell"] or average < level
            if change["fell"] and average >= level:
                record = self._close(update, update - change["at"])
        if context > self.switches:
            if self._open:
                record = self._close(update, None)
            self.switches, self._last_switch = context, update
            self._best = max(self._best, average)
            self._open = {"switch": context, "at": update, "before": average, "lowest": average, "fell": False}
        return record

    def _close(self, update: int, decisions: int | None) -> dict[str, Any]:
        change, self._open = self._open, {}
        fall = change["before"] - change["lowest"]
        if change["fell"]:
            self._felt, self._fall = self._felt + 1, self._fall + fall
        if decisions is not None:
            self._recovered, self._decisions = self._recovered + 1, self._decisions + decisions
        record = {"update": update, "split": "switch", **change, "best": self._best, "forgetting": fall}
        return record | {"recovery_decisions": decisions}

    def take(self) -> dict[str, float]:
        """Return the values of a record: averages, changes, each action's share and mean score since the last record.

        With more than 16 actions, their shares and scores are left out.
        """
        values = {**self.averages, "switches": self.switches, "last_switch": self._last_switch}
        if self._actions <= _MOST_ACTIONS:
            share = self._count / self._count.sum().clamp(min=1)
            mean_score = self._total / self._count  # NaN for an action never taken: null in the record
            for action in range(self._actions):
                values |= {f"taken_{action}": float(share[action]), f"paid_{action}": float(mean_score[action])}
        self._count, self._total = torch.zeros_like(self._count), torch.zeros_like(self._total)
        return values

    def summary(self) -> dict[str, float]:
        """Return the numbers of changes, falls and recoveries, the mean recovery time and fall, and the averages."""
        values: dict[str, float] = {"switches": self.switches, "fell": self._felt, "recovered": self._recovered}
        if self._recovered:
            values["recovery_decisions"] = self._decisions / self._recovered
        if self._felt:
            values["forgetting"] = self._fall / self._felt
        return values | self.averages

    def state_dict(self) -> dict[str, Any]:
        return {"meter": self._meter.state(), **super().state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._meter.load(state["meter"])


class EndlessStream(Step):
    """One update: one decision in each environment, with or without feedback and without any reset.

    Args: source: of decisions and feedback. life: the statistics of these decisions.
    """

    def __init__(self, setup: Setup, source: FeedbackSource, life: Life):
        super().__init__(setup)
        self.source, self.life = source, life
        self.logged, self.parts = source.logged, {"life": life, **source.parts}

    def __call__(self, number: int) -> Update:
        action, score, update = self.source.decide(number)
        return update._replace(event=self.life.add(number, action, score, self.source.context))

    def rehearse(self) -> None:
        self.source.rehearse()

    def so_far(self) -> dict[str, float]:
        return self.source.so_far()

    def take(self, steps: int) -> dict[str, Any]:
        memory = {"memory_bytes": memory_bytes(self.task.device)}
        return {"steps": steps, **self.source.take(steps), **self.life.take(), **memory}

    def resumed(self, update: int) -> str:
        return self.source.resumed(update)

    def summary(self, run: Run, steps: int) -> dict[str, Any]:
        return {"steps": steps, **self.life.summary(), **memory_through(run.folder.records())}

    def report(self, run: Run, *, figures: bool) -> None:
        self.source.report(run, figures=figures)

    def draw_stopped(self, run: Run) -> None:
        draw_life(run, self.task.output_names)
