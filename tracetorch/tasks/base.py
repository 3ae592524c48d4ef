"""What tasks with labels and environments with rewards have in common: sizes, device, summary and figures."""

from __future__ import annotations

from abc import ABC
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from tracetorch.renamed import adopt_former_methods

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Trials = dict[str, Tensor]
"""One value for each trial under each name, such as {"target": (n,), "prediction": (n,), "accuracy": (n,)}."""


class BaseTask(ABC):
    """Something to learn, with labels or with rewards."""

    input_size: int
    output_size: int
    """How many classes, values or actions there are."""
    steps: int
    """Time steps in a trial, or for which the network looks at one observation before it acts."""
    readout_window: int | None = None
    """How many of these steps, the last ones, are read as the answer; all, if None."""
    output_names: tuple[str, ...] | None = None
    """What each output stands for, in figures; their numbers, if None."""
    dt: float | None = None
    """Length of a step in seconds, if steps have one."""
    metrics: tuple[str, ...]
    """Columns of trials that are averaged and reported; the first (larger is better) says which network is best."""
    device: torch.device = torch.device("cpu")
    """Where inputs are made."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        adopt_former_methods(cls)

    def to(self, device: torch.device) -> Self:
        """Make inputs on this device from now on. Returns: the task itself."""
        self.device = device
        return self

    def summary(self, trials: Trials) -> dict[str, float]:
        """Further numbers for the summary of a run, from the trials of the test; none by default."""
        del trials
        return {}

    def figures(self, trials: Trials) -> dict[str, Figure]:
        """Figures of the trials of the test, by file name; none by default."""
        del trials
        return {}

    def input_image(self) -> tuple[int, int] | None:
        """Height and width, if the input is an image: then receptive fields are drawn."""
        return None
