"""Limits of the size of gradients."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from tracetorch.modes import check_number
from tracetorch.training.progress import Stateful


class Clipping(Stateful):
    """Clips gradients before each step of the optimizer: all of them by their common norm, or each by its value.

        by norm:  g ← g · min(1, norm / |g|),  |g| over all parameters
        by value: g ← min(max(g, −value), value)

    Args:
        parameters: of the network.
        norm: largest norm of all gradients together; None: no limit.
        value: largest absolute value of each gradient; None: no limit.
    Raises: ValueError for a limit that is not above 0, and for two limits; TypeError for one that is not a number.
    """

    kept = ("total", "count")

    def __init__(self, parameters: Iterable[Tensor], norm: float | None = None, value: float | None = None):
        for name, limit in {"clip_norm": norm, "clip_value": value}.items():
            if limit is not None:
                check_number(limit, f"train.{name}")
                if not limit > 0:
                    raise ValueError(f"train.{name} must be above 0, got {limit:g}; null: no limit")
        if norm is not None and value is not None:
            raise ValueError("train.clip_norm and train.clip_value are both set: gradients have one limit")
        self._parameters, self._norm, self._value = list(parameters), norm, value
        self.total, self.count = 0.0, 0  # of the norms since the last record

    def __call__(self) -> None:
        """Clip the gradients, in place."""
        if self._norm is not None:
            self.total += float(clip_grad_norm_(self._parameters, self._norm))
            self.count += 1
        if self._value is not None:
            clip_grad_value_(self._parameters, self._value)

    def take(self) -> dict[str, float]:
        """Return the mean norm before clipping since the last call, for a record; nothing without `norm`."""
        values = {"gradient_norm": self.total / self.count} if self.count else {}
        self.total, self.count = 0.0, 0
        return values
