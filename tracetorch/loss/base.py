"""The interface of losses for rewards, and their shared parts: the score of an action and exploration bonuses."""

import math
import operator
from abc import ABC, abstractmethod
from functools import reduce
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from tracetorch.loss.target import as_distribution
from tracetorch.modes import all_finite, check_number, check_tensor
from tracetorch.renamed import RefusesFormerReset

At = Literal["output", "logits"]
_FLOOR = 1e-3  # ε: keeps a score at the output finite, as in `cross_entropy`


def score_of(probabilities: Tensor, action: Tensor, at: At) -> Tensor:
    """Return d log p(action), (batch, actions): `onehot − p` at the logits, `onehot/(p + ε)` at p."""
    chosen = as_distribution(action, probabilities)
    return chosen - probabilities if at == "logits" else chosen / (probabilities + _FLOOR)


# `torch.distributions.Categorical` clamps p at 1.2e-7, which changes the loss of a nearly deterministic policy.
def entropy_of(probabilities: Tensor, at: At) -> tuple[Tensor, Tensor]:
    """H = −Σ p·log p in nats, (batch,); and its slope: at logits −p·(log p + H), at p −log(p + .001) − 1."""
    logs = probabilities.clamp(min=torch.finfo(probabilities.dtype).tiny).log()
    entropy = -(probabilities * logs).sum(dim=-1)
    if at == "logits":
        return entropy, -probabilities * (logs + entropy[:, None])
    return entropy, -(probabilities + _FLOOR).log() - 1


def negative_kl_to_uniform(probabilities: Tensor, at: At) -> tuple[Tensor, Tensor]:
    """−KL(u ‖ p) = (1/n)·Σ log(n·p) in nats, (batch,); and its slope: at logits 1/n − p, at p 1/(n·(p + .001))."""
    n = probabilities.shape[-1]
    logs = (n * probabilities.clamp(min=torch.finfo(probabilities.dtype).tiny)).log()
    slope = 1 / n - probabilities if at == "logits" else 1 / (n * (probabilities + _FLOOR))
    return logs.mean(dim=-1), slope


def check_reward(reward: Tensor, count: int) -> None:
    """Raises: TypeError, ValueError unless each sample has a finite reward."""
    check_tensor(reward, "the reward")
    if reward.shape != (count,) or not all_finite(reward):
        got = f"{reward} of shape {(*reward.shape,)}"
        raise ValueError(f"a reward must be a finite number for each of {count} samples, got {got}")


def check_ends(done: Tensor, count: int, name: str) -> None:
    """Raises: TypeError, ValueError unless `done` is bool, (count,)."""
    check_tensor(done, name)
    if done.dtype != torch.bool or done.shape != (count,):
        got = f"{done.dtype} of shape {tuple(done.shape)}"
        raise ValueError(f"{name} must be torch.bool of shape ({count},), got {got}")


def check_choice(output: Tensor, action: Tensor) -> None:
    """Raises: TypeError, ValueError unless each row of the output has an action, a whole number."""
    check_tensor(output, "the output")
    check_tensor(action, "the action")
    if output.ndim != 2:
        raise ValueError(f"the output must have the shape (batch, outputs), got {tuple(output.shape)}")
    if action.shape != output.shape[:1] or action.is_floating_point():
        got = f"{action.dtype} of shape {tuple(action.shape)}"
        raise ValueError(f"the action must be whole numbers of shape ({len(output)},), got {got}")


def log_prob(probabilities: Tensor, action: Tensor) -> Tensor:
    """log p(action), (batch,)."""
    chosen = probabilities.gather(1, action[:, None].long())[:, 0]
    return chosen.clamp(min=torch.finfo(probabilities.dtype).tiny).log()


class EntropyBonus:
    """Exploration bonus, in units of reward. Without it the policy becomes deterministic and its gradient vanishes.

        worth = c·H(p) − k·KL(u ‖ p),    H = −Σ p·log p,    KL(u ‖ p) = −(1/n)·Σ log(n·p),    u: uniform over n actions
        d worth/dz = −c·p·(log p + H) − k·(p − 1/n)    at the logits z

    At the logits, the gradients of the reward and of H have the factor p. They vanish for a deterministic policy, which
    then cannot relearn after a change of the task. The gradient of KL does not vanish. With rewards 0 and 1 and two
    actions, the policy takes the better one with probability ½·(1 − k + √(1 + k²)), about 1 − k/2.

    Args: entropy, uniform: c ≥ 0 and k ≥ 0, in reward per nat.
    Raises: TypeError unless both are numbers; ValueError if one is below 0 or not finite.
    Source: for H, Williams, Peng (1991), doi:10.1080/09540099108946587.
    """

    def __init__(self, entropy: float, uniform: float):
        check_number(entropy, "entropy")
        check_number(uniform, "uniform")
        if not (0 <= entropy < math.inf and 0 <= uniform < math.inf):
            raise ValueError(f"entropy and uniform must be at least 0 and finite, got {entropy:g} and {uniform:g}")
        self.entropy, self.uniform = entropy, uniform

    def __bool__(self) -> bool:
        return self.entropy > 0 or self.uniform > 0

    def __call__(self, p: Tensor, at: Literal["logits", "output"]) -> tuple[Tensor, Tensor]:
        """Return the worth of p, (batch,), and −d worth/batch, (batch, actions), at the logits or at p + .001."""
        if not self:
            return torch.zeros_like(p[:, 0]), torch.zeros_like(p)
        measures = ((self.entropy, entropy_of), (self.uniform, negative_kl_to_uniform))
        parts = [(weight, *measure(p, at)) for weight, measure in measures if weight]
        worth = reduce(operator.add, (weight * value for weight, value, _ in parts))
        gradient = reduce(operator.add, (weight * slope for weight, _, slope in parts))
        return worth, gradient / -len(p)


class RewardLoss(RefusesFormerReset, ABC):
    """Loss for rewards: `observe` takes an action; a call with a reward returns the loss and its signal at the output.

    A subclass defines `policy`, `observe` and `__call__`, and sets `score`, `modulation` and `bonus`. A loss with a
    state also overrides `reset`, `state_dict` and `load_state_dict`, so that a run can be resumed exactly.
    """

    values: int = 0
    """Number of network outputs in addition to those for the actions."""
    bootstraps: ClassVar[bool] = False
    """Whether the loss needs the network's output for the next observation; the call then takes this output."""
    at: At = "logits"
    """The variable of the derivatives in signals and scores."""
    explore = EntropyBonus(0.0, 0.0)
    """The exploration bonus; `bool(explore)` is False without one."""
    score: Tensor
    """After `observe`: d log p(action)/d output, or /d logits as `at` says, (batch, outputs)."""
    modulation: Tensor
    """After a call: the factor of the reward alone, dL/d log p, (batch,)."""
    bonus: Tensor
    """After `observe`: the part of the signal that does not depend on the reward, (batch, outputs)."""

    def reset(self) -> None:
        """Forget the actions so far, but not the expected rewards."""

    @abstractmethod
    def policy(self, output: Tensor) -> Tensor:
        """Return the probabilities of the actions, (batch, actions). Raises: ValueError for an output without them."""

    @abstractmethod
    def observe(self, output: Tensor, action: Tensor) -> None:
        """Observe an action. Args: output: the network's, (batch, outputs). action: whole numbers, (batch,)."""

    @abstractmethod
    def __call__(self, reward: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Return the loss of the actions so far and the signal, its derivative, (batch, outputs).

        Args:
            reward: finite numbers, (batch,).
            args: done, bool (batch,), which episodes end; None in an endless stream. If the loss bootstraps, instead:
                terminated, bool (batch,), and the output for the next observation, (batch, outputs).
        """

    def state_dict(self) -> dict[str, Any]:
        """Return the tensors for a checkpoint."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the result of `state_dict`."""
