"""Supervised learning on batches of labelled sequences, with tests on held-out trials."""

from __future__ import annotations

from typing import Any, Literal

from tracetorch.runs import Run
from tracetorch.training.labels import LabelledSequences
from tracetorch.training.loop import fit
from tracetorch.training.setup import Setup, check_counts, count_updates


def main(
    run: Run,
    *,
    updates: int | None = None,
    passes: float | None = None,
    learn_every: int | None = None,
    update_every: int | Literal["moment"] | None = "moment",
    log_every: int = 20,
    eval_every: int | None = None,
    patience: int | None = None,
    **options: Any,
) -> None:
    """Train a network on a task and test it.

    An update is one batch of sequences. The network starts each sequence from its resting state, and learns at the end
    or every few steps.

    Args:
        run: records the training.
        updates, passes: length of training: batches, or passes over the training data. Exactly one of the two.
        learn_every: time steps between two learning moments, each with the label; None: one moment, at the end of the
            sequence. The loss of the last moment is logged. Memory does not depend on this setting.
        update_every: time steps between two steps of the optimizer, on the sum of the gradients since the last one: a
            multiple of `learn_every`. None: one, at the end of the sequence. "moment": at each learning moment.
        log_every, eval_every: updates between two records, and between two evaluations (None: one pass, or a tenth of
            the updates).
        patience: stop after so many evaluations without a better one, and test the best network; None: no limit.
        options: the parts and the options of every kind of experiment; see `Setup`.
    Raises: ValueError if the parts do not fit, before anything is written; TrainingError if the network dies.
    """
    between_updates = None if update_every == "moment" else update_every
    check_counts(learn_every=learn_every, update_every=between_updates, eval_every=eval_every, patience=patience)
    update_every = _update_every(learn_every, update_every)
    setup = Setup(run, feedback="labels", log_every=log_every, **options)
    task = setup.task
    if patience is not None and next(iter(task.eval_batches("validation")), None) is None:
        raise ValueError("train.patience needs validation trials, and the task has none")
    total = count_updates(task, task.batches_per_pass, updates, passes)
    step = LabelledSequences(setup, learn_every=learn_every, update_every=update_every)
    eval_every = eval_every or task.batches_per_pass or max(1, total // 10)
    fit(run, step, setup, total=total, eval_every=eval_every, patience=patience, test_best=patience is not None)


def _update_every(learn_every: int | None, update_every: int | Literal["moment"] | None) -> int | None:
    """Return time steps between two updates; None: one at the end. Raises: ValueError if `learn_every` does not fit."""
    if update_every == "moment":
        return learn_every
    if update_every and (learn_every is None or update_every % learn_every):
        learns = "at the end alone (train.learn_every=null)" if learn_every is None else f"every {learn_every} steps"
        raise ValueError(
            f"train.update_every={update_every}: the network learns {learns}, and updates follow learning moments: "
            "give a multiple of train.learn_every, or null for one update at the end"
        )
    return update_every
