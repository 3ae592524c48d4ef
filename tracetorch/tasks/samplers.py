"""Samplers of values from a list or a range."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

SampleSpace = Sequence[float] | str  # values to draw from: a list, or a range such as "0.1..1.2"


class UniformSampler:
    """Draws a value for each trial, uniformly from a list or from a range.

    Args:
        name: of the argument, for error messages.
        space: a list, a range, or a number for all trials.
        least: smallest allowed value.
        offers_number: whether error messages name a single number as a third form.
    Raises: ValueError for anything else, and for values that are below `least` or not finite.
    """

    def __init__(self, name: str, space: SampleSpace | float, least: float, *, offers_number: bool = False):
        space = [space] if isinstance(space, float | int) else space
        self.values = None if isinstance(space, str) else [float(value) for value in space]
        try:
            bounds = [float(bound) for bound in space.split("..")] if isinstance(space, str) else self.values
        except ValueError:
            bounds = None
        is_broken_range = bounds is not None and self.values is None and len(bounds) != 2
        if not bounds or is_broken_range or not all(least <= bound < math.inf for bound in bounds):
            number = "a number, " if offers_number else ""
            forms = f"{number}a list of numbers or a range such as 0.1..1.2, none below {least:g}"
            raise ValueError(f"{name} must be {forms}, got {space!r}")
        self.low, self.high = min(bounds), max(bounds)

    @property
    def is_whole(self) -> bool:
        """Whether the values of the list, or the ends of the range, are whole numbers."""
        return all(value.is_integer() for value in self.values or (self.low, self.high))

    def at(self, uniform: Tensor) -> Tensor:
        """Return the values that correspond to uniform numbers in [0, 1)."""
        if self.values is None:
            return self.low + (self.high - self.low) * uniform
        return self._from_list(uniform)

    def whole_at(self, uniform: Tensor) -> Tensor:
        """Return whole numbers, int64, that correspond to uniform numbers in [0, 1); a range includes both ends."""
        if self.values is None:
            return (self.low + ((self.high - self.low + 1) * uniform).floor()).long()
        return self._from_list(uniform).long()

    def _from_list(self, uniform: Tensor) -> Tensor:
        values = torch.tensor(self.values, device=uniform.device)
        return values[(uniform * len(values)).long()]
