"""Learning from rewards in episodes: observe, act, get a reward, learn; with tests on held-out episodes."""

from __future__ import annotations

from typing import Any

from tracetorch.runs import Run
from tracetorch.training.loop import fit
from tracetorch.training.rewards import RewardFeedback
from tracetorch.training.setup import Setup, check_counts, count_updates


def main(
    run: Run,
    *,
    updates: int | None = None,
    passes: float | None = None,
    eval_every: int | None = None,
    patience: int | None = None,
    **options: Any,
) -> None:
    """Let a network act in an environment, and learn from its rewards.

    An update is one action in each environment and one learning step from its reward. Actions are drawn; in evaluations
    the most probable is taken. When an episode ends, the state of that environment alone is reset. The network of the
    best evaluation is tested; without validation episodes, the last network.

    Args:
        run: records the training.
        updates, passes: length of training: actions, or passes over the training data. Exactly one of the two.
        eval_every: updates between two evaluations; None: a tenth of all.
        patience: stop after so many evaluations without a better one; None: no limit.
        options: the parts and the options of every kind of experiment; see `Setup`.
    Raises: ValueError if the parts do not fit, before anything is written; TrainingError if the network diverges.
    """
    check_counts(eval_every=eval_every, patience=patience)
    setup = Setup(run, feedback="rewards", **options)
    total = count_updates(setup.task, setup.task.actions_per_pass, updates, passes)
    eval_every = eval_every or max(1, total // 10)
    fit(run, RewardFeedback(setup), setup, total=total, eval_every=eval_every, patience=patience, test_best=True)
