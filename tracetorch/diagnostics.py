"""What a run is watched for while it learns, besides how well it does: the config group `diagnostics`."""

from __future__ import annotations

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

_CHUNK = 64  # steps of the stream that are made at a time


class Diagnostic(Protocol):
    """Something that looks at a run after each update, records what it sees, and changes nothing."""

    def look(self, run: Run, update: int, *, last: bool) -> None:
        """Look, if it is time to. Args: update: how many were done; last: whether none will follow."""


class Nothing:
    """Looks at nothing.

    Args: as `Gradient`; none of them is used.
    """

    def __init__(
        self, learner: Rule, task: Task | Environment, loss: Any, *, window: int | None, learn_every: int | None
    ):
        del learner, task, loss, window, learn_every

    def look(self, run: Run, update: int, *, last: bool) -> None:
        """Leave it at that."""


class Gradient:
    """Now and then: how close the rule's gradient comes to that of backpropagation through time.

    Both are computed for one batch that stays the same, the first trials that are held out for validation (of the
    training, if none are), with the weights as they are then, as often within a trial as the run learns. With rewards
    it is what the environments show first, an action drawn for each, and the gradient of what would make these
    likelier (see `rules.scored.example_of_scores`). A record with the split "gradient" has the cosine and the ratio of
    norms for each learnable parameter.

    Args:
        learner, task, loss, window, learn_every: of the run. The learner is copied each time, so that its network's
            states and gradients stay as they are.
        every: updates between two looks; there is one after the last update too.
        trials: how many, or environments, at most.
        surrogate, through_reset: of `rules.BPTT`.
    Raises: ValueError for counts below 1, or a surrogate that there is not.
    Memory: O(time × trials × (inputs + neurons)) for as long as a look takes, and time × trials × inputs throughout: it
        grows with the length of a trial, whatever the rule.
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
            seen, reads = _first(task.observe(), trials), window or task.readout_window
            self._example = example_of_scores(seen, _actions(task, seen.shape[0]), loss, reads)
        else:
            batch = next(task.eval_batches("validation"), None) or task.train_batch(0)
            self._example = Example(_first(batch.xs, trials), batch.target[:trials], loss, window, learn_every)

    def look(self, run: Run, update: int, *, last: bool) -> None:
        """Compare the two gradients, and record what came of it."""
        if not last and update % self._every:
            return
        with run.timed("diagnose_seconds"):
            found = self.compare()
        numbers = {f"{name}.{kind}": value for name, one in found.items() for kind, value in one._asdict().items()}
        run.record({"update": update, "split": "gradient", **numbers})

    def compare(self) -> dict[str, GradientSimilarity]:
        """The similarity of the rule's gradient with that through time, now, by the name of the parameter."""
        learner = copy.deepcopy(self._learner)
        learner.net.precision = None  # rounded weights would give other spikes: it is the rule that is looked at
        wanted = gradient_through_time(BPTT(learner.net, surrogate=self._surrogate), self._example)
        return gradient_similarities(gradient_by_rule(learner, self._example), wanted)


def _first(stream: Stream, trials: int) -> Stream:
    """The first so many trials, kept."""
    xs = torch.cat([chunk[:, :trials].clone() for chunk in stream.chunks(_CHUNK)])
    return Stream(lambda start, stop: xs[start:stop], len(xs), (xs.shape[1], xs.shape[2]))


def _actions(task: Environment, count: int) -> Tensor:
    """An action for each environment, each as likely as any other; always the same."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(task.output_size, (count,), generator=generator).to(task.device)
