"""Measurements during training, besides loss and score: the config group `diagnostics`."""

import copy
from typing import Any, Protocol

import torch
from torch import Tensor

from tracetorch.encode import Stream
from tracetorch.rules import BPTT
from tracetorch.rules.base import Rule
from tracetorch.rules.gradient_similarity import (
    Example,
    GradientSimilarity,
    example_of_scores,
    gradient_by_rule,
    gradient_similarities,
    gradient_through_time,
)
from tracetorch.rules.surrogate import surrogate_of
from tracetorch.runs import Run
from tracetorch.tasks import Environment, Task
from tracetorch.tasks.task import CountedBatch

_CHUNK = 64  # steps of the stream that are made at a time


class Diagnostic(Protocol):
    """Measures after each update, records what it finds, and changes nothing."""

    def look(self, run: Run, update: int, *, last: bool) -> None:
        """Measure if it is time. Args: update: number of updates done; last: whether no update follows."""


class Nothing:
    """Measures nothing. Args: as `Gradient`; not used."""

    def __init__(
        self, learner: Rule, task: Task | Environment, loss: Any, *, window: int | None, learn_every: int | None
    ):
        del learner, task, loss, window, learn_every

    def look(self, run: Run, update: int, *, last: bool) -> None:
        """Does nothing."""


class Gradient:
    """Compares the rule's gradient with that of backpropagation through time.

    Every measurement uses the same batch, the first trials of validation (else of training), with the present weights
    and the learning moments of the run. With rewards the batch is the first observation of each environment
    and a drawn action, and the gradient is that of its log probability (see `rules.gradient_similarity`). A record with
    the split "gradient" has the cosine and the ratio of norms for each learnable parameter.

    Args:
        learner, task, loss, window, learn_every: of the run. Each measurement copies the learner.
        every: updates between two measurements; the last update is always followed by one.
        trials: number of trials or environments, at most.
        surrogate, through_reset: of `rules.BPTT`.
    Raises: ValueError for counts below 1, or an unknown surrogate.
    Memory: O(time × trials × (inputs + neurons)) during a measurement, and time × trials × inputs throughout the run.
    """

    def __init__(
        self,
        learner: Rule,
        task: Task | Environment,
        loss: Any,
        *,
        window: int | None,
        learn_every: int | None,
        every: int = 20,
        trials: int = 32,
        surrogate: str = "fast_sigmoid",
        through_reset: bool = False,
    ):
        for name, count in {"every": every, "trials": trials}.items():
            if count < 1:
                raise ValueError(f"{name} must be at least 1, got {count}")
        self._learner, self._every = learner, every
        self._surrogate = surrogate_of(surrogate, through_reset=through_reset)
        if isinstance(task, Environment):
            observation, window = _first(task.observe(), trials), window or task.readout_window
            self._example = example_of_scores(observation, _actions(task, observation.shape[0]), loss, window)
        else:
            batch = next(task.eval_batches("validation"), None) or task.train_batch(0)
            if isinstance(batch, CountedBatch):
                raise ValueError("diagnostics=gradient needs one target for each sample, and samples of one length")
            self._example = Example(_first(batch.xs, trials), batch.target[:trials], loss, window, learn_every)

    def look(self, run: Run, update: int, *, last: bool) -> None:
        """Compare the two gradients if it is time, and record the result."""
        if not last and update % self._every:
            return
        with run.timed("diagnose_seconds"):
            found = self.compare()
        numbers = {f"{name}.{kind}": value for name, pair in found.items() for kind, value in pair._asdict().items()}
        run.record({"update": update, "split": "gradient", **numbers})

    def compare(self) -> dict[str, GradientSimilarity]:
        """The similarity of the two gradients now, by the name of the parameter."""
        learner = copy.deepcopy(self._learner)
        learner.net.precision = None  # rounded weights would give different spikes
        reference = gradient_through_time(BPTT(learner.net, surrogate=self._surrogate), self._example)
        return gradient_similarities(gradient_by_rule(learner, self._example), reference)


def _first(stream: Stream, trials: int) -> Stream:
    """The first trials of a stream, stored."""
    xs = torch.cat([chunk[:, :trials].clone() for chunk in stream.chunks(_CHUNK)])
    return Stream(lambda start, stop: xs[start:stop], len(xs), (xs.shape[1], xs.shape[2]))


def _actions(task: Environment, count: int) -> Tensor:
    """Draw an action for each environment, uniformly and with a constant seed."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(task.output_size, (count,), generator=generator).to(task.device)
