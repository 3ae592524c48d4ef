"""Wrappers of tasks: rewards instead of labels, classes in blocks, actions that change their meaning."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache, partial
from typing import Any, Self

import torch
from torch import Tensor

from tracetorch import backends
from tracetorch.backends import LazySpikes
from tracetorch.encode import Stream, mix_seed
from tracetorch.modes import whole
from tracetorch.tasks.environment import Choose, Environment, Outcome, check_actions
from tracetorch.tasks.task import BaseTask, Batch, CountedBatch, Figures, Task, Trials, has_classes, whole_at_least

_BATCH_RESERVE = 4  # batches reserved for each batch needed, on average: few trials are used twice
_MAX_SEARCH = 1000  # ratio of searched to needed batches, after which a missing class is an error


class WrappingTask(BaseTask):
    """A task that modifies another task, with the same sizes, device, summary and figures."""

    _inner: BaseTask

    def _wrap(self, inner: BaseTask) -> None:
        self._inner = inner
        names = ("input_size", "output_size", "output_names", "input_frequencies", "steps", "readout_window", "dt")
        for name in (*names, "device"):
            setattr(self, name, getattr(inner, name))

    def to(self, device: torch.device) -> Self:
        self._inner.to(device)
        return super().to(device)

    def summary(self, trials: Trials) -> dict[str, float]:
        return self._inner.summary(trials)

    def figures(self, trials: Trials) -> Figures:
        return self._inner.figures(trials)

    def details(self, trials: Trials) -> dict[str, list[Any]]:
        return self._inner.details(trials)

    def input_image(self) -> tuple[int, int] | None:
        return self._inner.input_image()


class ContextSchedule:
    """Contexts of about equal length: context c begins at c·every, earlier or later by up to jitter·every/2.

        start(c) = round(every·(c + jitter·(u_c − ½))),    u_c uniform in [0, 1);    start(0) = 0

    Every start is a function of the seed and the context's number alone; the schedule has no state.

    Args:
        every: mean length of a context.
        jitter: in [0, 1); range of a start, as a fraction of `every`.
        seed: of the jitter.
    Raises: ValueError for invalid values, TypeError for a count that is not a whole number.
    Example:
        >>> ContextSchedule(100, jitter=0.0).switches(250)
        [100, 200]
    """

    def __init__(self, every: int, jitter: float = 0.2, seed: int = 0):
        whole_at_least(1, every=every)
        if not 0 <= jitter < 1:
            raise ValueError(f"jitter must be at least 0 and below 1, got {jitter:g}")
        self.every, self.jitter, self.seed = every, jitter, whole(seed, "seed")

    def start(self, context: int) -> int:
        """Return the start of the context with this number."""
        if context <= 0:
            return 0
        shift = self.jitter * (self.drawn(context)[1] - 0.5) if self.jitter else 0.0
        return round(self.every * (context + shift))

    def context(self, number: int) -> int:
        """Return the context after this number of batches or actions."""
        context = number // self.every + 1
        while context and self.start(context) > number:
            context -= 1
        return context

    def switches(self, number: int) -> list[int]:
        """Return the starts of all contexts but the first, up to and including `number`."""
        return [self.start(context) for context in range(1, self.context(number) + 1)]

    def drawn(self, context: int) -> tuple[float, float]:
        """Return two uniform numbers in [0, 1) for a context; the second sets its start, the first is free."""
        return _drawn(whole(self.seed, "seed"), context)


@lru_cache(maxsize=64)  # an environment asks for its context at every action
def _drawn(seed: int, context: int) -> tuple[float, float]:
    first, second = backends.uniform(mix_seed(seed), range(1), torch.tensor([context]), 2)[0, 0].tolist()
    return first, second


class Blocks(WrappingTask, Task):
    """Another task with its training trials in blocks of a few classes each.

    In each round the classes are shuffled and divided into blocks, so that every class is in one block. Held-out trials
    are the task's, with all classes. There are no passes: a block skips the trials of other classes.

    Args:
        task: with one correct class in each trial, such as `MNIST`.
        classes: number of classes in a block; the last block of a round may have fewer.
        every: training batches in a block, on average.
        jitter: range of the starts of blocks, as a fraction of `every`; see `ContextSchedule`.
        seed: of the order of the classes and of the jitter.
    Raises: ValueError for a task without one correct class in each trial, a batch of samples of different lengths, a
        block of no or of all classes, and other invalid values; TypeError for a count that is not a whole number.
    Memory: about n/`classes` batches of the task, with n classes; a batch of the block is selected from them.
    """

    def __init__(self, task: Task, *, classes: int = 2, every: int = 100, jitter: float = 0.2, seed: int = 0):
        if not has_classes(_without_padding(task.train_batch(0), task).target):
            raise ValueError(f"{type(task).__name__} has no classes: blocks need one correct class in each trial")
        if not 1 <= whole(classes, "classes") < task.output_size:
            raise ValueError(f"classes must leave some of the {task.output_size} for other blocks, got {classes}")
        self._wrap(task)
        self.task, self.metrics, self.batch_size = task, task.metrics, task.batch_size
        self.classes, self.schedule = classes, ContextSchedule(every, jitter, seed)
        self._blocks_per_round = -(-task.output_size // classes)

    def switches(self, batches: int) -> list[int]:
        """Return the first batch of every block but the first, up to and including the number `batches`."""
        return self.schedule.switches(batches)

    def context(self, number: int) -> int:
        return self.schedule.context(number)

    def classes_in(self, number: int) -> list[int]:
        """Return the classes in the training batch with this number."""
        cycle, block = divmod(self.schedule.context(number), self._blocks_per_round)
        classes = torch.arange(self.output_size)
        order = backends.uniform(mix_seed(self.schedule.seed, 1, cycle), range(1), classes, 1)[0, :, 0].argsort()
        return sorted(order[block * self.classes : (block + 1) * self.classes].tolist())

    def train_batch(self, number: int) -> Batch:
        """Return a batch of the block's classes. Raises: ValueError if the task shows too few of them."""
        classes = torch.tensor(self.classes_in(number), device=self.device)
        parts: list[tuple[Batch, Tensor]] = []
        first, missing = number * _BATCH_RESERVE * self._blocks_per_round, self.batch_size
        for candidate in range(first, first + _MAX_SEARCH * self._blocks_per_round):
            batch = _without_padding(self.task.train_batch(candidate), self.task)
            rows = torch.isin(batch.target, classes).nonzero()[:missing, 0]
            if len(rows):
                parts.append((batch, rows))
                missing -= len(rows)
            if not missing:
                return _joined(parts)
        searched = candidate - first + 1
        raise ValueError(
            f"{type(self.task).__name__} shows too few of the classes {classes.tolist()} in {searched} batches"
        )

    def eval_batches(self, split: str) -> Iterator[Batch]:
        return self.task.eval_batches(split)

    def score(self, output: Tensor, batch: Batch) -> Trials:
        return self.task.score(output, batch)

    def example(self, trial: int = 0) -> tuple[Batch, dict[str, tuple[float, float]]]:
        return self.task.example(trial)

    def state_dict(self) -> dict[str, Any]:
        return self.task.state_dict()

    def load_for_test(self, state: dict[str, Any]) -> None:
        self.task.load_for_test(state)


def _without_padding(batch: Batch, task: Task) -> Batch:
    """Return the batch. Raises: ValueError if not all of its steps count: a wrapper would lose which ones do."""
    if isinstance(batch, CountedBatch):
        raise ValueError(
            f"{type(task).__name__} has samples of different lengths, or targets at steps; a wrapper needs samples of "
            "one length with one target each"
        )
    return batch


def _joined(parts: list[tuple[Batch, Tensor]]) -> Batch:
    """Return one batch of selected rows of several batches."""
    first, _ = parts[0]
    target = torch.cat([batch.target[rows] for batch, rows in parts])
    conditions = {name: torch.cat([batch.conditions[name][rows] for batch, rows in parts]) for name in first.conditions}
    make = partial(_rows_of_all, [(batch.xs, rows) for batch, rows in parts])
    return Batch(Stream(make, first.xs.steps, (len(target), first.xs.shape[1])), target, conditions)


def _rows_of_all(parts: list[tuple[Stream, Tensor]], start: int, stop: int) -> Tensor:
    """Return the steps from `start` to `stop` of some rows. Spikes are drawn for these rows only."""
    selected = []
    for xs, rows in parts:
        part = next(xs[start:stop].parts(stop - start))
        if isinstance(part, LazySpikes):
            of_rows = part._replace(limit=part.limit[..., rows, :], samples=part.samples[rows])
            selected.append(backends.spikes(of_rows))
        else:
            selected.append(part[:, rows])
    return torch.cat(selected, dim=1)


class Reversal(WrappingTask, Environment):
    """Another environment in which the actions change their meaning now and then, in all environments at once.

        in context c, action a does what action (a + o_c) mod n did at first;    o_0 = 0,    o_c ≠ o_(c−1)

    At a switch every action takes the meaning of another one; two actions swap. Observations do not signal a switch.
    `switches` is for figures, not for learning.

    Args:
        environment: with at least two actions.
        every: actions from one switch to the next, on average.
        jitter: range of each switch, as a fraction of `every`; see `ContextSchedule`.
        seed: of the switches.
    Raises: ValueError for a single action and for other invalid values; TypeError for a count that is not a whole
        number.
    Memory: that of the environment; independent of the number of switches.
    """

    def __init__(self, environment: Environment, *, every: int = 1000, jitter: float = 0.2, seed: int = 0):
        if not isinstance(environment, Environment):
            raise ValueError(
                f"environment must give rewards, got {type(environment).__name__}; wrap a task in RewardedTask"
            )
        if environment.output_size < 2:
            raise ValueError("a switch needs at least two actions to swap, and this environment has one")
        self._wrap(environment)
        self.environment, self.metrics, self.num_envs = environment, environment.metrics, environment.num_envs
        self.actions_per_pass, self.schedule = environment.actions_per_pass, ContextSchedule(every, jitter, seed)
        self._num_acts, self._context, self._offset = 0, 0, 0

    @property
    def switches(self) -> list[int]:
        """The numbers of actions in each environment before the switches so far."""
        return self.schedule.switches(self._num_acts)

    @property
    def context(self) -> int:
        return self._context + self.environment.context

    def reset(self) -> None:
        self.environment.reset()
        self._set_num_acts(0)

    def observe(self) -> Stream:
        return self.environment.observe()

    def act(self, action: Tensor) -> Outcome:
        check_actions(action, self.num_envs, self.output_size)
        outcome = self.environment.act(self._translated(action))
        self._set_num_acts(self._num_acts + 1)
        return outcome

    def test(self, choose: Choose, split: str = "test") -> Trials:
        """As `Environment.test`, with the present meaning of the actions."""

        def translated(xs: Stream, begins: Tensor) -> Tensor:
            action = choose(xs, begins)
            check_actions(action, len(begins), self.output_size)
            return self._translated(action)

        return self.environment.test(translated, split)

    def example(self, trial: int = 0) -> tuple[Stream, dict[str, tuple[float, float]]]:
        return self.environment.example(trial)

    def state_dict(self) -> dict[str, Any]:
        return {"acts": self._num_acts, "environment": self.environment.state_dict()}

    def load_for_test(self, state: dict[str, Any]) -> None:
        self.environment.load_for_test(state["environment"])
        self._set_num_acts(int(state["acts"]))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state.keys() != {"acts", "environment"}:
            raise ValueError(f"the state is not that of a Reversal: it has {', '.join(map(str, state))}")
        self.environment.load_state_dict(state["environment"])
        self.restarted = self.environment.restarted
        self._set_num_acts(int(state["acts"]))

    def _set_num_acts(self, num_acts: int) -> None:
        self._num_acts, context = num_acts, self.schedule.context(num_acts)
        if context < self._context:
            self._context, self._offset = 0, 0
        for number in range(self._context + 1, context + 1):
            shift = 1 + int(self.schedule.drawn(number)[0] * (self.output_size - 1))  # 1 … n − 1
            self._context, self._offset = number, (self._offset + shift) % self.output_size

    def _translated(self, action: Tensor) -> Tensor:
        return (action + self._offset) % self.output_size


class RewardedTask(WrappingTask, Environment):
    """A task with one correct class in each trial, as an environment: reward 1 for the correct choice, otherwise 0.

    Each environment is a trial of the task's batch, and an episode is one decision. Trials come in the order of the
    task's training batches; after a pass over its data the next pass begins.

    Args: task: with one correct class in each trial, such as `MNIST` or `PoissonClicks`.
    Raises: ValueError unless `task` is a `Task` with one correct class in each trial and samples of one length.
    Memory: one batch of the task.
    Example:
        >>> digits = tt.tasks.RewardedTask(tt.tasks.MNIST(batch_size=16))
        >>> digits.observe().shape
        (16, 784)
        >>> digits.act(torch.zeros(16, dtype=torch.long)).reward.sum() <= 16
        tensor(True)
    """

    def __init__(self, task: Task):
        if not isinstance(task, Task):
            raise ValueError(f"task must be a task with labels, such as MNIST, got {type(task).__name__}")
        self._wrap(task)
        self.task, self.num_envs, self.actions_per_pass = task, task.batch_size, task.batches_per_pass
        self._number = 0
        self._batch: Batch | None = None
        if not has_classes(self._present_batch().target):
            raise ValueError(
                f"{type(task).__name__} has targets that are not a single class; a reward needs a task with one "
                "correct class in each trial, such as MNIST or PoissonClicks"
            )

    @property
    def context(self) -> int:
        return self.task.context(self._number)

    def to(self, device: torch.device) -> RewardedTask:
        self._batch = None
        return super().to(device)

    def reset(self) -> None:
        self._number, self._batch = 0, None

    def observe(self) -> Stream:
        return self._present_batch().xs

    def act(self, action: Tensor) -> Outcome:
        check_actions(action, self.num_envs, self.output_size)
        is_correct = action.to(self.device) == self._present_batch().target
        self._number, self._batch = self._number + 1, None
        done = torch.ones_like(is_correct)
        return Outcome(is_correct.to(torch.float32), done, ~done)

    def test(self, choose: Choose, split: str = "test") -> Trials:
        """As `Environment.test`: each held-out trial once, with the columns of the task's `score`."""
        columns: list[Trials] = []
        for batch in self.task.eval_batches(split):
            rows = len(_without_padding(batch, self.task).target)
            action = choose(batch.xs, torch.ones(rows, dtype=torch.bool, device=batch.target.device))
            check_actions(action, rows, self.output_size)
            action = action.to(batch.target.device)
            chosen = torch.nn.functional.one_hot(action.long(), self.output_size).to(torch.float32)
            reward = (action == batch.target).to(torch.float32)
            columns.append({"return": reward} | self.task.score(chosen, batch))
        return {name: torch.cat([part[name] for part in columns]).cpu() for name in (columns[0] if columns else ())}

    def example(self, trial: int = 0) -> tuple[Stream, dict[str, tuple[float, float]]]:
        batch, marks = self.task.example(trial)
        return batch.xs, marks

    def state_dict(self) -> dict[str, Any]:
        of_task = self.task.state_dict()
        return {"number": self._number} | ({"task": of_task} if of_task else {})

    def load_for_test(self, state: dict[str, Any]) -> None:
        if "task" in state:
            self.task.load_for_test(state["task"])

    def load_state_dict(self, state: dict[str, Any]) -> None:
        number = state.get("number")
        if not isinstance(number, int) or number < 0:
            raise ValueError(f"the state of a rewarded task is the number of its batch, got {sorted(state)}")
        self._number, self._batch = number, None

    def _present_batch(self) -> Batch:
        if self._batch is None:
            self._batch = _without_padding(self.task.train_batch(self._number), self.task)
        return self._batch
