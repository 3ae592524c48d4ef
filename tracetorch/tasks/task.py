"""What every task says: its sizes, its batches, how an answer is judged and what is drawn of it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from tracetorch.encode import Stream

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Trials = dict[str, Tensor]
"""One value for each trial under each name, such as {"target": (n,), "prediction": (n,), "accuracy": (n,)}."""

SPLITS = ("validation", "test")


class Batch(NamedTuple):
    """A batch of trials."""

    xs: Stream  # the input, (time, batch, input_size)
    target: Tensor  # what the loss takes: indices (batch,) or values (batch, output_size)
    conditions: Trials  # what else is known of each trial, such as its difficulty: (batch,) each


class Task(ABC):
    """A task. A batch is a function of the task's seed and the batch's number, and of nothing drawn before it.

    A final subclass sets the five attributes below and writes `train_batch`, `held_out` and `judge`; the rest has
    defaults.
    """

    input_size: int
    output_size: int
    batch_size: int
    steps: int
    """Time steps in a trial."""
    readout_window: int | None = None
    """How many steps at the end of a trial are read as the answer; all, if None."""
    batches_per_pass: int | None = None
    """Batches in one pass over the training data; None if data never end."""
    output_names: tuple[str, ...] | None = None
    """What each output stands for, for figures; their numbers, if None."""
    dt: float | None = None
    """Length of a step in seconds, if steps have one."""
    metrics: tuple[str, ...] = ("accuracy",)
    """Columns of `judge` that are averaged and reported; the first (larger is better) says which network is best."""
    device: torch.device = torch.device("cpu")
    """Where batches are made."""

    def to(self, device: torch.device) -> Task:
        """Make batches on this device from now on. Returns: the task itself."""
        self.device = device
        return self

    @abstractmethod
    def train_batch(self, number: int) -> Batch:
        """The training batch with this number, 0, 1, 2, …"""

    @abstractmethod
    def held_out(self, split: str) -> Iterator[Batch]:
        """All batches of "validation" (may be none) or "test", in order."""

    @abstractmethod
    def judge(self, output: Tensor, batch: Batch) -> Trials:
        """What came of each trial: the columns named in `metrics`, and whatever the figures need.

        Args: output: the network's mean output over the readout window, (batch, output_size).
        """

    def phase(self, number: int) -> int:
        """How often what is asked has changed by the training batch with this number; never, by default."""
        del number
        return 0

    def summary(self, trials: Trials) -> dict[str, float]:
        """Further numbers for the summary of a run, from the trials of the test; none by default."""
        del trials
        return {}

    def figures(self, trials: Trials) -> dict[str, Figure]:
        """Figures of the trials of the test, by file name; none by default."""
        del trials
        return {}

    def example(self) -> tuple[Batch, dict[str, tuple[float, float]]]:
        """A batch of one trial to draw, and its named stretches of time (start, stop, in steps)."""
        batch = next(self.held_out("test"))
        return Batch(
            first_sample(batch.xs), batch.target[:1], {name: value[:1] for name, value in batch.conditions.items()}
        ), {}

    def input_image(self) -> tuple[int, int] | None:
        """Height and width, if the input is an image: then receptive fields are drawn."""
        return None


def classified(output: Tensor, target: Tensor) -> Trials:
    """The columns of a choice: target, prediction (the largest output) and accuracy (1 if they agree)."""
    prediction = output.argmax(dim=-1)
    return {"target": target, "prediction": prediction, "accuracy": (prediction == target).to(torch.float32)}


def check_split(split: str) -> None:
    """Raises: ValueError if there is no such held-out split."""
    if split not in SPLITS:
        raise ValueError(f"held-out data are split into {' and '.join(SPLITS)}, got {split!r}")


def slices(total: int, size: int) -> Iterator[slice]:
    """Consecutive slices of at most `size` that cover `total`."""
    return (slice(start, min(start + size, total)) for start in range(0, total, size))


def choices(name: str, value: str, known: Mapping[str, object] | tuple[str, ...]) -> str:
    """`value`, if it is one of the known names. Raises: ValueError that lists them."""
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
    return value


def at_least(name: str, value: float, least: float) -> None:
    """Raises: ValueError if the value is below `least`, or not finite."""
    if not value >= least:
        raise ValueError(f"{name} must be at least {least:g}, got {value:g}")
    if value == math.inf:
        raise ValueError(f"{name} must be finite, got {value:g}")


def first_sample(xs: Stream) -> Stream:
    """A stream of the first sample of a batch alone, (steps, 1, channels)."""
    return Stream(partial(_first_sample, xs), xs.steps, (1, xs.shape[1]))


def _first_sample(xs: Stream, start: int, stop: int) -> Tensor:
    return xs[start:stop].dense()[:, :1]
