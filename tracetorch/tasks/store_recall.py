"""Store and recall: remember the value that came with the store command, despite distractors, until recall."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from tracetorch import backends
from tracetorch.backends import LazySpikes, limit_of
from tracetorch.encode import Stream
from tracetorch.tasks.samplers import SampleSpace, UniformSampler
from tracetorch.tasks.task import Batch, DrawnTask, Figures, Trials, at_least, means, split_seeds, whole_at_least

_VALUES, _SPIKES = range(2)  # purposes of seeds


class StoreRecall(DrawnTask):
    """Every interval but the last shows a value, 0 or 1. One comes with a store command; the last interval asks for it.

    There are four populations of equal size: one for each value, one for store, one for recall. The values are random;
    in one interval, the store population fires too. In the last interval only recall fires, and the answer is read. The
    answer is the value of the interval with the store command; the values after it are distractors.

    Args:
        intervals: number in a trial, recall included; at least 2.
        distractors: number of intervals between store and recall: a list to draw from, or a range such as "0..6";
            whole numbers, at most intervals − 2.
        interval: length of an interval, seconds.
        rate, noise: firing rates of a neuron in an active and in an inactive population, Hz.
        neurons_per_channel: neurons of each population.
        dt: length of a step, seconds.
        batch_size, validation_trials, test_trials: numbers of trials.
        seed: of all trials; held-out trials are drawn separately.
    Raises: ValueError for invalid values, TypeError for a count that is not a whole number.
    Source: Bellec, Salaj, Subramoney, Legenstein, Maass (2018), Long short-term memory and learning-to-learn in
        networks of spiking neurons, doi:10.48550/arXiv.1803.09574, whose code contains the task; Salaj, Subramoney,
        Kraisnikovic, Bellec, Legenstein, Maass (2021), Spike frequency adaptation supports network computations on
        temporally dispersed information, doi:10.7554/eLife.65459. In these papers, a trial has several commands, at any
        time; here, it has one store and one recall.
    """

    output_size = 2
    eval_batch_size = 250
    output_names = ("0", "1")
    dt: float
    readout_window: int

    def __init__(
        self,
        *,
        intervals: int = 8,
        distractors: SampleSpace = "0..6",
        interval: float = 0.2,
        rate: float = 50.0,
        noise: float = 0.0,
        neurons_per_channel: int = 10,
        dt: float = 0.001,
        batch_size: int = 64,
        validation_trials: int = 250,
        test_trials: int = 1000,
        seed: int = 0,
    ):
        whole_at_least(2, intervals=intervals)
        whole_at_least(1, neurons_per_channel=neurons_per_channel, batch_size=batch_size, test_trials=test_trials)
        whole_at_least(0, validation_trials=validation_trials)
        at_least(0, rate=rate, noise=noise)
        if not dt > 0 or max(rate, noise) * dt > 1:
            raise ValueError(f"dt must be above 0 and short enough for at most one spike in a step, got {dt:g} s")
        if not dt <= interval < float("inf"):
            raise ValueError(f"interval must be finite, and at least a step of {dt:g} s, got {interval:g} s")
        self.distractors = UniformSampler("distractors", distractors, 0.0)
        if not self.distractors.is_whole or self.distractors.high > intervals - 2:
            raise ValueError(
                f"distractors must be whole numbers, at most {intervals - 2}, because one of the {intervals} intervals "
                f"is for store and one for recall, got {distractors!r}"
            )
        self.intervals, self.rate, self.noise = intervals, rate, noise
        self.neurons_per_channel, self.dt, self.batch_size, self.seed = neurons_per_channel, dt, batch_size, seed
        self.trials = {"validation": validation_trials, "test": test_trials}
        self.input_size = 4 * neurons_per_channel
        self.readout_window = self.interval_steps = round(interval / dt)
        self.steps = intervals * self.interval_steps

    def summary(self, trials: Trials) -> dict[str, float]:
        """Return the accuracies of two shortcuts: the last value, and the majority of all values."""
        return means(trials, ("last_value_accuracy", "majority_accuracy"))

    def figures(self, trials: Trials) -> Figures:
        """Draw accuracy against the number of intervals between store and recall."""
        from tracetorch import plot

        distractors, correct = trials["distractors"], trials["accuracy"] > 0
        return {"distractors": plot.accuracy_curve(distractors, correct, xlabel="intervals between store and recall")}

    def example(self, trial: int = 0) -> tuple[Batch, dict[str, tuple[float, float]]]:
        batch, _ = super().example(trial)
        store = self.intervals - 2 - int(batch.conditions["distractors"])
        commands = {"store": store, "recall": self.intervals - 1}
        return batch, {name: (n * self.interval_steps, (n + 1) * self.interval_steps) for name, n in commands.items()}

    def make(self, split: str, samples: Tensor) -> Batch:
        seeds = split_seeds(self.seed, split, 2)
        num_values = self.intervals - 1
        drawn = backends.uniform(seeds[_VALUES], range(1), samples, num_values + 1)[0]
        ones = drawn[:, :num_values] < 0.5  # (batch, intervals): whether the value is 1
        distractors = self.distractors.whole_at(drawn[:, num_values])
        stored = num_values - 1 - distractors  # the interval of the store command
        target = ones.gather(1, stored[:, None])[:, 0]
        margin = 2 * ones.sum(dim=-1) - num_values
        majority = ((margin > 0) == target).to(torch.float32)
        majority = torch.where(margin == 0, 0.5, majority)  # a tie counts as a random answer
        conditions = {
            "distractors": distractors,
            "last_value_accuracy": (ones[:, -1] == target).to(torch.float32),
            "majority_accuracy": majority,
        }
        make = partial(self._spikes, ones=ones, stored=stored, seed=seeds[_SPIKES], samples=samples)
        return Batch(Stream(make, self.steps, (len(samples), self.input_size)), target.long(), conditions)

    def _spikes(self, start: int, stop: int, *, ones: Tensor, stored: Tensor, seed: int, samples: Tensor) -> LazySpikes:
        probabilities = torch.tensor([self.noise, self.rate], device=samples.device) * self.dt
        num_values, first, last = self.intervals - 1, start // self.interval_steps, (stop - 1) // self.interval_steps
        interval = torch.arange(first, last + 1, device=samples.device)[:, None]
        is_one = ones[:, interval[:, 0].clamp(max=num_values - 1)].t()  # (intervals of this chunk, batch)
        is_recall = (interval == num_values).expand_as(is_one)
        is_active = torch.stack([~is_one & ~is_recall, is_one & ~is_recall, interval == stored, is_recall], dim=-1)
        limits = limit_of(probabilities[is_active.long()].repeat_interleave(self.neurons_per_channel, dim=-1))
        limits = limits[torch.arange(start, stop, device=samples.device) // self.interval_steps - first]
        share = (self.rate + 3 * self.noise) / 4 * self.dt  # approximate fraction of neurons that fire in a step
        return LazySpikes(limits, seed, range(start, stop), samples, torch.float32, share)
