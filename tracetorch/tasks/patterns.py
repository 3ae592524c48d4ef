"""Memorise random pairs of input patterns and output bits."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from tracetorch import backends
from tracetorch.encode import ENCODERS, mix_seed
from tracetorch.tasks.task import Batch, Figures, Task, Trials, check_split, choices, whole_at_least


class Patterns(Task):
    """Random input patterns, each with random output bits, to be memorised.

    Every input neuron is on, with the value `rate`, or off, with the value `background`; every output is a random bit.
    Held-out trials are the same patterns, for "poisson" with new spikes: there is nothing to generalise to.

    Args:
        patterns: number of pairs of input and output.
        inputs, outputs: number of input neurons, and of output bits.
        steps: time steps for which a pattern is shown.
        rate, background: the value of an input that is on, and of one that is off, in [0, 1]: its spikes per step
            ("poisson"), its current ("constant"), or how early it spikes ("latency", see `encode.latency`).
        encoding: "poisson", "latency" or "constant".
        batch_size: patterns in a batch, taken in turn.
        repeats: how often each pattern is shown in validation and in the test; useful above 1 for "poisson" only.
        seed: of patterns and spikes.
    Raises: ValueError for invalid values, TypeError for a count that is not a whole number.
    """

    metrics = ("accuracy", "recalled")

    def __init__(
        self,
        *,
        patterns: int = 32,
        inputs: int = 64,
        outputs: int = 16,
        steps: int = 20,
        rate: float = 0.5,
        background: float = 0.05,
        encoding: str = "poisson",
        batch_size: int = 32,
        repeats: int = 10,
        seed: int = 0,
    ):
        whole_at_least(1, patterns=patterns, inputs=inputs, outputs=outputs, steps=steps)
        whole_at_least(1, batch_size=batch_size, repeats=repeats)
        if not 0 <= background <= rate <= 1:
            raise ValueError(f"0 ≤ background ≤ rate ≤ 1 must hold, got background={background:g} and rate={rate:g}")
        self.input_size, self.output_size, self.steps, self.batch_size = inputs, outputs, steps, batch_size
        self.encode = ENCODERS[choices("encoding", encoding, ENCODERS)]
        self.repeats, self.seed = repeats, seed
        numbers = torch.arange(patterns)
        is_on = backends.uniform(mix_seed(seed, 0), range(1), numbers, inputs)[0] < 0.5
        self.rates = torch.where(is_on, rate, background)
        self.bits = (backends.uniform(mix_seed(seed, 1), range(1), numbers, outputs)[0] < 0.5).to(torch.float32)

    def train_batch(self, number: int) -> Batch:
        samples = torch.arange(number * self.batch_size, (number + 1) * self.batch_size)
        return self._batch(samples, mix_seed(self.seed, 2))

    def eval_batches(self, split: str) -> Iterator[Batch]:
        check_split(split)
        for repeat in range(self.repeats):
            first = repeat * len(self.rates)
            yield self._batch(torch.arange(first, first + len(self.rates)), mix_seed(self.seed, 3, split == "test"))

    def score(self, output: Tensor, batch: Batch) -> Trials:
        """Return the columns accuracy, the fraction of correct bits, and recalled, 1 if all bits are correct."""
        is_correct = (output > 0.5) == (batch.target > 0.5)
        accuracy = is_correct.to(torch.float32).mean(dim=-1)
        return batch.conditions | {"accuracy": accuracy, "recalled": is_correct.all(dim=-1).to(torch.float32)}

    def figures(self, trials: Trials) -> Figures:
        """Draw the fraction of correct bits of each pattern."""
        from tracetorch import plot

        pattern = trials["pattern"].long()
        total = torch.zeros(len(self.rates), dtype=torch.float64).index_add_(0, pattern, trials["accuracy"].double())
        return {"recall": plot.recall(total / torch.bincount(pattern, minlength=len(self.rates)).clamp(min=1))}

    def _batch(self, samples: Tensor, seed: int) -> Batch:
        pattern = samples % len(self.rates)
        rates, bits = self.rates[pattern].to(self.device), self.bits[pattern].to(self.device)
        xs = self.encode(rates, self.steps, seed=seed, samples=samples.to(self.device))
        return Batch(xs, bits, {"pattern": pattern.to(self.device)})
