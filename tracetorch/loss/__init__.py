"""Losses. Each maps `(output, target)` to `(loss, signal)`; the signal is dL/d output.

`Reflect` and `ActorCritic` observe actions and take rewards instead of targets; see `RewardLoss`.
"""

from tracetorch.loss.actor_critic import ActorCritic
from tracetorch.loss.base import RewardLoss
from tracetorch.loss.reflect import Reflect
from tracetorch.loss.target import cross_entropy, cross_entropy_with_logits, mse

__all__ = ["ActorCritic", "Reflect", "RewardLoss", "cross_entropy", "cross_entropy_with_logits", "mse"]
