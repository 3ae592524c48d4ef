"""Steps with labels: batches of sequences, each from a reset state, or an endless stream."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tracetorch.modes import kind_of
from tracetorch.runs import Run
from tracetorch.tasks.counted import counted_loss, mean_output
from tracetorch.tasks.evaluate import evaluate
from tracetorch.tasks.task import CountedBatch, Task, has_classes, means
from tracetorch.training.health import check_loss
from tracetorch.training.report import report
from tracetorch.training.setup import Setup
from tracetorch.training.step import Decision, FeedbackSchedule, FeedbackSource, Step, Update


class LabelStep(Step):
    """Steps with the trials of a `Task`, and a loss of output and target such as `cross_entropy`.

    Raises: ValueError if the rule learns from rewards.
    """

    def __init__(self, setup: Setup):
        super().__init__(setup)
        if self.learner.learns_from == "rewards":
            mismatch = f"{type(self.learner).__name__} learns from rewards, and {type(self.task).__name__} gives labels"
            raise ValueError(f"{mismatch}: choose rule=trace")

    def rehearse(self) -> None:
        batch = self.task.train_batch(0)
        self.learner.reset()
        output = self.learner.forward(batch.xs, reduce="mean", window=self.window)
        target = batch.target[-1] if isinstance(batch, CountedBatch) and batch.at_steps else batch.target
        result = self.loss(output, target)
        if not isinstance(result, tuple | list) or len(result) != 2:
            raise TypeError(
                "a loss gives (loss, signal), where signal is its derivative with respect to the output, as "
                f"tracetorch.loss.mse does; this one gives {kind_of(result)}"
            )
        self.learner.reset()

    def validate(self) -> dict[str, Any] | None:
        evaluation = evaluate(self.learner, self.task, self.loss, "validation", self.window)
        return evaluation and evaluation.means

    def report(self, run: Run, *, figures: bool) -> None:
        report(run, self.learner, self.task, self.loss, self.window, figures=figures)


class SavedTaskState:
    """The task's state in a checkpoint. Only a test loads it; a resumed run computes it again from the data."""

    def __init__(self, task: Task):
        self.state_dict = task.state_dict

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Ignore the state: the task has already computed it."""


class LabelledSequences(LabelStep):
    """One update: a batch of sequences, each with its label.

    Args:
        learn_every: time steps between two learning moments; None: one moment, at the end of the sequence.
        update_every: time steps between two steps of the optimizer; None: one, at the end of the sequence.
    """

    def __init__(self, setup: Setup, *, learn_every: int | None = None, update_every: int | None = None):
        super().__init__(setup)
        self.learn_every, self.update_every = learn_every, update_every
        self.logged, self.parts = tuple(self.task.metrics), {"rule": self.learner}
        if self.task.state_dict():
            self.parts["task"] = SavedTaskState(self.task)

    def __call__(self, number: int) -> Update:
        batch = self.task.train_batch(number - 1)
        self.learner.reset()
        if isinstance(batch, CountedBatch):
            return self._learn_counted(number, batch)
        for segment in batch.xs.split(self.update_every or batch.xs.steps):
            self.optimizer.zero_grad()
            for part in segment.split(self.learn_every or segment.steps):
                window = min(self.window or part.steps, part.steps)
                output = self.learner.forward(part, reduce="mean", window=window)
                loss, signal = self.loss(output, batch.target)
                check_loss(float(loss), number, self.net)
                self.learner.backward_label(signal, target=batch.target)
            self.step_optimizer(number)
        values = means(self.task.score(output, batch), self.task.metrics)
        return Update(float(loss), values, output, batch.xs.steps)

    def _learn_counted(self, number: int, batch: CountedBatch) -> Update:
        """Make an update with a batch in which only some steps have a target; see `counted_loss`."""
        outputs, total, rows, start, window = list[Tensor](), 0.0, 0, 0, self.window
        for segment in batch.xs.split(self.update_every or batch.xs.steps):
            self.optimizer.zero_grad()
            has_learned = False
            for part in segment.split(self.learn_every or segment.steps):
                output = self.learner.forward(part)
                outputs.append(output)
                found = counted_loss(self.loss, output, batch, start, window)
                target = batch.target[start : start + part.steps] if batch.at_steps else batch.target
                start += part.steps
                if found is None:
                    continue
                check_loss(float(found.loss), number, self.net)
                self.learner.backward_label(found.signal, target=target, counted=found.counted)
                total, rows, has_learned = total + float(found.loss) * found.rows, rows + found.rows, True
            if has_learned:
                self.step_optimizer(number)
        output = torch.cat(outputs)
        if not batch.at_steps:
            output = mean_output(output, batch.counted, window)[0]
        values = means(self.task.score(output, batch), self.task.metrics)
        of_last = output[-1] if batch.at_steps else output
        return Update(total / max(1, rows), values, of_last, batch.xs.steps)


class LabelFeedback(FeedbackSource, LabelStep):
    """One update: one decision in each environment of an endless stream of trials, with occasional labels.

    Args: schedule: of the labels.
    Raises: ValueError for a rule that is not online, and for a task whose samples differ in length or have targets at
        steps.
    """

    _number: int  # of the last decision

    def __init__(self, setup: Setup, schedule: FeedbackSchedule):
        super().__init__(setup)
        if not self.learner.is_online:
            name = type(self.learner).__name__
            advice = f"choose {self.learner.online_option}rule=trace"
            raise ValueError(f"{name} needs sequences with an end, and a lifetime has none: {advice}")
        if isinstance(self.task.train_batch(0), CountedBatch):
            raise ValueError(
                f"a lifetime gives one label after {self.task.steps} steps, and {type(self.task).__name__} has samples "
                "of different lengths or targets at steps: choose train=supervised"
            )
        self.schedule, self.logged, self.parts = schedule, tuple(self.task.metrics[:1]), {"rule": self.learner}

    @property
    def context(self) -> int:
        return int(self.task.context(self._number))

    @property
    def chance_level(self) -> float | None:
        is_chance_known = self.logged == ("accuracy",) and has_classes(self.task.train_batch(0).target)
        return 1 / self.task.output_size if is_chance_known else None

    def decide(self, number: int) -> Decision:
        batch, value = self.task.train_batch(number - 1), None
        output = self.learner.forward(batch.xs, reduce="mean", window=self.window)
        name = self.logged[0]
        score = self.task.score(output, batch)[name]
        if self.schedule.is_due(number):
            loss, signal = self.loss(output, batch.target)
            value = float(loss)
            check_loss(value, number, self.net)
            self.optimizer.zero_grad()
            self.learner.backward_label(signal, target=batch.target)
            self.step_optimizer(number)
        self._number = number
        update = Update(value, {name: float(score.mean())}, output, self.task.steps)
        return Decision(output.argmax(dim=-1), score, update)
