"""Random smooth manifolds: one class for each manifold, and one spike per channel, whose time is a coordinate."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from tracetorch import backends
from tracetorch import device as devices
from tracetorch.encode import Stream, mix_seed
from tracetorch.tasks.task import Batch, DrawnTask, Trials, at_least, slices, split_seeds, whole_at_least

_POINTS = 1000  # of each manifold, which give its extent, and the neighbours of a trial
_MOST_TERMS = 1 << 21  # rows × channels × dimensions × frequencies that are summed at once


class Manifolds(DrawnTask):
    """Which of several random manifolds does a point lie on? Only the times of spikes say so, not their number.

    A class is a smooth random map from [0, 1]^dimension to [0, 1]^channels, and a trial is a random point of its image,
    y. Channel i fires once, at y_i × duration. Each y_i is scaled to [0, 1] from

        Π_j Σ_k a_ijk / (1 + (k + 1)^α) · sin(2π·(k·b_ijk·x_j + c_ijk)),    k = 1, 2, … below 1000^(1/α) and 1,000
        symbols: intrinsic coordinate x_j in [0, 1]; a, b, c drawn from [0, 1) for each class and channel

    Args:
        classes: number of manifolds.
        channels: number of input neurons.
        dimension: of a manifold.
        alpha: smoothness α, above 0, at most 100: the larger, the smoother.
        duration: time in which all channels fire, seconds.
        readout: time after it, when the answer is read, seconds.
        dt: length of a step, seconds.
        batch_size, validation_trials, test_trials: numbers of trials.
        seed: of manifolds and trials; held-out trials are other points of the same manifolds.
    Raises: ValueError for invalid values, TypeError for a count that is not a whole number.
    Source: Zenke, Vogels (2021), The remarkable robustness of surrogate gradient learning for instilling complex
        function in spiking neural networks, doi:10.1162/neco_a_01367, and its code (randman). There, coordinates are
        scaled by the extremes of the data; here, by those of 1,000 other points, and limited to [0, 1].
    """

    eval_batch_size = 250
    dt: float
    readout_window: int

    def __init__(
        self,
        *,
        classes: int = 10,
        channels: int = 20,
        dimension: int = 1,
        alpha: float = 2.0,
        duration: float = 0.1,
        readout: float = 0.02,
        dt: float = 0.001,
        batch_size: int = 64,
        validation_trials: int = 500,
        test_trials: int = 2000,
        seed: int = 0,
    ):
        whole_at_least(2, classes=classes)
        whole_at_least(1, channels=channels, dimension=dimension, batch_size=batch_size, test_trials=test_trials)
        whole_at_least(0, validation_trials=validation_trials)
        if not 0 < alpha <= 100:
            raise ValueError(f"alpha must be above 0 and at most 100, got {alpha:g}")
        if not 0 < dt < float("inf"):
            raise ValueError(f"dt must be above 0 and finite, got {dt:g} s")
        at_least(dt, duration=duration, readout=readout)
        self.channels, self.dimension, self.dt, self.batch_size, self.seed = channels, dimension, dt, batch_size, seed
        self.trials = {"validation": validation_trials, "test": test_trials}
        self.input_size, self.output_size = channels, classes
        self.spike_steps, self.readout_window = round(duration / dt), max(1, round(readout / dt))
        self.steps = self.spike_steps + self.readout_window
        highest = max(1, min(1000, math.ceil(1000 ** (1 / max(alpha, 1)))) - 1)
        numbers, columns = torch.arange(classes * channels), 3 * dimension * highest
        drawn = backends.uniform(mix_seed(seed, 3), range(1), numbers, columns)[0].double()
        self._terms = drawn.view(classes, channels, dimension, 3, highest)
        self._frequency = torch.arange(1, highest + 1, dtype=torch.float64)
        amplitude = 1 / (1 + (self._frequency + 1) ** alpha)
        self._amplitude = amplitude / amplitude.max()  # a factor has no effect, and small products would underflow
        points = backends.uniform(mix_seed(seed, 4), range(1), torch.arange(_POINTS), dimension)[0]
        raw = [self._raw(slice(number, number + 1), points) for number in range(classes)]
        self._low, self._high = torch.stack([torch.stack(y.aminmax(dim=0)) for y in raw], dim=1)
        if bool((self._low == self._high).any()):
            raise ValueError(f"with alpha={alpha:g} and dimension={dimension} a manifold is a single point")
        labels = torch.arange(classes).repeat_interleave(_POINTS)
        self._known = self._spike_times(labels, points.repeat(classes, 1))

    def summary(self, trials: Trials) -> dict[str, float]:
        """Return the accuracy of the class with the most similar spike times among 1,000 points of each manifold."""
        positions = torch.stack([trials[f"position_{number + 1}"] for number in range(self.dimension)], dim=-1)
        correct, target, known = 0, trials["target"].cpu(), self._known.double()
        for part in slices(len(target), self.eval_batch_size):
            times = self._spike_times(target[part], positions[part].cpu()).double()
            correct += int((torch.cdist(times, known).argmin(dim=-1) // _POINTS == target[part]).sum())
        return {"nearest_accuracy": correct / len(target)}

    def example(self, trial: int = 0) -> tuple[Batch, dict[str, tuple[float, float]]]:
        batch, _ = super().example(trial)
        return batch, {"spikes": (0, self.spike_steps), "readout": (self.spike_steps, self.steps)}

    def make(self, split: str, samples: Tensor) -> Batch:
        drawn = backends.uniform(split_seeds(self.seed, split, 1)[0], range(1), samples, 1 + self.dimension)[0]
        target = (drawn[:, 0] * self.output_size).long().clamp(max=self.output_size - 1)
        when = self._spike_times(target, drawn[:, 1:])
        conditions = {f"position_{number + 1}": drawn[:, 1 + number].clone() for number in range(self.dimension)}
        return Batch(Stream(partial(_spikes, when), self.steps, tuple(when.shape)), target, conditions)

    def _spike_times(self, label: Tensor, position: Tensor) -> Tensor:
        """Return the step of each channel's spike, (batch, channels). Args: position: (batch, dimension)."""
        y = self._raw(label, position)
        low, high = (value.to(y)[label] for value in (self._low, self._high))
        return torch.round(((y - low) / (high - low)).clamp(0, 1) * (self.spike_steps - 1)).long()

    def _raw(self, label: Tensor | slice, position: Tensor) -> Tensor:
        """Return the coordinates before they are scaled, (batch, channels). Args: label: of each row, or of all."""
        x = position.to(devices.widest_float(position.device))
        total = x.new_zeros(len(x), self.channels, self.dimension)
        for part in slices(len(self._frequency), max(1, _MOST_TERMS // max(1, total.numel()))):
            frequency, amplitude = self._frequency[part].to(x), self._amplitude[part].to(x)
            a, b, c = self._terms[..., part].to(x)[label].unbind(dim=-2)
            total += (a * amplitude * torch.sin(2 * math.pi * (frequency * b * x[:, None, :, None] + c))).sum(dim=-1)
        return total.prod(dim=-1)


def _spikes(when: Tensor, start: int, stop: int) -> Tensor:
    return (when == torch.arange(start, stop, device=when.device)[:, None, None]).to(torch.float32)
