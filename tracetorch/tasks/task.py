"""The interface of tasks with labels, and the base class that tasks and environments share."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import torch
from torch import Tensor

from tracetorch.encode import Stream, mix_seed
from tracetorch.modes import whole
from tracetorch.renamed import TakesFormerTaskNames

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Figures = dict[str, "Figure"]  # by file name
Trials = dict[str, Tensor]
"""One value for each trial under each name, for example {"target": (n,), "prediction": (n,), "accuracy": (n,)}."""

SPLITS = ("validation", "test")

SPLIT_NUMBERS = {"train": 0, "validation": 1, "test": 2}  # parts of the seeds, so that splits differ
_MAX_BATCHES_AHEAD, _MAX_VALUES_AHEAD = 64, 1 << 18
"""Largest numbers of batches, and of input values, drawn at once. A single small batch is mostly overhead."""


class BaseTask(TakesFormerTaskNames, ABC):
    """A task, with labels or with rewards."""

    input_size: int
    output_size: int  # number of classes, values or actions
    steps: int  # time steps of a trial or of an observation
    readout_window: int | None = None  # number of last steps that are read as the answer; None: all
    output_names: tuple[str, ...] | None = None  # names of the outputs in figures; None: their numbers
    input_frequencies: Sequence[float] | None = None  # of the channels in figures, Hz, ascending; None: their numbers
    dt: float | None = None  # length of a step in seconds; None if steps have no length
    metrics: tuple[str, ...]
    """Columns of trials that are averaged and reported; the first selects the best network: the largest, but
    of a name such as `mean_error`, the smallest (`runs.folder.lower_is_better`)."""
    device: torch.device = torch.device("cpu")  # where inputs are made

    def to(self, device: torch.device) -> Self:
        """Make inputs on this device from now on. Returns: the task itself."""
        self.device = device
        return self

    def summary(self, trials: Trials) -> dict[str, float]:
        """Return further numbers for the summary of a run, from the test trials; none by default."""
        del trials
        return {}

    def figures(self, trials: Trials) -> Figures:
        """Return figures of the test trials, by file name; none by default."""
        del trials
        return {}

    def details(self, trials: Trials) -> dict[str, list[Any]]:
        """Return further columns for trials.csv, such as the file of each trial, as text; none by default."""
        del trials
        return {}

    def in_units(self, values: Tensor) -> Tensor:
        """Return outputs of the network, or targets, in the units of the data, for figures; by default, as they are."""
        return values

    def input_image(self) -> tuple[int, int] | None:
        """Return height and width if the input is an image, to draw receptive fields; None if not."""
        return None

    def state_dict(self) -> dict[str, Any]:
        """Return what a test needs of the training data, such as the scale of the inputs; by default, nothing.

        An environment also returns its state; see `Environment.state_dict`.
        """
        return {}

    def load_for_test(self, state: dict[str, Any]) -> None:
        """Load the parts of a `state_dict` that a test needs; by default, nothing."""
        del state


class Batch(NamedTuple):
    """A batch of trials."""

    xs: Stream  # the input, (time, batch, input_size)
    target: Tensor  # for the loss: indices (batch,) or values (batch, output_size)
    conditions: Trials  # further properties of each trial, such as its difficulty: (batch,) each


class CountedBatch(Batch):
    """A batch in which the outputs of some steps count: of samples that differ in length, or with targets at steps.

    Args:
        xs, conditions: as of `Batch`.
        target: as of `Batch`; at steps, (time, batch) or (time, batch, output_size).
        counted: bool, (time, batch): the steps of which the output counts.
        at_steps: whether each counted step has a target of its own, or each trial has one.
    """

    counted: Tensor
    at_steps: bool

    def __new__(
        cls, xs: Stream, target: Tensor, conditions: Trials, counted: Tensor, *, at_steps: bool = False
    ) -> Self:
        made = super().__new__(cls, xs, target, conditions)
        made.counted, made.at_steps = counted, at_steps
        return made


class Task(BaseTask):
    """A task with labels. Each batch is a function of the task's seed and the batch's number alone.

    A final subclass sets the sizes and `batch_size`, and writes `train_batch`, `eval_batches` and `score`; the rest has
    defaults.
    """

    batch_size: int
    batches_per_pass: int | None = None  # batches in one pass over the training data; None if the data never end
    metrics: tuple[str, ...] = ("accuracy",)
    """Columns of `score` that are averaged and reported; the first selects the best network: the largest, but
    of a name such as `mean_error`, the smallest (`runs.folder.lower_is_better`)."""

    @abstractmethod
    def train_batch(self, number: int) -> Batch:
        """Return the training batch with this number, 0, 1, 2, …"""

    @abstractmethod
    def eval_batches(self, split: str) -> Iterator[Batch]:
        """Yield all batches of "validation" (may be none) or "test", in order."""

    @abstractmethod
    def score(self, output: Tensor, batch: Batch) -> Trials:
        """Return the results of the trials: the columns named in `metrics`, and the columns that the figures need.

        Args: output: the network's mean output over the readout window, (batch, output_size); for targets at steps, the
            output at every step, (time, batch, output_size).
        """

    def score_steps(self, output: Tensor, batch: CountedBatch) -> Trials:
        """Return a row for each counted step: the columns of steps.csv. Args: as of `score`, for targets at steps."""
        del output, batch
        return {}

    def context(self, number: int) -> int:
        """Return the number of task changes up to the training batch with this number; 0 by default."""
        del number
        return 0

    def example(self, trial: int = 0) -> tuple[Batch, dict[str, tuple[float, float]]]:
        """Return a test trial to draw, as a batch of one, and its named intervals (start, stop, in steps).

        Raises: ValueError for a number that no test trial has.
        """
        count = 0
        for batch in self.eval_batches("test"):
            at, size = trial - count, batch.xs.shape[0]
            if 0 <= at < size:
                return _one_trial(batch, at), {}
            count += size
        raise ValueError(f"the test has {count:,} trials, 0 to {count - 1:,}, got trial {trial:,}")


class DrawnTask(Task):
    """A task with one correct class in each trial, and an endless supply of trials, each drawn by its number.

    A final subclass sets the sizes, `trials` and `eval_batch_size`, and writes `make`; the rest has defaults.
    """

    trials: dict[str, int]  # number of held-out trials, by split
    eval_batch_size: int  # largest number of them in a batch

    @abstractmethod
    def make(self, split: str, samples: Tensor) -> Batch:
        """Return the trials of a split ("train" or a held-out one) with these numbers, (batch,)."""

    _drawn: tuple[tuple[int, torch.device], Batch, Tensor] | None = None
    """Batches drawn ahead: the number of their block and the device; all joined into one; the input of each."""

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        if name != "_drawn":  # a changed setting invalidates the batches drawn ahead
            self.__dict__.pop("_drawn", None)

    def train_batch(self, number: int) -> Batch:
        size = self.batch_size
        count = min(_MAX_BATCHES_AHEAD, _MAX_VALUES_AHEAD // (self.steps * size * self.input_size))
        if count < 2:
            return self._train_batches(number, 1)
        block, index = divmod(number, count)
        if self._drawn is None or self._drawn[0] != (block, self.device):
            batches = self._train_batches(block * count, count)
            inputs = batches.xs.dense().unflatten(1, (count, size)).movedim(1, 0).contiguous()
            self._drawn = (block, self.device), batches, inputs
        _, batches, inputs = self._drawn
        rows = slice(index * size, (index + 1) * size)
        xs = Stream(partial(_steps_of, inputs[index].clone()), self.steps, (size, self.input_size))
        conditions = {name: value[rows].clone() for name, value in batches.conditions.items()}
        return Batch(xs, batches.target[rows].clone(), conditions)

    def _train_batches(self, number: int, count: int) -> Batch:
        """Return `count` batches, from this number on, joined into one."""
        first, last = number * self.batch_size, (number + count) * self.batch_size
        return self.make("train", torch.arange(first, last, device=self.device))

    def eval_batches(self, split: str) -> Iterator[Batch]:
        check_split(split)
        for part in slices(self.trials[split], self.eval_batch_size):
            yield self.make(split, torch.arange(part.start, part.stop, device=self.device))

    def score(self, output: Tensor, batch: Batch) -> Trials:
        return batch.conditions | classified(output, batch.target)


def has_classes(target: Tensor) -> bool:
    """Whether each trial has one correct class: not numbers, and not several bits."""
    return target.ndim == 1 and not target.is_floating_point()


def _one_trial(batch: Batch, at: int) -> Batch:
    """Return a batch of one of its trials."""
    rows = slice(at, at + 1)
    xs, conditions = one_sample(batch.xs, at), {name: value[rows] for name, value in batch.conditions.items()}
    if not isinstance(batch, CountedBatch):
        return Batch(xs, batch.target[rows], conditions)
    target = batch.target[:, rows] if batch.at_steps else batch.target[rows]
    return CountedBatch(xs, target, conditions, batch.counted[:, rows], at_steps=batch.at_steps)


def classified(output: Tensor, target: Tensor) -> Trials:
    """Return the columns target, prediction (the class with the largest output) and accuracy (1 if they agree)."""
    prediction = output.argmax(dim=-1)
    return {"target": target, "prediction": prediction, "accuracy": (prediction == target).to(torch.float32)}


def means(trials: Trials, names: tuple[str, ...]) -> dict[str, float]:
    """Return the mean of each named column."""
    return {name: float(trials[name].double().mean()) for name in names}


def split_seeds(seed: int, split: str, count: int) -> tuple[int, ...]:
    """Return `count` seeds of a split, one per purpose. Raises: TypeError for a seed that is not a whole number."""
    return _split_seeds(whole(seed, "seed"), split, count)


@lru_cache(maxsize=32)
def _split_seeds(seed: int, split: str, count: int) -> tuple[int, ...]:
    return tuple(mix_seed(seed, SPLIT_NUMBERS[split], purpose) for purpose in range(count))


def check_split(split: str) -> None:
    """Raises: ValueError unless the split is a held-out one: "validation" or "test"."""
    if split not in SPLITS:
        raise ValueError(f"held-out data are split into {' and '.join(SPLITS)}, got {split!r}")


def slices(total: int, size: int) -> Iterator[slice]:
    """Return consecutive slices of at most `size` that cover `total`."""
    return (slice(start, min(start + size, total)) for start in range(0, total, size))


def choices(name: str, value: str, known: Mapping[str, object] | tuple[str, ...]) -> str:
    """Return `value` if it is a known name. Raises: ValueError that lists the known names."""
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


def whole_at_least(least: int, **values: int) -> None:
    """Raises: TypeError for the first value that is not a whole number, and as `at_least`. Args: values: by name."""
    for name, value in values.items():
        at_least(least, **{name: whole(value, name)})


def one_sample(xs: Stream, at: int = 0) -> Stream:
    """Return a stream of one sample of a batch, (steps, 1, channels)."""
    return Stream(partial(_one_sample, xs, at), xs.steps, (1, *xs.shape[1:]))


def _steps_of(values: Tensor, start: int, stop: int) -> Tensor:
    return values[start:stop]


def _one_sample(xs: Stream, at: int, start: int, stop: int) -> Tensor:
    return xs[start:stop].dense()[:, at : at + 1]
