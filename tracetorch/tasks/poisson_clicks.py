"""The Poisson clicks task: which of two trains of clicks had the higher rate?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from tracetorch import backends
from tracetorch.encode import Stream
from tracetorch.tasks.samplers import SampleSpace, UniformSampler
from tracetorch.tasks.task import (
    Batch,
    DrawnTask,
    Figures,
    Trials,
    at_least,
    choices,
    slices,
    split_seeds,
    whole_at_least,
)

_TABLE_ELEMENTS = 1 << 22  # of one block of the tables below: 32 MiB


def choose_right(right: Tensor, left: Tensor, steps: Tensor) -> Tensor:
    """Return the probability of more clicks on the right than on the left; a tie counts one half.

        P(R > L) + P(R = L)/2,    R ~ Binomial(steps, right),  L ~ Binomial(steps, left)

    Args:
        right, left: probability of a click in a step, in [0, 1), float64, any shape.
        steps: number of steps, whole numbers as float64, the same shape.
    Returns: probability, the same shape.
    """
    return _for_each_trial(right, left, steps, lambda r, l: (r * (l.cumsum(dim=-1) - l / 2)).sum(dim=-1))  # noqa: E741


def tie(right: Tensor, left: Tensor, steps: Tensor) -> Tensor:
    """Return the probability of equally many clicks on both sides. Args, Returns: as `choose_right`."""
    return _for_each_trial(right, left, steps, lambda r, l: (r * l).sum(dim=-1))  # noqa: E741


def _for_each_trial(right: Tensor, left: Tensor, steps: Tensor, statistic) -> Tensor:  # type: ignore[no-untyped-def]
    """Return a statistic of the distributions of clicks on the right and on the left, for each trial."""
    size = int(steps.max()) + 1
    trials = torch.stack([right, left, steps], dim=-1).reshape(-1, 3)
    distinct, index = torch.unique(trials, dim=0, return_inverse=True)  # far fewer than trials
    blocks = (block.unbind(dim=-1) for block in distinct.split(max(1, _TABLE_ELEMENTS // size)))
    results = [statistic(_binomial(r, n, size), _binomial(l, n, size)) for r, l, n in blocks]  # noqa: E741
    return torch.cat(results)[index].reshape(right.shape)


def _binomial(probability: Tensor, steps: Tensor, size: int) -> Tensor:
    """Return the probabilities of 0 … size − 1 clicks in the given number of steps, (trials, size)."""
    k = torch.arange(size, dtype=torch.float64, device=steps.device)
    n, p = steps[:, None], probability[:, None]
    log_coefficient = torch.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma((n - k).clamp(min=0) + 1)
    log_powers = torch.xlogy(k, p) + torch.xlogy((n - k).clamp(min=0), 1 - p)
    return torch.where(k <= n, torch.exp(log_coefficient + log_powers), 0.0)


_CONDITIONS, _CLICKS, _NOISE, _CUE = range(4)  # purposes of seeds
_COUNTED_STEPS = 1024  # steps counted at a time, so that memory does not grow with a trial's length


class PoissonClicks(DrawnTask):
    """Two trains of clicks, left and right; then a delay, and a cue that asks for the side with more clicks.

        λ_right / λ_left = exp(γ),    λ_right + λ_left = total_rate,    γ of either sign with equal chance

    The cue comes at the same time in all trials, and the stimulus ends one delay before the cue: stimuli of different
    durations and equal delays end together. In each step of `dt`, each side has at most one click, with probability
    λ·dt. Every click makes all neurons of its side fire.

    Args:
        gamma: |γ|, difficulty: a list to draw from, or a range such as "0.1..3". Smaller is harder.
        duration: of the stimulus, seconds: a list or a range.
        label: "side" asks for the side with the higher *rate* (generative: no observer is always right), "count" for
            the side with more *clicks* (a tie goes to the side with the higher rate).
        total_rate: λ_left + λ_right, Hz.
        stereo_click: whether both sides click in the first step, which marks the beginning of the stimulus.
        delay: silence between stimulus and cue, seconds: a number, a list to draw from, or a range such as "1..100".
        cue: length of the cue and of the window in which the answer is read, seconds.
        cue_rate: firing rate of each cue neuron during the cue, Hz.
        neurons_per_channel: input neurons for left, for right and for the cue.
        noise: rate of additional, independent spikes of each left and right neuron during the whole trial, Hz.
        dt: length of a step, seconds.
        batch_size, validation_trials, test_trials: numbers of trials.
        seed: of all trials; held-out trials are drawn separately.
    Raises: ValueError for invalid values, TypeError for a count that is not a whole number.
    Source: Brunton, Botvinick and Brody (2013), Rats and humans can optimally accumulate evidence for decision-making,
        doi:10.1126/science.1233912.
    """

    output_size = 2
    eval_batch_size = 500
    output_names = ("left", "right")
    dt: float
    readout_window: int

    def __init__(
        self,
        *,
        gamma: SampleSpace = (0.25, 0.5, 1.0, 2.0, 3.0),
        duration: SampleSpace = "0.1..1.2",
        label: str = "side",
        total_rate: float = 40.0,
        stereo_click: bool = False,
        delay: float | SampleSpace = 0.4,
        cue: float = 0.1,
        cue_rate: float = 40.0,
        neurons_per_channel: int = 10,
        noise: float = 0.0,
        dt: float = 0.01,
        batch_size: int = 64,
        validation_trials: int = 1000,
        test_trials: int = 5000,
        seed: int = 0,
    ):
        at_least(0, total_rate=total_rate, cue_rate=cue_rate, noise=noise)
        at_least(0, **({} if isinstance(delay, Sequence) else {"delay": delay}), cue=cue)
        whole_at_least(1, neurons_per_channel=neurons_per_channel, batch_size=batch_size, test_trials=test_trials)
        whole_at_least(0, validation_trials=validation_trials)
        if not dt > 0 or max(total_rate, cue_rate, noise) * dt > 1:
            raise ValueError(f"dt must be above 0 and short enough for at most one click in a step, got {dt:g} s")
        self.gamma = UniformSampler("gamma", gamma, 0.0)
        self.duration = UniformSampler("duration", duration, dt)
        self.delay = UniformSampler("delay", delay, 0.0, offers_number=True)
        self.label = choices("label", label, ("side", "count"))
        self.total_rate, self.stereo_click, self.cue_rate, self.noise = total_rate, stereo_click, cue_rate, noise
        self.neurons_per_channel, self.dt, self.batch_size, self.seed = neurons_per_channel, dt, batch_size, seed
        self.trials = {"validation": validation_trials, "test": test_trials}
        self.input_size = 3 * neurons_per_channel
        self.stimulus_steps = round(self.duration.high / dt)
        self.delay_steps, self.readout_window = round(self.delay.high / dt), max(1, round(cue / dt))
        self.cue_from = self.stimulus_steps + self.delay_steps
        self.silent_from = self.cue_from - round(self.delay.low / dt)  # all stimuli have ended by then
        self.steps = self.cue_from + self.readout_window

    def summary(self, trials: Trials) -> dict[str, float]:
        """Return the ideal observer's accuracy in these conditions, and the network's accuracy as a fraction of it."""
        ideal = float(self._ideal_accuracy_of(trials).mean())
        return {"ideal_accuracy": ideal, "of_ideal": float(trials["accuracy"].double().mean()) / ideal}

    def ideal_accuracy(self, gamma: Tensor, duration: Tensor) -> Tensor:
        """Return the accuracy of the ideal observer of the clicks, for each |γ| and duration (seconds).

        The observer chooses the side with more clicks (at random in a tie), which is optimal because the log-likelihood
        ratio is proportional to the difference. With `noise`, simultaneous spikes of all neurons of a side count as a
        click. For the label "count", the observer receives the clicks without noise, so the result is an upper bound.

        Args: gamma, duration: broadcast against each other.
        Returns: probability, 1/2 to 1, float64.
        """
        gamma, duration = torch.broadcast_tensors(gamma.double().abs(), duration.double())
        if self.label == "count":
            return 1 - tie(*self._click_probabilities(gamma, duration, noisy=False)) / 2
        return choose_right(*self._click_probabilities(gamma, duration))

    def figures(self, trials: Trials) -> Figures:
        """Draw the psychometric curve, and accuracy against γ × duration and delay, for network and ideal observer."""
        from tracetorch import plot

        gamma, duration = trials["gamma"], trials["duration"]
        curve = torch.linspace(-1, 1, 61, dtype=torch.float64) * float(gamma.abs().max())
        durations, count = torch.unique(duration.double(), return_counts=True)
        right = choose_right(*self._click_probabilities(*torch.broadcast_tensors(curve[:, None], durations)))
        ideal = (right * count).sum(dim=-1) / count.sum()
        correct, best = trials["accuracy"] > 0, self._ideal_accuracy_of(trials)
        figures = {
            "psychometric": plot.psychometric(gamma, trials["prediction"] == 1, ideal=(curve, ideal)),
            "accuracy_map": plot.accuracy_map(correct, gamma.abs(), duration, ideal=best),
        }
        if self.delay.low < self.delay.high:
            figures["delay"] = plot.accuracy_curve(trials["delay"], correct, ideal=best, xlabel="delay (s)")
        return figures

    def example(self, trial: int = 0) -> tuple[Batch, dict[str, tuple[float, float]]]:
        batch, _ = super().example(trial)
        stimulus, delay = (round(float(batch.conditions[name]) / self.dt) for name in ("duration", "delay"))
        end = self.cue_from - delay
        marks = {"clicks": (end - stimulus, end), "delay": (end, self.cue_from), "cue": (self.cue_from, self.steps)}
        return batch, {name: (start, stop) for name, (start, stop) in marks.items() if start < stop}

    def _ideal_accuracy_of(self, trials: Trials) -> Tensor:
        return self.ideal_accuracy(trials["gamma"], trials["duration"])

    def make(self, split: str, samples: Tensor) -> Batch:
        seeds = split_seeds(self.seed, split, 4)
        drawn = backends.uniform(seeds[_CONDITIONS], range(1), samples, 4)[0]
        of_gamma, of_duration, of_side, of_delay = drawn.unbind(dim=-1)
        is_right = of_side >= 0.5  # the side with the higher rate; the correct side also if γ = 0
        gamma = self.gamma.at(of_gamma) * torch.where(is_right, 1.0, -1.0)
        stimulus = torch.round(self.duration.at(of_duration) / self.dt).clamp(min=1)  # in steps, as is `delay`
        rates = self.total_rate * torch.sigmoid(torch.stack([-gamma, gamma], dim=-1))
        delay = torch.round(self.delay.at(of_delay) / self.dt).clamp(self.cue_from - self.silent_from, self.delay_steps)
        end = self.cue_from - delay
        onset = end - stimulus

        clicks: Callable[[int, int], Tensor]
        clicks = partial(self._clicks, rates=rates, onset=onset, end=end, seed=seeds[_CLICKS], samples=samples)
        if self.silent_from <= _COUNTED_STEPS:  # few enough to store: drawn once
            clicks = partial(_part, clicks(0, self.silent_from))
        counts = torch.zeros(len(samples), 2, dtype=torch.int64, device=samples.device)
        for part in slices(self.silent_from, _COUNTED_STEPS):
            counts += clicks(part.start, part.stop).sum(dim=0)
        left, right = counts.unbind(dim=-1)
        target = is_right.long()
        if self.label == "count":
            target = torch.where(left == right, target, (right > left).long())
        conditions = {"gamma": gamma, "duration": stimulus * self.dt, "delay": delay * self.dt}
        conditions |= {"clicks_left": left, "clicks_right": right}
        make = partial(self._spikes, clicks=clicks, seeds=seeds, samples=samples)
        return Batch(Stream(make, self.steps, (len(samples), self.input_size)), target, conditions)

    def _clicks(
        self, start: int, stop: int, *, rates: Tensor, onset: Tensor, end: Tensor, seed: int, samples: Tensor
    ) -> Tensor:
        step = torch.arange(start, stop, device=samples.device)[:, None]
        is_on = ((step >= onset) & (step < end))[..., None]
        clicks = backends.bernoulli(rates * self.dt, seed, range(start, stop), samples) & is_on
        return clicks | (step == onset)[..., None] if self.stereo_click else clicks

    def _spikes(
        self, start: int, stop: int, *, clicks: Callable[[int, int], Tensor], seeds: tuple[int, ...], samples: Tensor
    ) -> Tensor:
        neurons, batch = self.neurons_per_channel, len(samples)
        spikes = torch.zeros(stop - start, batch, self.input_size, device=samples.device)
        sides, cue = spikes.split([2 * neurons, neurons], dim=-1)
        if start < self.silent_from or stop > self.cue_from:
            sides.unflatten(-1, (2, neurons))[:] = clicks(start, stop)[..., None]
        if self.noise:
            probabilities = torch.full((batch, 2 * neurons), self.noise * self.dt, device=samples.device)
            sides.masked_fill_(backends.bernoulli(probabilities, seeds[_NOISE], range(start, stop), samples), 1.0)
        first = max(start, self.cue_from)
        if first < stop:
            probabilities = torch.full((batch, neurons), self.cue_rate * self.dt, device=samples.device)
            cue[first - start :] = backends.bernoulli(probabilities, seeds[_CUE], range(first, stop), samples)
        return spikes

    def _click_probabilities(
        self, gamma: Tensor, duration: Tensor, noisy: bool = True
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the probability of a click in a step, right and left, and the number of informative steps."""
        right, left = (self.total_rate * self.dt * torch.sigmoid(side) for side in (gamma, -gamma))
        if noisy:  # noise that makes all neurons of a side fire at once looks like a click
            false_click = (self.noise * self.dt) ** self.neurons_per_channel
            right, left = (p + (1 - p) * false_click for p in (right, left))
        return right, left, torch.round(duration / self.dt) - float(self.stereo_click)


def _part(clicks: Tensor, start: int, stop: int) -> Tensor:
    """Return the steps from `start` to `stop`, with silence after the end of `clicks`."""
    part = clicks[start:stop]
    silent = stop - start - len(part)
    return torch.cat([part, part.new_zeros(silent, *part.shape[1:])]) if silent else part
