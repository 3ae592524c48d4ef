"""Running averages over several time scales, computed with the equations of the networks' traces."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from tracetorch import constrain

HALF_LIVES = (10, 100, 1000)  # default, in values


class TraceMeter:
    """Running averages of one number, such as a loss, over several time scales.

        t ← d·t + value,    average = t·(1 − d) / (1 − dⁿ),    d = 2^(−1/half-life)

    These are the equations of `functional.trace_step` and `functional.average_input`, in Python's floats: `update` is
    called after each decision. An average is a weighted mean of all values so far, without a bias towards 0 at the
    start; the weights halve per half-life. Values that are not finite are ignored.

    Args: half_lives: in values (one per call of `update`), distinct, above 0.
    Memory: one number for each half-life, in float64.
    Raises: ValueError for no half-life, a half-life not above 0 or with a decay that rounds to 1, or equal half-lives.
    Example:
        >>> meter = TraceMeter(half_lives=(1,))
        >>> meter.update(0.0)
        >>> meter.update(3.0)
        >>> meter.averages
        {1.0: 2.0}
    """

    def __init__(self, half_lives: Sequence[float] = HALF_LIVES):
        self.half_lives = tuple(float(half_life) for half_life in half_lives)
        if not self.half_lives or len(set(self.half_lives)) < len(self.half_lives):
            raise ValueError(f"a meter needs one or more half-lives, all different, got {self.half_lives}")
        self.decay = constrain.decay_from_half_life(torch.tensor(self.half_lives, dtype=torch.float64)).tolist()
        if 1 in self.decay:
            longest = max(self.half_lives)
            raise ValueError(f"a half-life of {longest:g} values is too long for float64: its decay rounds to 1")
        self.trace = [0.0] * len(self.decay)
        self.steps = 0

    def update(self, value: float) -> None:
        """Count a value; one that is not finite is ignored."""
        if math.isfinite(value):
            self.trace = [decay * trace + float(value) for decay, trace in zip(self.decay, self.trace, strict=True)]
            self.steps += 1

    @property
    def averages(self) -> dict[float, float]:
        """The weighted mean for each half-life; NaN before the first finite value."""
        return dict(zip(self.half_lives, map(self._average, self.decay, self.trace), strict=True))

    def state(self) -> dict[str, float]:
        """The state for `load`, as plain numbers."""
        return {"steps": self.steps, **dict(zip(self._names(), self.trace, strict=True))}

    def load(self, state: Mapping[str, float]) -> None:
        """Restore the result of `state`. Raises: ValueError if its half-lives differ."""
        wanted = {"steps", *self._names()}
        if set(state) != wanted:
            raise ValueError(f"this meter keeps {', '.join(sorted(wanted))}, got {', '.join(sorted(state))}")
        self.steps = int(state["steps"])
        self.trace = [float(state[name]) for name in self._names()]

    def _average(self, decay: float, trace: float) -> float:
        rise = -math.expm1(self.steps * math.log(decay)) if decay else 1.0
        return trace * (1 - decay) / rise if self.steps else math.nan

    def _names(self) -> list[str]:
        return [f"half_life_{half_life!r}" for half_life in self.half_lives]


def running_averages(values: Tensor, half_lives: Sequence[float] = HALF_LIVES) -> Tensor:
    """The averages of a `TraceMeter` after each of the values, (n,).

    Returns: (len(half_lives), n), float64; NaN before the first finite value.
    Raises: ValueError if `values` has another shape, or as `TraceMeter`.
    """
    if values.ndim != 1:
        raise ValueError(f"values must have shape (n,), got {tuple(values.shape)}")
    meter, averages = TraceMeter(half_lives), []
    for value in values.tolist():
        meter.update(value)
        averages.append(list(meter.averages.values()))
    return torch.tensor(averages, dtype=torch.float64).view(len(values), len(meter.half_lives)).T
