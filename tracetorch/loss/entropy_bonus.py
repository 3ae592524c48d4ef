"""Exploration bonus. Without it the policy becomes deterministic and its gradient vanishes."""

from __future__ import annotations

import math
import operator
from functools import reduce
from typing import Literal

import torch
from torch import Tensor

from tracetorch.loss.policy import entropy_of, kl_to_uniform
from tracetorch.modes import check_number


class EntropyBonus:
    """A bonus, in reward, for a distribution over actions that still tries what it thinks is worse.

        worth = c·H(p) − k·KL(u ‖ p),    H = −Σ p·log p,    KL(u ‖ p) = −(1/n)·Σ log(n·p),    u: uniform over n actions
        d worth/dz = −c·p·(log p + H) − k·(p − 1/n)    at the logits z

    At the logits the pull of a reward and that of H both vanish where p is settled, for they are multiplied by p: what
    has become certain cannot be relearned once the world has changed. That of the second term does not vanish. With
    rewards 0 and 1 and two actions, the better one is taken with probability ½·(1 − k + √(1 + k²)), about 1 − k/2.

    Args: entropy: c ≥ 0, in reward per nat; uniform: k ≥ 0, the same.
    Raises: ValueError if one is below 0 or not finite.
    Source: of H, Williams, Peng (1991), doi:10.1080/09540099108946587.
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
        """What p is worth, (batch,); and the signal for it, (batch, actions): −d worth/batch, at logits or p.

        The signal at p is that of a p larger by .001, which keeps it finite.
        """
        if not self:
            return torch.zeros_like(p[:, 0]), torch.zeros_like(p)
        measures = ((self.entropy, entropy_of), (self.uniform, kl_to_uniform))
        parts = [(weight, *measure(p, at)) for weight, measure in measures if weight]
        worth = reduce(operator.add, (weight * value for weight, value, _ in parts))
        rise = reduce(operator.add, (weight * slope for weight, _, slope in parts))
        return worth, rise / -len(p)
