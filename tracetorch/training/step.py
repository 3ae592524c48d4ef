"""The interface between the training loop and its steps: one update, its log, and the report at the end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tracetorch import backends
from tracetorch.encode import mix_seed
from tracetorch.runs import Run
from tracetorch.training.health import TrainingError
from tracetorch.training.setup import Setup


class Update(NamedTuple):
    """The result of one update."""

    loss: float | None  # None without feedback
    values: dict[str, float]  # for the log, by the names in `Step.logged`
    output: Tensor  # of the network, (batch, outputs)
    steps: int  # time steps
    event: dict[str, Any] | None = None  # a further record, for example of a change of the task


class Step(ABC):
    """Makes one kind of update. `fit` calls it with the number of the update: 1, 2, 3, …

    After a call, `.grad` of each parameter holds the latest gradient, clipped.

    A final subclass sets `logged` and `parts`, and writes `__call__`, `rehearse` and `report`; the rest has defaults.
    """

    logged: tuple[str, ...]  # names of the values that are averaged for a record, in addition to the loss
    parts: dict[str, Any]
    """Objects in a checkpoint, by name, in addition to the network, the optimizer and those of the loop."""
    learn_every: int | None = None
    """Time steps between two learning moments, for diagnostics; None: one moment per update."""

    def __init__(self, setup: Setup):
        self.task, self.learner, self.loss, self.optimizer = setup.task, setup.learner, setup.loss, setup.optimizer
        self.net, self.window, self.clipping = setup.learner.net, setup.window, setup.clipping

    def step_optimizer(self, number: int) -> None:
        """Clip the gradients, and run `optimizer.step()`. Args: number: of the update.

        Raises: TrainingError for a RuntimeError or TypeError, except a lack of memory.
        """
        self.clipping()
        try:
            self.optimizer.step()
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, TypeError) as error:
            kind = type(self.optimizer).__name__
            raise TrainingError(
                f"update {number}: the optimizer {kind} cannot take its step: {error}; lower optimizer.lr, "
                "or choose another optimizer, such as optimizer=adam"
            ) from error

    @abstractmethod
    def __call__(self, number: int) -> Update:
        """Make one update.

        Raises: TrainingError for a loss, an input or a reward that is not finite, and as `step_optimizer`.
        """

    @abstractmethod
    def rehearse(self) -> None:
        """Run one forward pass without learning. Raises: ValueError or TypeError if the parts do not fit."""

    @abstractmethod
    def report(self, run: Run, *, figures: bool) -> None:
        """Test the network as it is, and write numbers, trials and figures into the run's folder."""

    def forget(self) -> None:  # noqa: B027 (optional override)
        """Reset the state of episodes that ended with this update; by default, do nothing.

        `fit` calls it after the checks of the network.
        """

    def validate(self) -> dict[str, Any] | None:
        """Return loss and metrics on the validation data; None without validation data, and by default."""
        return None

    def so_far(self) -> dict[str, float]:
        """Return further values to show after each update; by default, none."""
        return {}

    def take(self, steps: int) -> dict[str, Any]:
        """Return further values for a record, counted since the previous one, and restart the counts; by default, none.

        Args: steps: time steps of the run so far.
        """
        del steps
        return {}

    def resumed(self, update: int) -> str:
        """Adapt to a restored checkpoint; by default, do nothing. `fit` calls it before the first update of any run.

        Args: update: number of updates done; 0 in a new run.
        Returns: a warning for the user, or "".
        """
        del update
        return ""

    def summary(self, run: Run, steps: int) -> dict[str, Any]:
        """Return further values for the summary of the run; by default, none. Args: steps: as for `take`."""
        del run, steps
        return {}

    def draw_stopped(self, run: Run) -> None:  # noqa: B027
        """Draw figures of a run that was stopped before its end; by default, none."""


_FEEDBACK = 2  # purpose of the seed in `mix_seed`; 1 is for actions; the weights use the seed itself


class FeedbackSchedule:
    """Feedback after a decision with probability 1/every, in all environments at once.

    Args: every: decisions per feedback, on average; 1: feedback after each. seed: of the draws.
    Raises: ValueError if `every` is below 1 or not finite.
    Memory: none; a draw is a function of the seed and the decision's number.
    Example:
        >>> schedule = FeedbackSchedule(4, seed=0)
        >>> sum(schedule.is_due(number) for number in range(1, 4001))
        997
    """

    def __init__(self, every: float, seed: int):
        if not 1 <= every < float("inf"):
            raise ValueError(f"train.teach_every must be at least 1 and finite, got {every:g}")
        self.every, self._seed = every, mix_seed(seed, _FEEDBACK)

    def is_due(self, number: int) -> bool:
        """Whether feedback follows the decision with this number."""
        if self.every == 1:
            return True
        drawn = backends.uniform(self._seed, range(number, number + 1), torch.zeros(1, dtype=torch.int64), 1)
        return float(drawn) < 1 / self.every


class Decision(NamedTuple):
    """One decision in each environment."""

    action: Tensor  # (batch,)
    score: Tensor  # (batch,): its reward, or the task's first metric; given with or without feedback
    update: Update


class FeedbackSource(Step):
    """Presents inputs, scores the network's decisions, and sometimes gives feedback: a reward or a label."""

    @abstractmethod
    def decide(self, number: int) -> Decision:
        """Make one decision in each environment; numbers begin at 1. Raises: TrainingError as `Step`."""

    def __call__(self, number: int) -> Update:
        return self.decide(number).update

    @property
    @abstractmethod
    def context(self) -> int:
        """Number of task changes before the next decision."""

    @property
    @abstractmethod
    def chance_level(self) -> float | None:
        """Mean score of guessing, if scores are 0 or 1; None if unknown, and for other scores."""
