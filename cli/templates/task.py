"""Own part: which half of the channels has more spikes?

A task is a subclass of `Task`. Replace the channels and the labels by yours. A batch must depend only on the seed and
on its number, so that runs can be resumed exactly: draw with `tracetorch.backends.uniform` and `tracetorch.encode`.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from tracetorch.encode import mix_seed, poisson
from tracetorch.tasks.task import Batch, Task, Trials, check_split, classified


class OwnPart(Task):
    """Two classes: more spikes in the first half of the channels, or in the second.

    Args: the keys of conf/task/own_part.yaml, which are checked against these annotations.
    """

    input_size = 8
    output_size = 2  # classes, or values to predict
    steps = 40  # time steps of a trial
    # Optional: readout_window, output_names, dt, batches_per_pass (for train.passes), metrics, figures; see `Task`.

    def __init__(
        self, *, high: float = 0.3, low: float = 0.1, batch_size: int = 32, test_trials: int = 500, seed: int = 0
    ):
        self.high, self.low = high, low  # spikes per step
        self.batch_size, self.test_trials, self.seed = batch_size, test_trials, seed

    def train_batch(self, number: int) -> Batch:
        """The training batch with this number: 0, 1, 2, …"""
        first = number * self.batch_size
        return self._batch(0, torch.arange(first, first + self.batch_size))

    def eval_batches(self, split: str) -> Iterator[Batch]:
        """All batches of the split "validation", which may be empty, or "test"."""
        check_split(split)
        yield self._batch(1 if split == "validation" else 2, torch.arange(self.test_trials))

    def score(self, output: Tensor, batch: Batch) -> Trials:
        """The scores of each trial by name, such as "accuracy", (batch,). Args: output: (batch, output_size)."""
        return classified(output, batch.target)

    def _batch(self, purpose: int, samples: Tensor) -> Batch:
        """The trials with these numbers. Args: purpose: 0: training, 1: validation, 2: test."""
        target = samples % 2
        is_second_half = torch.arange(self.input_size) >= self.input_size // 2
        rates = torch.where(is_second_half == target.bool()[:, None], self.high, self.low)  # (batch, input_size)
        xs = poisson(rates.to(self.device), self.steps, mix_seed(self.seed, purpose), samples)
        return Batch(xs, target.to(self.device), {})
