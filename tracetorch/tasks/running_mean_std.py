"""Mean and spread of everything that was ever observed, in constant memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

_SPREAD = 1e-8
"""A feature whose deviation is a smaller part of its mean than this is constant: what is left of it is rounding."""


class RunningMeanStd:
    """Mean and variance of each feature over all rows seen so far; values brought to mean 0 and deviation 1 by them.

        n ← n + k,    δ = mean(rows) − μ,    μ ← μ + δ·k/n,    M ← M + Σ(rows − mean(rows))² + δ²·(n−k)·k/n
        σ² = M/n

    Args: features: how many.
    Memory: two float64 numbers for each feature.
    Source: Welford (1962), Note on a method for calculating corrected sums of squares and products,
        doi:10.1080/00401706.1962.10490022; several rows at once: Chan, Golub and LeVeque (1983), Algorithms for
        computing the sample variance: analysis and recommendations, doi:10.1080/00031305.1983.10483115.
    Example:
        >>> statistics = RunningMeanStd(1)
        >>> statistics.update(torch.tensor([[1.0], [3.0]]))
        >>> statistics.standardize(torch.tensor([[3.0], [2.0]])).tolist()
        [[1.0], [0.0]]
    """

    def __init__(self, features: int):
        self.count = 0
        self.mean = torch.zeros(features, dtype=torch.float64)
        self.squares = torch.zeros(features, dtype=torch.float64)

    def update(self, rows: Tensor) -> None:
        """Count these rows, (rows, features), in."""
        rows = rows.to(torch.float64)
        new, mean = len(rows), rows.mean(dim=0)
        total, squares = self.count + new, ((rows - mean) ** 2).sum(dim=0).numpy()
        own = self.mean.numpy()  # the same memory; for a few numbers NumPy's calls take a third of torch's
        away = mean.numpy() - own
        self.squares.numpy()[:] += squares + away**2 * (self.count * new / total)
        own += away * (new / total)
        self.count = total

    @property
    def deviation(self) -> Tensor:
        """The standard deviation of each feature, (features,), float64; of all rows, not of a sample of them."""
        return torch.sqrt(self.squares / max(1, self.count))

    def standardize(self, rows: Tensor) -> Tensor:
        """Rows as deviations from the mean in units of the standard deviation, float32; a constant feature as 0."""
        mean, deviation = self.mean.numpy(), self.deviation.numpy()
        varies = deviation > _SPREAD * np.abs(mean)
        scaled = (rows.numpy().astype(np.float64) - mean) / np.where(varies, deviation, 1.0)
        return torch.from_numpy(np.where(varies, scaled, 0.0).astype(np.float32))

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count, "mean": self.mean.clone(), "squares": self.squares.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there. Raises: ValueError if it is of other features."""
        if state["mean"].shape != self.mean.shape:
            raise ValueError(f"the state has {len(state['mean'])} features, this observation {len(self.mean)}")
        self.count, self.mean, self.squares = state["count"], state["mean"].clone(), state["squares"].clone()
