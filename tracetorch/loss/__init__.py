"""What a network is told: each loss maps `(output, target)` to `(loss, signal)`, the signal being dL/d output.

`Reflect` and `ActorCritic` take rewards instead of targets, and observe the actions before them; see `RewardLoss`.
"""

from tracetorch.loss.actor_critic import ActorCritic
from tracetorch.loss.base import RewardLoss
from tracetorch.loss.cross_entropy import cross_entropy, cross_entropy_with_logits
from tracetorch.loss.mse import mse
from tracetorch.loss.reflect import Reflect

__all__ = ["ActorCritic", "Reflect", "RewardLoss", "cross_entropy", "cross_entropy_with_logits", "mse"]
