"""Tasks that change without notice: classes that come in blocks, actions that change their meaning."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tracetorch import backends
from tracetorch.backends import LazySpikes
from tracetorch.encode import Stream, mix_seed
from tracetorch.tasks.environment import Choose, Environment, Outcome, check_actions
from tracetorch.tasks.task import Batch, Task, Trials, at_least

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class ContextSchedule:
    """Contexts of about equal length: context c begins at c·every, earlier or later by up to half of `jitter`.

        start(c) = round(every·(c + jitter·(u_c − ½))),    u_c uniform in [0, 1);    start(0) = 0

    Every moment is a function of the seed and its number alone, so nothing has to be remembered.

    Args:
        every: from one moment to the next, on average.
        jitter: in [0, 1); by which part of that they vary.
        seed: of the jitter.
    Raises: ValueError for values that make no schedule.
    Example:
        >>> ContextSchedule(100, jitter=0.0).switches(250)
        [100, 200]
    """

    def __init__(self, every: int, jitter: float = 0.2, seed: int = 0):
        at_least("every", every, 1)
        if not 0 <= jitter < 1:
            raise ValueError(f"jitter must be at least 0 and below 1, got {jitter:g}")
        self.every, self.jitter, self.seed = every, jitter, seed

    def start(self, context: int) -> int:
        """When the context with this number begins."""
        if context <= 0:
            return 0
        shift = self.jitter * (_second(self.seed, context) - 0.5) if self.jitter else 0.0
        return round(self.every * (context + shift))

    def context(self, number: int) -> int:
        """In which context this moment is."""
        context = number // self.every + 1
        while context and self.start(context) > number:
            context -= 1
        return context

    def switches(self, number: int) -> list[int]:
        """When contexts began, the first excepted, up to and with this moment."""
        return [self.start(context) for context in range(1, self.context(number) + 1)]

    def draw(self, context: int, count: int) -> torch.Tensor:
        """So many uniform numbers in [0, 1) that belong to this context; the second is that of its beginning."""
        return _draw(self.seed, context, count)


def _draw(seed: int, context: int, count: int) -> torch.Tensor:
    return backends.uniform(mix_seed(seed), range(1), torch.tensor([context]), count)[0, 0]


@lru_cache(maxsize=64)  # a world asks at every action in which context it is
def _second(seed: int, context: int) -> float:
    return float(_draw(seed, context, 2)[1])


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


class Reversal(Environment):
    """Another environment in which, every now and then, the actions change their meaning in all environments at once.

        in context c, action a does what action (a + o_c) mod n did at first;    o_0 = 0,    o_c ≠ o_(c−1)

    So at a switch every action takes the meaning of another one; of two actions, left and right swap. Observations do
    not show it. `switches` is for figures.

    Args:
        environment: with at least two actions.
        every: actions from one switch to the next, on average.
        jitter: by which part of that they vary; see `ContextSchedule`.
        seed: of the switches.
    Raises: ValueError for a single action, and for values that make no schedule.
    Memory: that of the environment; independent of the number of switches.
    """

    def __init__(self, environment: Environment, *, every: int = 1000, jitter: float = 0.2, seed: int = 0):
        if not isinstance(environment, Environment):
            raise ValueError(
                f"environment must answer with rewards, got {type(environment).__name__}; wrap a task in RewardedTask"
            )
        if environment.output_size < 2:
            raise ValueError("a switch needs at least two actions to swap, and this environment has one")
        self.environment, self.device, self.schedule = (
            environment,
            environment.device,
            ContextSchedule(every, jitter, seed),
        )
        self.input_size, self.output_size, self.num_envs = (
            environment.input_size,
            environment.output_size,
            environment.num_envs,
        )
        self.steps, self.readout_window, self.dt = environment.steps, environment.readout_window, environment.dt
        self.output_names, self.metrics = environment.output_names, environment.metrics
        self.actions_per_pass = environment.actions_per_pass
        self._acts, self._context, self._offset = 0, 0, 0

    @property
    def switches(self) -> list[int]:
        """How many actions had been taken in each environment at each switch so far."""
        return self.schedule.switches(self._acts)

    @property
    def context(self) -> int:
        return self._context + self.environment.context

    def to(self, device: torch.device) -> Reversal:
        self.environment.to(device)
        self.device = device
        return self

    def begin(self) -> None:
        self.environment.begin()
        self._go_to(0)

    def observe(self) -> Stream:
        return self.environment.observe()

    def act(self, action: Tensor) -> Outcome:
        check_actions(action, self.num_envs, self.output_size)
        outcome = self.environment.act(self._meant(action))
        self._go_to(self._acts + 1)
        return outcome

    def test(self, choose: Choose, split: str = "test") -> Trials:
        """As `Environment.test`, with what the actions mean at present."""
        return self.environment.test(lambda xs, begins: self._meant(choose(xs, begins)), split)

    def summary(self, trials: Trials) -> dict[str, float]:
        return self.environment.summary(trials)

    def figures(self, trials: Trials) -> dict[str, Figure]:
        return self.environment.figures(trials)

    def example(self) -> tuple[Stream, dict[str, tuple[float, float]]]:
        return self.environment.example()

    def input_image(self) -> tuple[int, int] | None:
        return self.environment.input_image()

    def state_dict(self) -> dict[str, Any]:
        return {"acts": self._acts, "environment": self.environment.state_dict()}

    def load_for_test(self, state: dict[str, Any]) -> None:
        self.environment.load_for_test(state["environment"])
        self._go_to(int(state["acts"]))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state.keys() != {"acts", "environment"}:
            raise ValueError(f"the state is not that of a Reversal: it has {', '.join(map(str, state))}")
        self.environment.load_state_dict(state["environment"])
        self._go_to(int(state["acts"]))

    def _go_to(self, acts: int) -> None:
        self._acts, context = acts, self.schedule.context(acts)
        if context < self._context:
            self._context, self._offset = 0, 0
        for each in range(self._context + 1, context + 1):
            self._context, self._offset = each, (self._offset + self._turn(each)) % self.output_size

    def _turn(self, context: int) -> int:
        """By how much the meaning of all actions moves on at the beginning of this context: 1 … n − 1."""
        return 1 + int(float(self.schedule.draw(context, 1)[0]) * (self.output_size - 1))

    def _meant(self, action: Tensor) -> Tensor:
        return (action + self._offset) % self.output_size
