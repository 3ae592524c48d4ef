"""A lifetime: one endless stream of decisions without resets, with sparse rewards or labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tracetorch.runs import Run
from tracetorch.tasks import Environment
from tracetorch.training.labels import LabelFeedback
from tracetorch.training.life import EndlessStream, Life
from tracetorch.training.loop import fit
from tracetorch.training.rewards import RewardFeedback
from tracetorch.training.setup import Setup, check_counts
from tracetorch.training.step import FeedbackSchedule


def main(
    run: Run,
    *,
    updates: int | None = None,
    steps: int | None = None,
    teach_every: float = 1.0,
    averages: Sequence[int] = (50, 500, 5000),
    recovered_at: float = 0.9,
    **options: Any,
) -> None:
    """Let a network decide and learn from feedback, without any reset, until the end or until it is stopped.

    An update is one decision in each environment. Network states, traces, the baseline of the loss and the
    optimizer are never reset: where a trial or an episode ends, the stream continues. With rewards, actions are drawn;
    with labels, the largest output is the answer. A lifetime with an end is tested at its end on held-out data.

    Args:
        run: records the training.
        updates, steps: decisions in each environment, and time steps of the network; the shorter limit ends the run.
            None: no limit.
        teach_every: decisions per feedback, on average; see `FeedbackSchedule`.
        averages: half-lives of the running averages of the reward or the accuracy, in decisions.
        recovered_at: fraction of the highest average at any task change so far that counts as recovery; see `Life`.
        options: the parts and the options of every kind of experiment; see `Setup`. A learning-rate schedule needs an
            end and begins at the first feedback.
    Raises: ValueError if the parts do not fit, before anything is written; TrainingError if the network diverges.
    Memory: independent of the number of decisions. On disk, metrics.jsonl grows by about 500 bytes every `log_every`
        decisions; it is read as a whole once, at the end, for the figures.
    """
    check_counts(updates=updates, steps=steps)
    setup = Setup(run, feedback=None, **options)
    task, schedule = setup.task, FeedbackSchedule(teach_every, setup.seed)
    rewarded = isinstance(task, Environment)
    source = RewardFeedback(setup, schedule) if rewarded else LabelFeedback(setup, schedule)
    life = Life(averages, recovered_at, task.output_size, chance_level=source.chance_level, num_envs=task.batch_size)
    lengths = [updates, None if steps is None else math.ceil(steps / task.steps)]
    total = min((length for length in lengths if length is not None), default=None)
    fit(run, EndlessStream(setup, source, life), setup, total=total)
