"""Cue accumulation: cues left and right along a corridor, then a long delay; which side had more cues?"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from tracetorch import backends
from tracetorch.backends import LazySpikes, limit_of
from tracetorch.encode import Stream
from tracetorch.modes import whole
from tracetorch.tasks.task import Batch, DrawnTask, Figures, Trials, at_least, means, split_seeds, whole_at_least

_CUES, _SPIKES = range(2)  # purposes of seeds


class CueAccumulation(DrawnTask):
    """Several cues, each on one side; after a delay a recall signal asks which side had more cues.

    A side is drawn for each trial, and each cue falls on this side with probability `bias`. There are four populations
    of equal size: left and right fire during their cues, recall fires during recall, and noise fires all the time.

    Args:
        cues: number of cues, odd.
        cue, interval: length of a cue, and time from the start of a cue to the start of the next, seconds.
        delay, recall: time from the last interval to recall, and length of recall, when the answer is read, seconds.
        bias: probability that a cue falls on the trial's side.
        rate, noise: firing rates of an active population and of the noisy one, Hz.
        neurons_per_channel: neurons of each population.
        dt: length of a step, seconds.
        batch_size, validation_trials, test_trials: numbers of trials.
        seed: of all trials; held-out trials are drawn separately.
    Raises: ValueError for invalid values, TypeError for a count that is not a whole number.
    Source: Bellec, Scherr, Subramoney, Hajek, Salaj, Legenstein, Maass (2020), A solution to the learning dilemma for
        recurrent networks of spiking neurons, doi:10.1038/s41467-020-17236-y; after Morcos and Harvey (2016).
    """

    output_size = 2
    eval_batch_size = 250
    output_names = ("left", "right")
    dt: float
    readout_window: int

    def __init__(
        self,
        *,
        cues: int = 7,
        cue: float = 0.1,
        interval: float = 0.15,
        delay: float = 1.05,
        recall: float = 0.15,
        bias: float = 0.7,
        rate: float = 40.0,
        noise: float = 10.0,
        neurons_per_channel: int = 10,
        dt: float = 0.001,
        batch_size: int = 64,
        validation_trials: int = 250,
        test_trials: int = 1000,
        seed: int = 0,
    ):
        whole_at_least(1, neurons_per_channel=neurons_per_channel, batch_size=batch_size, test_trials=test_trials)
        whole_at_least(0, validation_trials=validation_trials)
        at_least(0, interval=interval, delay=delay, recall=recall, rate=rate, noise=noise)
        if whole(cues, "cues") < 1 or cues % 2 == 0:
            raise ValueError(f"cues must be an odd number, so that one side has more, got {cues}")
        if not 0.5 <= bias <= 1:
            raise ValueError(f"bias is the probability of a cue on the trial's side, 0.5 to 1, got {bias:g}")
        if not dt > 0 or max(rate, noise) * dt > 1:
            raise ValueError(f"dt must be above 0 and short enough for at most one spike in a step, got {dt:g} s")
        if not dt <= cue <= interval:
            raise ValueError(f"cue must be at least a step and at most the interval of {interval:g} s, got {cue:g} s")
        if recall < dt:
            raise ValueError(f"recall must be at least a step of {dt:g} s, got {recall:g} s")
        self.cues, self.bias, self.rate, self.noise = cues, bias, rate, noise
        self.neurons_per_channel, self.dt, self.batch_size, self.seed = neurons_per_channel, dt, batch_size, seed
        self.trials = {"validation": validation_trials, "test": test_trials}
        self.input_size = 4 * neurons_per_channel
        self.cue_steps, self.interval_steps = round(cue / dt), round(interval / dt)
        self.delay_steps, self.readout_window = round(delay / dt), max(1, round(recall / dt))
        self.recall_from = cues * self.interval_steps + self.delay_steps
        self.steps = self.recall_from + self.readout_window

    def summary(self, trials: Trials) -> dict[str, float]:
        """Return the accuracies of two shortcuts: the side of the last cue, and the majority of the last three cues."""
        return means(trials, ("last_cue_accuracy", "last_three_accuracy"))

    def figures(self, trials: Trials) -> Figures:
        """Draw the fraction of trials in which right was chosen, against the surplus of cues on the right."""
        from tracetorch import plot

        xlabel = "cues on the right − cues on the left"
        return {"psychometric": plot.psychometric(trials["surplus"], trials["prediction"] == 1, xlabel=xlabel)}

    def example(self, trial: int = 0) -> tuple[Batch, dict[str, tuple[float, float]]]:
        batch, _ = super().example(trial)
        end = self.cues * self.interval_steps
        return batch, {"cues": (0, end), "delay": (end, self.recall_from), "recall": (self.recall_from, self.steps)}

    def make(self, split: str, samples: Tensor) -> Batch:
        seeds = split_seeds(self.seed, split, 2)
        drawn = backends.uniform(seeds[_CUES], range(1), samples, self.cues + 1)[0]
        on_side = drawn[:, 1:] < self.bias
        right = torch.where(drawn[:, :1] < 0.5, on_side, ~on_side)  # (batch, cues): whether a cue is on the right
        count = right.sum(dim=-1)
        target = (2 * count > self.cues).long()
        last_three = (2 * right[:, -3:].sum(dim=-1) > min(3, self.cues)).long()
        conditions = {
            "surplus": (2 * count - self.cues).to(torch.float32),
            "last_cue_accuracy": (right[:, -1].long() == target).to(torch.float32),
            "last_three_accuracy": (last_three == target).to(torch.float32),
        }
        make = partial(self._spikes, right=right, seed=seeds[_SPIKES], samples=samples)
        return Batch(Stream(make, self.steps, (len(samples), self.input_size)), target, conditions)

    def _spikes(self, start: int, stop: int, *, right: Tensor, seed: int, samples: Tensor) -> LazySpikes:
        probabilities = torch.tensor([self.rate, self.noise], device=samples.device) * self.dt
        step = torch.arange(start, stop, device=samples.device)
        interval = (step // self.interval_steps).clamp(max=self.cues - 1)
        is_cue = (step % self.interval_steps < self.cue_steps) & (step < self.cues * self.interval_steps)
        side = right[:, interval].t()  # (time, batch)
        is_recall = (step >= self.recall_from)[:, None].expand_as(side)
        is_active = torch.stack([~side & is_cue[:, None], side & is_cue[:, None], is_recall], dim=-1)
        per_population = torch.where(is_active, probabilities[0], 0.0)
        per_population = torch.cat([per_population, probabilities[1].expand(*side.shape, 1)], dim=-1)
        limits = limit_of(per_population.repeat_interleave(self.neurons_per_channel, dim=-1))
        return LazySpikes(limits, seed, range(start, stop), samples, torch.float32)
