"""What the training loop may ask of a step: one update, what to log of it, and what to do at the end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tracetorch.runs import Run
from tracetorch.training.health import TrainingError
from tracetorch.training.setup import Setup


class Update(NamedTuple):
    """What one update did."""

    loss: float | None  # of what was learned; None without feedback
    values: dict[str, float]  # for the log, by the names in `Step.logged`
    output: Tensor  # of the network, (batch, outputs)
    steps: int  # time steps
    event: dict[str, Any] | None = None  # a further record, such as of a change of the world


class Step(ABC):
    """One kind of update. `fit` calls it with the numbers 1, 2, 3, …; gradients afterwards are those of its update.

    A final subclass sets `logged` and `parts`, and writes `__call__`, `rehearse` and `report`; the rest has defaults.
    """

    logged: tuple[str, ...]
    """Names of what is averaged in records, besides the loss."""
    parts: dict[str, Any]
    """What a checkpoint holds besides the network, the optimizer and the loop's own: objects by name."""
    learn_every: int | None = None
    """Time steps between two learning moments, as diagnostics repeat them; one moment per update, if None."""

    def __init__(self, setup: Setup):
        self.task, self.learner, self.loss, self.optimizer = setup.task, setup.learner, setup.loss, setup.optimizer
        self.net, self.window = setup.learner.net, setup.window

    def step_optimizer(self, number: int) -> None:
        """`optimizer.step()`. Raises: TrainingError for a step that it cannot take. Args: number: of the update."""
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
        """One update. Raises: TrainingError for a loss, an input or a reward that is not finite."""

    @abstractmethod
    def rehearse(self) -> None:
        """One forward pass without learning. Raises: ValueError if the parts do not fit."""

    @abstractmethod
    def report(self, run: Run, *, figures: bool) -> None:
        """Test the network as it is, and write numbers, trials and figures into the run's folder."""

    def forget(self) -> None:  # noqa: B027 (an option, not a duty)
        """Reset what has ended with this update; called once the network was looked at. Nothing, by default."""

    def validate(self) -> dict[str, Any] | None:
        """Loss and metrics on what is held out for validation; None if nothing is."""
        return None

    def so_far(self) -> dict[str, float]:
        """Further values to show after each update."""
        return {}

    def take(self, steps: int) -> dict[str, Any]:
        """Further values for a record, since the last one. Args: steps: time steps since the beginning of the run."""
        del steps
        return {}

    def resumed(self, update: int) -> str:
        """Called after a checkpoint was loaded. Returns: a warning for the user; "" if there is none."""
        del update
        return ""

    def summary(self, run: Run, steps: int) -> dict[str, Any]:
        """Further values for the summary of the run. Args: steps: as for `take`."""
        del run, steps
        return {}

    def draw_stopped(self, run: Run) -> None:  # noqa: B027
        """Figures of a run that was stopped before its end; none by default."""


class Decision(NamedTuple):
    """One decision in each environment."""

    action: Tensor  # (batch,)
    score: Tensor  # (batch,): its reward, or whether it was right, with or without feedback
    update: Update


class FeedbackSource(Step):
    """Presents inputs, scores the network's decisions, and sometimes gives feedback: a reward or a label."""

    @abstractmethod
    def decide(self, number: int) -> Decision:
        """One decision in each environment; its number counts from 1. Raises: TrainingError as `Step`."""

    def __call__(self, number: int) -> Update:
        return self.decide(number).update

    @property
    @abstractmethod
    def context(self) -> int:
        """How often the world has changed so far without notice."""

    @property
    @abstractmethod
    def chance_level(self) -> float | None:
        """Mean score of guessing, if decisions are right or wrong; None if unknown."""
