"""Learning from rewards in episodes: look, act, get a reward, learn; with tests on episodes that are never learned."""

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

    An update is one action in each environment, and what is learned from its reward. Actions are drawn; in evaluations
    the likeliest is taken. Where an episode is over, the state of that environment alone is reset. The network of the
    best evaluation on validation episodes, if there are any, is tested.

    Args:
        run: where it is recorded.
        updates, passes: how long to learn: actions, or passes over the training data. Exactly one of the two.
        eval_every: updates between two evaluations; a tenth of all, if None.
        patience: stop after so many evaluations without a better one; no limit, if None.
        options: the parts and the options of every kind of experiment; see `Setup`.
    Raises: ValueError if the parts do not fit, before anything is written; TrainingError if the network explodes.
    """
    check_counts(eval_every=eval_every, patience=patience)
    setup = Setup(run, feedback="rewards", **options)
    total = count_updates(setup.task, setup.task.actions_per_pass, updates, passes)
    eval_every = eval_every or max(1, total // 10)
    fit(run, RewardFeedback(setup), setup, total=total, eval_every=eval_every, patience=patience, test_best=True)
