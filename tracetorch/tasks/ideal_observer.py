"""What the best possible observer makes of two trains of clicks that fall into steps."""

from __future__ import annotations

import torch
from torch import Tensor

_ELEMENTS = 1 << 22  # of one block of the tables below: 32 MiB


def choose_right(right: Tensor, left: Tensor, steps: Tensor) -> Tensor:
    """How often there are more clicks on the right than on the left, ties counting one half.

        P(R > L) + P(R = L)/2,    R ~ Binomial(steps, right),  L ~ Binomial(steps, left)

    Args:
        right, left: probability of a click in a step, in [0, 1), float64, any shape.
        steps: how many, whole numbers as float64, the same shape.
    Returns: probability, the same shape.
    """
    return _over_trials(right, left, steps, _more_and_half_of_ties)


def tie(right: Tensor, left: Tensor, steps: Tensor) -> Tensor:
    """How often both sides have equally many clicks. Args, Returns: as `choose_right`."""
    return _over_trials(right, left, steps, lambda r, l: (r * l).sum(dim=-1))  # noqa: E741


def _more_and_half_of_ties(right: Tensor, left: Tensor) -> Tensor:
    fewer_left = left.cumsum(dim=-1) - left / 2
    return (right * fewer_left).sum(dim=-1)


def _over_trials(right: Tensor, left: Tensor, steps: Tensor, statistic) -> Tensor:  # type: ignore[no-untyped-def]
    most = int(steps.max()) + 1
    trials = torch.stack([right, left, steps], dim=-1).reshape(-1, 3)
    kinds, kind = torch.unique(trials, dim=0, return_inverse=True)  # far fewer than trials
    blocks = (block.unbind(dim=-1) for block in kinds.split(max(1, _ELEMENTS // most)))
    found = [statistic(_binomial(r, n, most), _binomial(l, n, most)) for r, l, n in blocks]  # noqa: E741
    return torch.cat(found)[kind].reshape(right.shape)


def _binomial(probability: Tensor, steps: Tensor, most: int) -> Tensor:
    """Probability of 0 … most − 1 clicks in the given number of steps, (trials, most)."""
    k = torch.arange(most, dtype=torch.float64, device=steps.device)
    n, p = steps[:, None], probability[:, None]
    ways = torch.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma((n - k).clamp(min=0) + 1)
    log_odds = torch.xlogy(k, p) + torch.xlogy((n - k).clamp(min=0), 1 - p)
    return torch.where(k <= n, torch.exp(ways + log_odds), 0.0)
