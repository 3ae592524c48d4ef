"""A stream of trials in blocks: a few classes for a while, then others."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tracetorch import backends
from tracetorch.backends import LazySpikes
from tracetorch.encode import Stream, mix_seed
from tracetorch.tasks.context_schedule import ContextSchedule
from tracetorch.tasks.task import Batch, Task, Trials

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SPARE = 4  # times as many batches to choose from as are needed on average, so that hardly any trial is taken twice
_PATIENCE = 1000  # times as many, before a class is believed not to come at all


class Blocks(Task):
    """Another task whose training trials come in blocks: only a few classes at a time, all of them in turn.

    In each round the classes are shuffled and dealt out to blocks, so that every class comes once. Held-out trials are
    those of the task, of all classes. There are no passes, for a block takes what it needs and leaves the rest.

    Args:
        task: with one right choice in each trial, such as `MNIST`.
        classes: in a block.
        every: training batches in a block, on average.
        jitter: by which part of that blocks vary; see `ContextSchedule`.
        seed: of the order of the classes and of the jitter.
    Raises: ValueError for a task without such a choice, a block of no or of all classes, and values that make no
        schedule.
    Memory: the batches from which one is chosen, about 2·n/`classes` of n classes.
    """

    def __init__(self, task: Task, *, classes: int = 2, every: int = 100, jitter: float = 0.2, seed: int = 0):
        target = task.train_batch(0).target
        if target.is_floating_point() or target.ndim != 1:
            raise ValueError(f"{type(task).__name__} has no classes: blocks need one right choice in each trial")
        if not 1 <= classes < task.output_size:
            raise ValueError(f"classes must leave some of the {task.output_size} for other blocks, got {classes}")
        self.task, self.device, self.classes, self.schedule = (
            task,
            task.device,
            classes,
            ContextSchedule(every, jitter, seed),
        )
        self.input_size, self.output_size, self.batch_size = task.input_size, task.output_size, task.batch_size
        self.steps, self.readout_window, self.dt = task.steps, task.readout_window, task.dt
        self.output_names, self.metrics = task.output_names, task.metrics
        self._in_a_round = -(-task.output_size // classes)

    def switches(self, batches: int) -> list[int]:
        """The numbers of the batches with which a block began, the first excepted, up to and with this one."""
        return self.schedule.switches(batches)

    def context(self, number: int) -> int:
        return self.schedule.context(number)

    def shown(self, number: int) -> list[int]:
        """The classes that come in the training batch with this number."""
        around, at = divmod(self.schedule.context(number), self._in_a_round)
        names = torch.arange(self.output_size)
        order = backends.uniform(mix_seed(self.schedule.seed, 1, around), range(1), names, 1)[0, :, 0].argsort()
        return sorted(order[at * self.classes : (at + 1) * self.classes].tolist())

    def to(self, device: torch.device) -> Blocks:
        self.task.to(device)
        self.device = device
        return self

    def train_batch(self, number: int) -> Batch:
        wanted = torch.tensor(self.shown(number), device=self.device)
        parts: list[tuple[Batch, Tensor]] = []
        first, missing = number * _SPARE * self._in_a_round, self.batch_size
        for other in range(first, first + _PATIENCE * self._in_a_round):
            batch = self.task.train_batch(other)
            rows = torch.isin(batch.target, wanted).nonzero()[:missing, 0]
            if len(rows):
                parts.append((batch, rows))
                missing -= len(rows)
            if not missing:
                return _joined(parts)
        raise ValueError(
            f"{type(self.task).__name__} shows none of the classes {wanted.tolist()} in {other - first} batches"
        )

    def eval_batches(self, split: str) -> Iterator[Batch]:
        return self.task.eval_batches(split)

    def score(self, output: Tensor, batch: Batch) -> Trials:
        return self.task.score(output, batch)

    def summary(self, trials: Trials) -> dict[str, float]:
        return self.task.summary(trials)

    def figures(self, trials: Trials) -> dict[str, Figure]:
        return self.task.figures(trials)

    def example(self) -> tuple[Batch, dict[str, tuple[float, float]]]:
        return self.task.example()

    def input_image(self) -> tuple[int, int] | None:
        return self.task.input_image()


def _joined(parts: list[tuple[Batch, Tensor]]) -> Batch:
    """One batch of the chosen rows of several."""
    target = torch.cat([batch.target[rows] for batch, rows in parts])
    names = parts[0][0].conditions
    conditions = {name: torch.cat([batch.conditions[name][rows] for batch, rows in parts]) for name in names}
    first = parts[0][0].xs

    make = partial(_rows_of_all, [(batch.xs, rows) for batch, rows in parts])
    return Batch(Stream(make, first.steps, (len(target), first.shape[1])), target, conditions)


def _rows_of_all(parts: list[tuple[Stream, Tensor]], start: int, stop: int) -> Tensor:
    return torch.cat([_rows(xs[start:stop], rows) for xs, rows in parts], dim=1)


def _rows(xs: Stream, rows: Tensor) -> Tensor:
    """All steps of some rows; of spikes, only these are drawn."""
    part = next(xs.parts(xs.steps))
    if not isinstance(part, LazySpikes):
        return part[:, rows]
    return backends.spikes(part._replace(limit=part.limit[..., rows, :], samples=part.samples[rows]))
