"""Losses: each maps `(output, target)` to `(loss, signal)`, the signal being dL/d output.

`Reflect` and `ActorCritic` take rewards instead of targets, and observe the actions before them; see `RewardLoss`.
"""

from tracetorch.loss.actor_critic import ActorCritic
from tracetorch.loss.base import RewardLoss
from tracetorch.loss.reflect import Reflect
from tracetorch.loss.target import cross_entropy, cross_entropy_with_logits, mse

__all__ = ["ActorCritic", "Reflect", "RewardLoss", "cross_entropy", "cross_entropy_with_logits", "mse"]
