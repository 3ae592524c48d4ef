"""Samplers of values from a list or a range."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

SampleSpace = Sequence[float] | str  # values to draw from: a list of them, or a range such as "0.1..1.2"


class UniformSampler:
    """Draws a value for each trial, uniformly from a list or from a range.

    Args:
        name: of the argument, for error messages.
        given: a list, a range, or a number for all trials.
        least: smallest allowed value.
        number: whether error messages mention a single number.
    Raises: ValueError for anything else, and for values that are below `least` or not finite.
    """

    def __init__(self, name: str, given: SampleSpace | float, least: float, *, number: bool = False):
        given = [given] if isinstance(given, float | int) else given
        self.listed = None if isinstance(given, str) else [float(value) for value in given]
        try:
            ends = [float(end) for end in given.split("..")] if isinstance(given, str) else self.listed
        except ValueError:
            ends = None
        if not ends or (self.listed is None and len(ends) != 2) or not all(least <= end < math.inf for end in ends):
            wanted = (
                f"{'a number, ' if number else ''}a list of numbers or a range such as 0.1..1.2, none below {least:g}"
            )
            raise ValueError(f"{name} must be {wanted}, got {given!r}")
        self.low, self.high = min(ends), max(ends)

    @property
    def is_whole(self) -> bool:
        """Whether the values of the list, or the ends of the range, are whole numbers."""
        return all(value.is_integer() for value in self.listed or (self.low, self.high))

    def at(self, uniform: Tensor) -> Tensor:
        """Return the values that correspond to uniform numbers in [0, 1)."""
        if self.listed is None:
            return self.low + (self.high - self.low) * uniform
        return self._of_list(uniform)

    def whole_at(self, uniform: Tensor) -> Tensor:
        """Return whole numbers, int64, that correspond to uniform numbers in [0, 1); a range includes both ends."""
        if self.listed is None:
            return (self.low + ((self.high - self.low + 1) * uniform).floor()).long()
        return self._of_list(uniform).long()

    def _of_list(self, uniform: Tensor) -> Tensor:
        listed = torch.tensor(self.listed, device=uniform.device)
        return listed[(uniform * len(listed)).long()]
