"""The interface of tasks with labels: sizes, batches, scores and figures; and what environments share with it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import torch
from torch import Tensor

from tracetorch.encode import Stream, mix_seed
from tracetorch.modes import whole
from tracetorch.renamed import adopt_former_methods

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Figures = dict[str, "Figure"]  # by file name
Trials = dict[str, Tensor]
"""One value for each trial under each name, such as {"target": (n,), "prediction": (n,), "accuracy": (n,)}."""

SPLITS = ("validation", "test")

SPLIT_NUMBERS = {"train": 0, "validation": 1, "test": 2}  # what distinguishes the seeds of the splits
_AHEAD, _MOST_AHEAD = 64, 1 << 18
"""At most so many batches, and input values, are drawn at once. For a few trials the calls take all the time."""


class BaseTask(ABC):
    """Something to learn, with labels or with rewards."""

    input_size: int
    output_size: int  # number of classes, values or actions
    steps: int  # time steps in a trial, or for which the network looks at one observation before it acts
    readout_window: int | None = None  # how many of these steps, the last ones, are read as the answer; all, if None
    output_names: tuple[str, ...] | None = None  # what each output stands for, in figures; their numbers, if None
    dt: float | None = None  # length of a step in seconds, if steps have one
    metrics: tuple[str, ...]
    """Columns of trials that are averaged and reported; the first (larger is better) says which network is best."""
    device: torch.device = torch.device("cpu")  # where inputs are made

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

    def figures(self, trials: Trials) -> Figures:
        """Figures of the trials of the test, by file name; none by default."""
        del trials
        return {}

    def input_image(self) -> tuple[int, int] | None:
        """Height and width, if the input is an image: then receptive fields are drawn."""
        return None


class Batch(NamedTuple):
    """A batch of trials."""

    xs: Stream  # the input, (time, batch, input_size)
    target: Tensor  # what the loss takes: indices (batch,) or values (batch, output_size)
    conditions: Trials  # what else is known of each trial, such as its difficulty: (batch,) each


class Task(BaseTask):
    """A task. A batch is a function of the task's seed and the batch's number, and of nothing drawn before it.

    A final subclass sets the sizes and `batch_size`, and writes `train_batch`, `eval_batches` and `score`; the rest has
    defaults.
    """

    batch_size: int
    batches_per_pass: int | None = None  # batches in one pass over the training data; None if data never end
    metrics: tuple[str, ...] = ("accuracy",)
    """Columns of `score` that are averaged and reported; the first (larger is better) says which network is best."""

    @abstractmethod
    def train_batch(self, number: int) -> Batch:
        """The training batch with this number, 0, 1, 2, …"""

    @abstractmethod
    def eval_batches(self, split: str) -> Iterator[Batch]:
        """All batches of "validation" (may be none) or "test", in order."""

    @abstractmethod
    def score(self, output: Tensor, batch: Batch) -> Trials:
        """The result of each trial: the columns named in `metrics`, and those that the figures need.

        Args: output: the network's mean output over the readout window, (batch, output_size).
        """

    def context(self, number: int) -> int:
        """How often the task has changed by the training batch with this number; never, by default."""
        del number
        return 0

    def example(self) -> tuple[Batch, dict[str, tuple[float, float]]]:
        """A batch of one trial to draw, and its named stretches of time (start, stop, in steps)."""
        xs, target, conditions = next(self.eval_batches("test"))
        return Batch(first_sample(xs), target[:1], {name: value[:1] for name, value in conditions.items()}), {}


class DrawnTask(Task):
    """A task with one right class per trial, whose trials are drawn by their numbers and never end.

    A final subclass sets the sizes, `trials` and `held_out_batch`, and writes `make`; the rest has defaults.
    """

    trials: dict[str, int]  # how many trials are held out, by split
    held_out_batch: int  # how many of them make a batch, at most

    @abstractmethod
    def make(self, split: str, samples: Tensor) -> Batch:
        """The trials of a split ("train" or a held-out one) with these numbers, (batch,)."""

    _drawn: tuple[tuple[int, torch.device], Batch, Tensor] | None = None  # several batches, and the input of each

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        if name != "_drawn":  # the batches that were drawn ahead are those of another task
            self.__dict__.pop("_drawn", None)

    def train_batch(self, number: int) -> Batch:
        size, ahead = self.batch_size, min(_AHEAD, _MOST_AHEAD // (self.steps * self.batch_size * self.input_size))
        if ahead < 2:
            return self._train_batches(number, 1)
        block, at = divmod(number, ahead)
        if self._drawn is None or self._drawn[0] != (block, self.device):
            made = self._train_batches(block * ahead, ahead)
            inputs = made.xs.dense().unflatten(1, (ahead, size)).movedim(1, 0).contiguous()
            self._drawn = (block, self.device), made, inputs
        _, made, inputs = self._drawn
        rows = slice(at * size, (at + 1) * size)
        xs = Stream(partial(_steps_of, inputs[at].clone()), self.steps, (size, self.input_size))
        conditions = {name: value[rows].clone() for name, value in made.conditions.items()}
        return Batch(xs, made.target[rows].clone(), conditions)

    def _train_batches(self, number: int, count: int) -> Batch:
        """So many batches from this number on, as one."""
        first, last = number * self.batch_size, (number + count) * self.batch_size
        return self.make("train", torch.arange(first, last, device=self.device))

    def eval_batches(self, split: str) -> Iterator[Batch]:
        check_split(split)
        for part in slices(self.trials[split], self.held_out_batch):
            yield self.make(split, torch.arange(part.start, part.stop, device=self.device))

    def score(self, output: Tensor, batch: Batch) -> Trials:
        return batch.conditions | classified(output, batch.target)


def classified(output: Tensor, target: Tensor) -> Trials:
    """The columns of a choice: target, prediction (the largest output) and accuracy (1 if they agree)."""
    prediction = output.argmax(dim=-1)
    return {"target": target, "prediction": prediction, "accuracy": (prediction == target).to(torch.float32)}


def means(trials: Trials, names: tuple[str, ...]) -> dict[str, float]:
    """The mean of the named columns."""
    return {name: float(trials[name].double().mean()) for name in names}


def split_seeds(seed: int, split: str, count: int) -> tuple[int, ...]:
    """Seeds of a split, one for each of several purposes. Raises: TypeError for a seed that is no whole number."""
    return _split_seeds(whole(seed, "seed"), split, count)


@lru_cache(maxsize=32)
def _split_seeds(seed: int, split: str, count: int) -> tuple[int, ...]:
    return tuple(mix_seed(seed, SPLIT_NUMBERS[split], purpose) for purpose in range(count))


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


def at_least(least: float, **values: float) -> None:
    """Raises: ValueError for the first value that is below `least`, or not finite. Args: values: by name."""
    for name, value in values.items():
        if not value >= least:
            raise ValueError(f"{name} must be at least {least:g}, got {value:g}")
        if value == math.inf:
            raise ValueError(f"{name} must be finite, got {value:g}")


def first_sample(xs: Stream) -> Stream:
    """A stream of the first sample of a batch alone, (steps, 1, channels)."""
    return Stream(partial(_first_sample, xs), xs.steps, (1, xs.shape[1]))


def _steps_of(values: Tensor, start: int, stop: int) -> Tensor:
    return values[start:stop]


def _first_sample(xs: Stream, start: int, stop: int) -> Tensor:
    return xs[start:stop].dense()[:, :1]
