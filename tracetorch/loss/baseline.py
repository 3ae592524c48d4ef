"""What reward is to be expected: running means of those that came, over one or several stretches of the past."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from tracetorch.modes import check_number


class Baseline:
    """A mixture of running means.

        r_j = (r + β_j·r' + β_j²·r'' + …)/(1 + β_j + β_j² + …),    b = Σ_j v_j·r_j,    v = softmax of what is stored

    Args:
        decays: β per reward, in [0, 1), one for each stretch of the past; none at all expects 0.
        per_sample: whether each sample has a mean of its own, rather than one over all.
        mixture_rate: how fast v descends (reward − b)²; 0 leaves it.
    Memory: two numbers for each decay (and sample), independent of time.
    """

    def __init__(self, decays: float | Sequence[float], *, per_sample: bool = False, mixture_rate: float = 0.0):
        self.decays, self.per_sample = scales("baseline", decays), per_sample
        self.mixture_rate = mixture_rate
        self._raw, self._sums = torch.zeros(len(self.decays)), torch.zeros(0)

    def __call__(self, reward: Tensor) -> Tensor:
        """What was to be expected before this reward came; from now on it is one of those that did. Both (batch,)."""
        if not len(self.decays):
            return torch.zeros_like(reward)
        got = reward if self.per_sample else reward.mean(dim=0, keepdim=True)
        if not len(self._sums):
            self._sums = got.new_zeros(2, len(self.decays), len(got))  # of rewards, and of ones
        rewards, ones = self._sums
        if len(got) != rewards.shape[-1]:
            message = f"a baseline of {rewards.shape[-1]} samples, each with a mean of its own, got {len(got)} rewards"
            raise ValueError(f"{message}: make a new loss for another batch, or one with per_sample=False")
        means = rewards / ones.clamp(min=torch.finfo(got.dtype).tiny)
        share, decays = self.mixture.to(got), self.decays.to(got)
        expected = share @ means
        if self.mixture_rate:
            slope = 2 * ((got - expected) * share[:, None] * (means - expected)).mean(dim=1)
            self._raw = self._raw + self.mixture_rate * slope.to(self._raw)
        self._sums = self._sums * decays[:, None] + torch.stack([got, torch.ones_like(got)])[:, None]
        return expected.expand_as(reward)

    @property
    def mixture(self) -> Tensor:
        """v, one for each decay, 1 in all."""
        return torch.softmax(self._raw, dim=0)

    def state_dict(self) -> dict[str, Any]:
        """Tensors, for a checkpoint."""
        return {"raw": self._raw, "sums": self._sums}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self._raw, self._sums = state["raw"], state["sums"]


def scales(name: str, decays: float | Sequence[float]) -> Tensor:
    """One or several decays in [0, 1), as a tensor. Raises: ValueError that names what they are."""
    listed = list(decays) if isinstance(decays, Iterable) and not isinstance(decays, str) else [decays]
    for decay in listed:
        check_number(decay, name)
    values = torch.tensor(listed, dtype=torch.float64)
    if not bool(((values >= 0) & (values < 1)).all()):
        raise ValueError(f"{name}: each decay must be at least 0 and below 1, got {values.tolist()}")
    return values
