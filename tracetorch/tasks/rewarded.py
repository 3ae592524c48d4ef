"""Rewards instead of labels: the trials of any task, with reward 1 for the right choice."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tracetorch.encode import Stream
from tracetorch.tasks.environment import Choose, Environment, Outcome, check_actions
from tracetorch.tasks.task import Batch, Task, Trials, WrappingTask


class RewardedTask(WrappingTask, Environment):
    """A task with one right choice in each trial, as an environment: reward 1 for the right choice, otherwise 0.

    Each environment is a trial of the task's batch, and an episode is one decision. Trials come in the order of the
    task's training batches; after a pass over its data the next one begins.

    Args: task: whose target is one of its outputs, such as `MNIST` or `PoissonClicks`.
    Raises: ValueError for a task whose targets are numbers or several bits.
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
        target = self._present().target
        if target.is_floating_point() or target.ndim != 1:
            raise ValueError(
                f"{type(task).__name__} has targets that are not a single class; a reward needs a task with one right "
                "choice in each trial, such as MNIST or PoissonClicks"
            )

    @property
    def context(self) -> int:
        return self.task.context(self._number)

    def to(self, device: torch.device) -> RewardedTask:
        self._batch = None
        return super().to(device)

    def begin(self) -> None:
        self._number, self._batch = 0, None

    def observe(self) -> Stream:
        return self._present().xs

    def act(self, action: Tensor) -> Outcome:
        check_actions(action, self.num_envs, self.output_size)
        right = action.to(self.device) == self._present().target
        self._number, self._batch = self._number + 1, None
        done = torch.ones_like(right)
        return Outcome(right.to(torch.float32), done, ~done)

    def test(self, choose: Choose, split: str = "test") -> Trials:
        """As `Environment.test`: each held-out trial once, with the columns that the task's own test has."""
        columns: list[Trials] = []
        for batch in self.task.eval_batches(split):
            rows = len(batch.target)
            action = choose(batch.xs, torch.ones(rows, dtype=torch.bool, device=batch.target.device))
            check_actions(action, rows, self.output_size)
            action = action.to(batch.target.device)
            chosen = torch.nn.functional.one_hot(action.long(), self.output_size).to(torch.float32)
            reward = (action == batch.target).to(torch.float32)
            columns.append({"return": reward} | self.task.score(chosen, batch))
        return {name: torch.cat([part[name] for part in columns]).cpu() for name in (columns[0] if columns else ())}

    def example(self) -> tuple[Stream, dict[str, tuple[float, float]]]:
        batch, marks = self.task.example()
        return batch.xs, marks

    def state_dict(self) -> dict[str, Any]:
        return {"number": self._number}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        number = state.get("number")
        if not isinstance(number, int) or number < 0:
            raise ValueError(f"the state of a rewarded task is the number of its batch, got {sorted(state)}")
        self._number, self._batch = number, None

    def _present(self) -> Batch:
        if self._batch is None:
            self._batch = self.task.train_batch(self._number)
        return self._batch
