"""What a choice says about the distribution that it was drawn from: its score, and the entropy of the distribution."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from tracetorch.loss.target import as_distribution
from tracetorch.modes import all_finite, check_tensor

At = Literal["output", "logits"]
_FLOOR = 1e-3  # what keeps a score at the output finite, as in `cross_entropy`


def score_of(probabilities: Tensor, action: Tensor, at: At) -> Tensor:
    """What would make the action likelier: d log p(action), at the logits `onehot − p`, at p `onehot/(p + ε)`.

    Args:
        probabilities: p, (batch, actions).
        action: whole numbers, (batch,).
        at: "logits" or "output".
    Returns: (batch, actions).
    """
    chosen = as_distribution(action, probabilities)
    return chosen - probabilities if at == "logits" else chosen / (probabilities + _FLOOR)


# `torch.distributions.Categorical` takes p and log p to be at least 1.2e-7, which changes the loss of a policy that has
# become nearly deterministic; and it gives no derivatives, for which the logarithms are needed here.
def entropy_of(probabilities: Tensor, at: At) -> tuple[Tensor, Tensor]:
    """H = −Σ p·log p in nats, (batch,); and what would raise it: at logits −p·(log p + H), at p −log(p + .001) − 1."""
    logs = probabilities.clamp(min=torch.finfo(probabilities.dtype).tiny).log()
    entropy = -(probabilities * logs).sum(dim=-1)
    if at == "logits":
        return entropy, -probabilities * (logs + entropy[:, None])
    return entropy, -(probabilities + _FLOOR).log() - 1


def kl_to_uniform(probabilities: Tensor, at: At) -> tuple[Tensor, Tensor]:
    """−KL(uniform ‖ p) = (1/n)·Σ log(n·p) in nats, (batch,); and what would raise it: at logits 1/n − p, at p 1/(n·p).

    In the value, p is at least as large as float32 can tell from 0; in the slope at p, .001 larger than it is.
    """
    n = probabilities.shape[-1]
    logs = (n * probabilities.clamp(min=torch.finfo(probabilities.dtype).tiny)).log()
    slope = 1 / n - probabilities if at == "logits" else 1 / (n * (probabilities + _FLOOR))
    return logs.mean(dim=-1), slope


def check_at(at: str) -> None:
    """Raises: ValueError if there is no such place for a signal."""
    if at not in ("logits", "output"):
        raise ValueError(f'at must be "logits" or "output", got {at!r}')


def check_reward(reward: Tensor, count: int) -> None:
    """Raises: TypeError, ValueError unless there is a finite reward for each sample."""
    check_tensor(reward, "the reward")
    if reward.shape != (count,) or not all_finite(reward):
        raise ValueError(
            f"a reward must be a finite number for each of {count} samples, got {reward} of shape {(*reward.shape,)}"
        )


def check_ends(done: Tensor, count: int, name: str) -> None:
    """Raises: TypeError, ValueError unless it says of each sample whether an episode ends."""
    check_tensor(done, name)
    if done.dtype != torch.bool or done.shape != (count,):
        got = f"{done.dtype} of shape {tuple(done.shape)}"
        raise ValueError(f"{name} must be torch.bool of shape ({count},), got {got}")


def check_choice(output: Tensor, action: Tensor) -> None:
    """Raises: TypeError, ValueError unless an action, a whole number, was taken for each row of the output."""
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
