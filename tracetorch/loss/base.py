"""What a loss for rewards is: all that a training loop may ask of one, so that no loop knows which loss it runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor

from tracetorch.loss.entropy_bonus import EntropyBonus
from tracetorch.loss.policy import At
from tracetorch.renamed import refuse_former_methods


class RewardLoss(ABC):
    """Observes each action; a call with a reward then gives the loss and the signal for the network's output.

    A loss of one's own is a subclass with `policy`, `observe` and `__call__`, which sets `score`, `modulation` and
    `bonus` as they say. If it has a state, it overrides `reset`, `state_dict` and `load_state_dict`, too: then a run
    with it can be resumed exactly.
    """

    values: int = 0
    """How many outputs the network needs besides those for the actions."""
    bootstraps: ClassVar[bool] = False
    """Whether it judges an action by the network's output for the next observation; the call then takes it."""
    at: At = "logits"
    """What the signals and scores are derivatives with respect to."""
    explore = EntropyBonus(0.0, 0.0)
    """The bonus for exploration; false if there is none."""
    score: Tensor
    """After `observe`: d log p(action)/d output, or /d logits as `at` says, (batch, outputs)."""
    modulation: Tensor
    """After a call: the factor of the reward alone, dL/d log p, (batch,)."""
    bonus: Tensor
    """After `observe`: the part of the signal that does not depend on the reward, (batch, outputs)."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        refuse_former_methods(cls)

    def __init__(self) -> None:
        self.score = self.bonus = self.modulation = torch.zeros(0)

    def reset(self) -> None:  # noqa: B027 (an option, not a duty)
        """Forget the actions so far; not the rewards that are expected."""

    @abstractmethod
    def policy(self, output: Tensor) -> Tensor:
        """The distribution from which an action is to be drawn, (batch, actions). Raises: ValueError if it is none."""

    @abstractmethod
    def observe(self, output: Tensor, action: Tensor) -> None:
        """Take note of an action. Args: output: of the network, (batch, outputs); action: whole numbers, (batch,)."""

    @abstractmethod
    def __call__(self, reward: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Judge the actions so far.

        Args:
            reward: finite numbers, (batch,).
            then, positional: done, bool (batch,), whose episode ends here; None in a stream without an end. If it
                bootstraps: terminated, bool (batch,); and the output for the next observation, (batch, outputs).
        Returns: the loss; and the signal, its derivative, (batch, outputs).
        """

    def state_dict(self) -> dict[str, Any]:
        """Tensors, for a checkpoint."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027 (an option, not a duty)
        """Go on from there."""
