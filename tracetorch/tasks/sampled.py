"""Tasks with a fixed set of samples: labels or values to predict, for a whole sample or at each of its steps."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from tracetorch import encode
from tracetorch.data.samples import Array, Events, Samples
from tracetorch.data.scale import Scale, fit
from tracetorch.data.split import held_out
from tracetorch.data.target import At, Kind, Target, as_target, counts
from tracetorch.encode import ENCODERS, Stream, level_crossing, mix_seed, poisson
from tracetorch.modes import check_number
from tracetorch.tasks.task import (
    Batch,
    CountedBatch,
    Figures,
    Task,
    Trials,
    at_least,
    check_split,
    choices,
    slices,
    whole_at_least,
)

Encoding = Literal["auto", "current", "poisson", "latency", "delta", "events"]
Normalize = Literal["auto", "none", "standard", "range"]

_ORDER, _SPIKES, _AUGMENT, _SPLIT = 3, 0, 5, 6  # purposes of the seeds
_MOST_NAMED_CLASSES, _MOST_NAMED_VALUES = 32, 8
_DEFAULT_STEPS = 20
_MOST_STEPS = 10_000_000  # of a sample of events


class Statistics(NamedTuple):
    """What the metrics of a split need to be means over its samples."""

    class_weight: Tensor  # (classes,): makes the mean of the weighted hits the mean of the classes' accuracies
    variance: Tensor  # (values,), of the target
    steps: float  # with a target, of a sample on average; 1 if the target is one for each sample


class SampledTask(Task):
    """Predict the target of each sample. Training samples come in a new order in every pass.

    Samples of different lengths begin at different steps of a batch and end together; steps before the first one of a
    sample have no input, and their outputs do not count.

    Args:
        samples: inputs and targets.
        kind, at: what the targets are; see `tracetorch.data.target.as_target`.
        skip: for targets at steps, the steps at the beginning of each sample whose targets do not count, because the
            network cannot know what was before.
        encoding: how values become input. "current": as they are. "poisson": their value as spikes per step. "latency":
            one spike for each channel, for samples without steps. "delta": a spike when a channel has risen, or fallen,
            by `level` (level crossing), in two inputs for each channel. "events": the number of events in each step.
            "auto": current for values, events for events.
        steps: time steps for which a sample without steps is shown (None: 20); for others, None.
        steps_per_frame: time steps for each step of the samples.
        dt: length of a time step in seconds: bins events; for others it only labels figures. None: as in the data; for
            events, 1, 2 or 5 times a power of ten, so that the longest sample has 50 to 100 steps.
        max_rate: factor of all inputs, at most 1 spike per step for poisson.
        population: inputs for each channel, with Gaussian receptive fields over its range (see `encode.population`);
            1: the value itself.
        level: for delta, the change that gives a spike, in units of the normalized input.
        normalize: of each channel, learned from training samples. "standard": mean 0, deviation 1; "range": 0 to 1;
            "none". "auto": range for poisson, latency and populations, standard for the others; none for inputs with a
            scale, such as brightness, and for events.
        test, validation: samples that are held out, as bool (samples,), or as `tracetorch.data.split.held_out` takes
            them.
        in_order: whether a fraction holds out the last samples instead of drawn ones.
        augment_steps, augment_channels: largest shifts of a training sample, in time steps and in channels, drawn again
            in each pass; what is shifted in is 0.
        noise: standard deviation of Gaussian noise that is added to training inputs, for current.
        batch_size: samples in a training batch.
        seed: of splits, order, spikes and augmentation.
    Raises: ValueError for data or values that do not fit, TypeError for a count that is not a whole number.
    """

    batches_per_pass: int

    def __init__(
        self,
        samples: Samples,
        *,
        kind: Kind = "auto",
        at: At = "auto",
        skip: int = 0,
        encoding: Encoding = "auto",
        steps: int | None = None,
        steps_per_frame: int = 1,
        dt: float | None = None,
        max_rate: float = 1.0,
        population: int = 1,
        level: float = 0.5,
        normalize: Normalize = "auto",
        test: float | str | Array = 0.2,
        validation: float | str | Array = 0.1,
        in_order: bool = False,
        augment_steps: int = 0,
        augment_channels: int = 0,
        noise: float = 0.0,
        batch_size: int = 64,
        seed: int = 0,
    ):
        whole_at_least(1, batch_size=batch_size, steps_per_frame=steps_per_frame, population=population)
        whole_at_least(0, augment_steps=augment_steps, augment_channels=augment_channels)
        at_least(0, noise=noise)
        check_number(max_rate, "max_rate")
        self.samples, self.seed = samples, seed
        choices("kind", kind, ("auto", "label", "values"))
        self.target = as_target(samples, kind, choices("at", at, ("auto", "end", "steps")))  # type: ignore[arg-type]
        whole_at_least(0, skip=skip)
        if skip and self.target.counted is not None:
            counted = [given & (np.arange(len(given)) >= skip) for given in self.target.counted]
            self.target = self.target._replace(counted=counted)
        elif skip:
            raise ValueError(
                f"task.skip={skip} is for targets at each step, and {samples.source} has one for each sample"
            )
        self.encoding = _encoding(samples, encoding)
        self.augment_steps, self.augment_channels, self.noise = augment_steps, augment_channels, noise
        self.max_rate, self.level, self.steps_per_frame = max_rate, level, steps_per_frame
        self.dt = dt if dt is not None else samples.dt
        self.is_dt_chosen = self.dt is None and self.encoding == "events"
        if self.is_dt_chosen:
            self.dt = _step_length(samples.inputs)
        self._in_order = in_order
        self.is_steady = isinstance(samples.inputs[0], np.ndarray) and samples.inputs[0].ndim == 1
        self._lengths = self._count_steps(steps)
        self.steps = int(self._lengths.max())
        if population > 1 and self.encoding in ("delta", "events"):
            raise ValueError(f"task.population={population} does not go with task.encoding={self.encoding}; give 1")
        self.population = population
        self.input_size = samples.channels * (2 if self.encoding == "delta" else population)
        self.output_size, self.output_names = self.target.size, self.target.classes or None
        self._split(test, validation)
        self.batch_size = min(batch_size, len(self.splits["train"]))
        self.batches_per_pass = max(1, len(self.splits["train"]) // self.batch_size)
        self.metrics = ("accuracy", "balanced_accuracy") if self.target.is_label else ("r2", "mse")
        method = _method(samples, self.encoding, normalize, population)
        self.scale = fit(method, (samples.inputs[int(n)] for n in self.splits["train"]), samples.channels)
        self.target_scale = fit(
            "none" if self.target.is_label else "standard", self._training_values(), self.target.size
        )
        self._statistics = {name: _statistics(self.target, chosen) for name, chosen in self.splits.items()}
        self._order: tuple[int, Array] | None = None

    def to(self, device: torch.device) -> Self:
        self._statistics = {
            name: Statistics(each.class_weight.to(device), each.variance.to(device), each.steps)
            for name, each in self._statistics.items()
        }
        return super().to(device)

    # ── batches ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def train_batch(self, number: int) -> Batch:
        epoch, index = divmod(number, self.batches_per_pass)
        if self._order is None or self._order[0] != epoch:
            random = np.random.default_rng(mix_seed(self.seed, _ORDER, epoch))
            self._order = epoch, random.permutation(self.splits["train"])
        chosen = self._order[1][index * self.batch_size : (index + 1) * self.batch_size]
        augment = np.random.default_rng(mix_seed(self.seed, _AUGMENT, number))
        return self._batch(chosen, mix_seed(self.seed, _SPIKES, epoch), augment)

    def eval_batches(self, split: str) -> Iterator[Batch]:
        check_split(split)
        size = max(1, min(500, (1 << 24) // (self.steps * self.input_size)))
        for part in slices(len(self.splits[split]), size):
            yield self._batch(self.splits[split][part], mix_seed(self.seed, 1 + (split == "test")))

    def _batch(self, chosen: Array, seed: int, augment: np.random.Generator | None = None) -> Batch:
        lengths = self._lengths[chosen]
        total = int(lengths.max())
        numbers = torch.from_numpy(chosen.copy()).to(self.device)
        begins = total - torch.from_numpy(lengths).to(self.device)
        counted = torch.arange(total, device=self.device)[:, None] >= begins  # (time, batch)
        xs = self._stream(chosen, total, seed, numbers, augment)
        if not self.target.at_steps:
            target = torch.from_numpy(self._scaled_target(np.stack([self.target.values[n] for n in chosen])))
            target = target.to(self.device)
            if not bool((begins > 0).any()):
                return Batch(xs, target, {"sample": numbers})
            return CountedBatch(xs, target, {"sample": numbers}, counted)
        shape = () if self.target.is_label else (self.target.size,)
        like = self.target.values[0]
        values = np.zeros((total, len(chosen), *shape), dtype=like.dtype)
        given = np.zeros((total, len(chosen)), dtype=bool)
        assert self.target.counted is not None
        for row, n in enumerate(chosen):
            repeat = self.steps_per_frame
            values[total - lengths[row] :, row] = self.target.values[n].repeat(repeat, axis=0)
            given[total - lengths[row] :, row] = self.target.counted[n].repeat(repeat)
        at_steps = torch.from_numpy(self._scaled_target(values)).to(self.device)
        counted = torch.from_numpy(given).to(self.device)
        return CountedBatch(xs, at_steps, {"sample": numbers}, counted, at_steps=True)

    def _stream(
        self, chosen: Array, total: int, seed: int, numbers: Tensor, augment: np.random.Generator | None
    ) -> Stream:
        """Return the input of these samples, (total, batch, input_size), aligned at its end."""
        if self.encoding == "events":
            return self._events(chosen, total, augment)
        scaled = [self.scale(self.samples.inputs[n]) for n in chosen]
        if self.population > 1:
            scaled = [encode.population(torch.from_numpy(each), self.population, 0, 1).numpy() for each in scaled]
        if self.is_steady:
            values = self._augmented(torch.from_numpy(np.stack(scaled))[None], augment)[0].to(self.device)
            name = "constant" if self.encoding == "current" else self.encoding
            return ENCODERS[name](values * self.max_rate, total, seed=seed, samples=numbers)
        frames = total // self.steps_per_frame
        joined = np.zeros((frames, len(scaled), scaled[0].shape[-1]), dtype=np.float32)
        for row, sample in enumerate(scaled):
            joined[frames - len(sample) :, row] = sample
        values = self._augmented(torch.from_numpy(joined), augment).to(self.device)
        if self.encoding == "delta":
            values = level_crossing(values, self.level)
        if self.steps_per_frame > 1:
            values = values.repeat_interleave(self.steps_per_frame, dim=0)
        if self.encoding == "poisson":
            return poisson((values * self.max_rate).clamp(0, 1), total, seed=seed, samples=numbers)
        values = values if self.max_rate == 1 else values * self.max_rate
        return Stream(partial(_steps_of, values), total, tuple(values.shape[1:]))

    def _events(self, chosen: Array, total: int, augment: np.random.Generator | None) -> Stream:
        """Return the numbers of events in each step. Memory: one whole number for each event, and a chunk."""
        assert self.dt is not None
        shifts = np.zeros((2, len(chosen)), dtype=np.int64)
        if augment is not None:
            for row, most in enumerate((self.augment_steps, self.augment_channels)):
                shifts[row] = augment.integers(-most, most + 1, len(chosen))
        samples = list[_Sparse]()
        for at, n in enumerate(chosen):
            events = self.samples.inputs[n]
            step = _bins(events.times, self.dt) + (total - self._lengths[n] + shifts[0, at])
            samples.append(_Sparse(step.astype(np.int32), events.channels, int(shifts[1, at])))
        shape, weight = (len(chosen), self.input_size), torch.tensor(self.max_rate, device=self.device)
        return Stream(partial(_events_of, samples, weight, shape), total, shape)

    def _augmented(self, values: Tensor, augment: np.random.Generator | None) -> Tensor:
        """Return training inputs, (time, batch, channels), shifted and with noise."""
        if augment is None:
            return values
        if self.augment_steps and len(values) > 1:
            values = _shifted(values, augment.integers(-self.augment_steps, self.augment_steps + 1, values.shape[1]), 0)
        if self.augment_channels:
            most = self.augment_channels
            values = _shifted(values, augment.integers(-most, most + 1, values.shape[1]), 2)
        if self.noise:
            values = values + self.noise * torch.from_numpy(augment.standard_normal(values.shape, dtype=np.float32))
        return values

    def description(self) -> str:
        """Return what the data are, in a sentence: samples, steps, channels, targets, splits."""
        shortest, longest = int(self._lengths.min()), int(self._lengths.max())
        steps = f"{longest:,}" if shortest == longest else f"{shortest:,} to {longest:,}"
        names = self.target.classes
        values = f"{self.target.size} value{'s' * (self.target.size > 1)}"
        what = f"{len(names)} classes ({', '.join(names[:3])}{', …' * (len(names) > 3)})" if names else values
        splits = ", ".join(f"{len(chosen):,} {name}" for name, chosen in self.splits.items())
        channels = self.samples.channels
        return (
            f"{len(self.samples):,} samples of {steps} steps, {channels:,} channel{'s' * (channels > 1)}; "
            f"{what}{' at each step' if self.target.at_steps else ''}; {splits}"
        )

    # ── results ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def score(self, output: Tensor, batch: Batch) -> Trials:
        """Return accuracy and balanced accuracy of labels, or R² and the mean squared error of values.

        The mean of a column over all samples of a split is this metric of the split.
        """
        of_split = self._statistics[self._split_of_batch(batch)]
        found = dict(batch.conditions)
        if self.target.is_label:
            prediction = output.argmax(dim=-1)
            hit = (prediction == batch.target).to(torch.float32)
            weight = of_split.class_weight
            if not self.target.at_steps and self._split_of_batch(batch) == "train":  # a batch has other shares
                weight = _class_weight(torch.bincount(batch.target, minlength=self.target.size).double())
            columns = {"accuracy": hit, "balanced_accuracy": hit.double() * weight[batch.target]}
            named = {"target": batch.target, "prediction": prediction}
        else:
            output, target = self.in_units(output), self.in_units(batch.target)
            error = (output - target).square()
            share = 1 / of_split.steps  # of the sum over the steps of a sample
            columns = {"r2": share - (error / of_split.variance).mean(dim=-1), "mse": error.mean(dim=-1)}
            few = range(min(self.target.size, _MOST_NAMED_VALUES))
            named = {f"target_{at}": target[..., at] for at in few}
            named |= {f"prediction_{at}": output[..., at] for at in few}
        if not self.target.at_steps:
            return found | named | columns
        return found | {name: self._over_steps(name, value, batch, of_split) for name, value in columns.items()}

    def _split_of_batch(self, batch: Batch) -> str:
        return self._split_of[int(batch.conditions["sample"][0])]

    def _over_steps(self, name: str, value: Tensor, batch: Batch, of_split: Statistics) -> Tensor:
        """Return a number for each sample, whose mean over a split is the mean over all of its steps."""
        assert isinstance(batch, CountedBatch)
        if name == "r2":
            error = torch.where(batch.counted, 1 / of_split.steps - value, 0.0).sum(dim=0)
            return 1 - error / of_split.steps
        return torch.where(batch.counted, value, 0.0).sum(dim=0) / of_split.steps

    def score_steps(self, output: Tensor, batch: CountedBatch) -> Trials:
        """Return sample, step (from the start of the sample), target and prediction; of values, the first 8 of each."""
        row, time = batch.counted.T.nonzero(as_tuple=True)
        sample = batch.conditions["sample"][row]
        begins = len(output) - torch.from_numpy(self._lengths).to(sample.device)[sample]
        found = {"sample": sample, "step": time - begins}
        output, target = self.in_units(output[time, row]), self.in_units(batch.target[time, row])
        if self.target.is_label:
            return found | {"target": target, "prediction": output.argmax(dim=-1)}
        few = range(min(self.target.size, _MOST_NAMED_VALUES))
        return found | {f"target_{at}": target[:, at] for at in few} | {f"prediction_{at}": output[:, at] for at in few}

    def details(self, trials: Trials) -> dict[str, list[Any]]:
        """Return the name of each sample, such as its file, and its fields."""
        if "sample" not in trials:
            return {}
        chosen = trials["sample"].long().tolist()
        fields = {
            f"field_{name}" if name in (*trials, "name") else name: column[chosen].tolist()
            for name, column in self.samples.fields.items()
        }
        return {"name": [self.samples.names[n] for n in chosen]} | fields

    def summary(self, trials: Trials) -> dict[str, float]:
        """Return the accuracy of each class, for at most 32 classes."""
        classes = self.target.classes
        if "prediction" not in trials or len(classes) > _MOST_NAMED_CLASSES:
            return {}
        target, hit = trials["target"].long(), trials["accuracy"].double()
        total = torch.zeros(len(classes), dtype=torch.float64).index_add_(0, target, hit)
        number = torch.bincount(target, minlength=len(classes))
        return {
            f"accuracy_of_{name}": float(total[at] / number[at]) for at, name in enumerate(classes) if int(number[at])
        }

    def figures(self, trials: Trials) -> Figures:
        """Draw the confusion matrix of labels, or predictions against targets."""
        from tracetorch import plot

        if "prediction" in trials:
            target, prediction = trials["target"].long(), trials["prediction"].long()
            return {"confusion": plot.confusion(target, prediction, list(self.target.classes))}
        if "prediction_0" in trials:
            few = range(min(self.target.size, _MOST_NAMED_VALUES))
            pairs = [(trials[f"target_{at}"], trials[f"prediction_{at}"]) for at in few]
            return {"prediction": plot.prediction(pairs)}
        return {}

    def input_image(self) -> tuple[int, int] | None:
        return self.samples.image if self.input_size == self.samples.channels else None

    def state_dict(self) -> dict[str, Any]:
        """Return the scales of inputs and targets, which were learned from the training samples, and the classes."""
        return {
            "shift": torch.from_numpy(self.scale.shift),
            "factor": torch.from_numpy(self.scale.factor),
            "clips": self.scale.clips,
            "target_shift": torch.from_numpy(self.target_scale.shift),
            "target_factor": torch.from_numpy(self.target_scale.factor),
            "classes": list(self.target.classes),
        }

    def load_for_test(self, state: dict[str, Any]) -> None:
        """Use the scale of a trained network. Raises: ValueError if it had other channels or classes."""
        if len(state["shift"]) != self.samples.channels:
            got = f"{len(state['shift'])} channels, and these data {self.samples.channels}"
            raise ValueError(f"{self.samples.source}: the network was trained on {got}")
        if state["classes"] != list(self.target.classes):
            known, found = (", ".join(names[:12]) for names in (state["classes"], self.target.classes))
            raise ValueError(
                f"{self.samples.source}: the network was trained on the classes {known}, and these data hold {found}"
            )
        self.scale = Scale(state["shift"].numpy(), state["factor"].numpy(), bool(state["clips"]))
        self.target_scale = Scale(state["target_shift"].numpy(), state["target_factor"].numpy(), False)

    def _training_values(self) -> Iterator[Array]:
        """Yield the values to predict of the training samples."""
        for n in self.splits["train"] if not self.target.is_label else ():
            values = self.target.values[int(n)]
            yield values if self.target.counted is None else values[self.target.counted[int(n)]]

    def _scaled_target(self, target: Array) -> Array:
        """Values are standardized, so that networks and learning rates need not know their unit."""
        return target if self.target.is_label else self.target_scale(target)

    def in_units(self, values: Tensor) -> Tensor:
        """Return outputs or targets of the network, (…, size), in the units of the data."""
        if self.target.is_label:
            return values
        shift, factor = (torch.from_numpy(part).to(values) for part in self.target_scale[:2])
        return values / factor + shift

    # ── preparation ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _count_steps(self, steps: int | None) -> Array:
        """Return the number of time steps of each sample."""
        inputs, source = self.samples.inputs, self.samples.source
        if self.is_steady:
            whole_at_least(1, steps=_DEFAULT_STEPS if steps is None else steps)
            return np.full(len(inputs), steps or _DEFAULT_STEPS)
        if steps is not None:
            raise ValueError(
                f"task.steps={steps}: the samples of {source} have steps of their own; give task.steps=null"
            )
        if self.encoding == "events":
            assert self.dt is not None
            if not 0 < self.dt < np.inf:
                raise ValueError(f"task.dt={self.dt:g}: the length of a time step is above 0 seconds")
            lengths = np.array([_bins(events.times[-1:], self.dt).max(initial=0) + 1 for events in inputs])
            if lengths.max() > _MOST_STEPS:
                longest = self.samples.names[int(lengths.argmax())]
                raise ValueError(
                    f"task.dt={self.dt:g}: {longest} of {source} has {lengths.max():,} steps; more than "
                    f"{_MOST_STEPS:,} are not read. Give a larger dt, or task.max_time"
                )
            return lengths
        return np.array([len(sample) for sample in inputs]) * self.steps_per_frame

    def _split(self, test: float | str | Array, validation: float | str | Array) -> None:
        """Set `splits`: the sample numbers of each split."""
        free = np.ones(len(self.samples), dtype=bool)
        fields, source = self.samples.fields, self.samples.source
        seed = None if self._in_order else mix_seed(self.seed, _SPLIT)
        taken = list[Array]()
        for key, wanted in (("test", test), ("validation", validation)):
            if isinstance(wanted, np.ndarray):
                taken.append(wanted)
            else:
                taken.append(held_out(wanted, fields, free, seed=seed, key=f"task.{key}"))
            free &= ~taken[-1]
        tested, validated = taken
        self.splits = {
            "train": np.flatnonzero(free),
            "validation": np.flatnonzero(validated),
            "test": np.flatnonzero(tested),
        }
        if not tested.any():
            raise ValueError(f"task.test={test}: no sample is left to test on, of {len(free)} in {source}")
        self._split_of = {int(n): name for name, chosen in self.splits.items() for n in chosen}
        if self.target.is_label:
            seen = counts(self.target, self.splits["train"])
            for name in ("validation", "test"):
                there = counts(self.target, self.splits[name])
                if missing := [self.target.classes[at] for at in np.flatnonzero((there > 0) & (seen == 0))]:
                    raise ValueError(
                        f"{source}: the class {missing[0]} occurs in the {name} samples, and in none of the "
                        f"{len(self.splits['train']):,} training samples"
                    )


def _encoding(samples: Samples, encoding: str) -> str:
    """Return the encoding. Raises: ValueError if the data do not have what it needs."""
    choices("encoding", encoding, ("auto", "current", "poisson", "latency", "delta", "events"))
    first = samples.inputs[0]
    kind = "events" if isinstance(first, Events) else "steady" if first.ndim == 1 else "series"
    fitting = {
        "events": ("events",),
        "steady": ("current", "poisson", "latency"),
        "series": ("current", "poisson", "delta"),
    }[kind]
    if encoding == "auto":
        return fitting[0]
    if encoding not in fitting:
        held = {"events": "events", "steady": "samples without time steps", "series": "values at each time step"}[kind]
        raise ValueError(
            f"task.encoding={encoding}: {samples.source} holds {held}; choose {', '.join(fitting)} or auto"
        )
    return encoding


def _bins(times: Array, dt: float) -> Array:
    """Return the step of each time. A time within 1e-4 steps below a bound counts as on it: times are rounded."""
    return np.floor(times.astype(np.float64) / dt + 1e-4).astype(np.int64)


def _step_length(inputs: Any) -> float:
    """Return 1, 2 or 5 times a power of ten, in seconds, so that the longest sample has 50 to 100 steps."""
    longest = max((float(events.times[-1]) for events in inputs if len(events.times)), default=0.0)
    if longest <= 0:
        return 1e-3
    wanted = longest / 100
    power = 10.0 ** np.floor(np.log10(wanted))
    return float(f"{next(factor * power for factor in (1, 2, 5, 10) if factor * power >= wanted * (1 - 1e-9)):.1g}")


def _method(samples: Samples, encoding: str, normalize: str, population: int) -> Any:
    choices("normalize", normalize, ("auto", "none", "standard", "range"))
    if encoding == "events":
        if normalize not in ("auto", "none"):
            raise ValueError(f"task.normalize={normalize}: events have no values to normalize; give none")
        return "none"
    if normalize != "auto":
        return normalize
    if samples.is_scaled:
        return "none"
    return "range" if encoding in ("poisson", "latency") or population > 1 else "standard"


def _statistics(target: Target, chosen: Array) -> Statistics:
    if not len(chosen):
        return Statistics(torch.ones(1), torch.ones(1), 1.0)
    steps = 1.0 if target.counted is None else float(np.mean([target.counted[n].sum() for n in chosen]))
    if target.is_label:
        number = torch.from_numpy(counts(target, chosen)).double()
        return Statistics(_class_weight(number), torch.ones(1), max(steps, 1.0))
    if target.counted is None:
        values = np.stack([target.values[n] for n in chosen])
    else:
        values = np.concatenate([target.values[n][target.counted[n]] for n in chosen])
    variance = values.astype(np.float64).var(axis=0) if len(values) else np.ones(target.size)
    variance = np.where(variance > 0, variance, 1)
    return Statistics(torch.ones(1), torch.from_numpy(variance.astype(np.float32)), max(steps, 1.0))


def _class_weight(number: Tensor) -> Tensor:
    """The weights of hits whose mean is the mean of the classes' accuracies. Args: number: of each class."""
    return number.sum() / ((number > 0).sum().clamp(min=1) * number.clamp(min=1))


# ── functions that make streams: not lambdas, which cannot be pickled ─────────────────────────────────────────────────


def _steps_of(values: Tensor, start: int, stop: int) -> Tensor:
    return values[start:stop]


class _Sparse(NamedTuple):
    """The events of one row of a batch."""

    step: Array  # in order
    channel: Array
    shift: int  # of the channels


def _events_of(samples: list[_Sparse], weight: Tensor, shape: tuple[int, int], start: int, stop: int) -> Tensor:
    """Return the number of events in each step, times a weight, (stop − start, batch, channels)."""
    batch, channels = shape
    places = []
    for row, (step, channel, shift) in enumerate(samples):
        first, last = np.searchsorted(step, (start, stop))
        moved = channel[first:last].astype(np.int64) + shift
        place = ((step[first:last].astype(np.int64) - start) * batch + row) * channels + moved
        places.append(place[(moved >= 0) & (moved < channels)] if shift else place)
    found = torch.from_numpy(np.concatenate(places)).to(weight.device)
    part = weight.new_zeros((stop - start) * batch * channels)
    part.scatter_add_(0, found, weight.expand(len(found)))
    return part.view(stop - start, batch, channels)


def _shifted(values: Tensor, shifts: Array, dim: int) -> Tensor:
    """Return values (time, batch, channels), those of each row shifted along a dimension; 0 comes in."""
    size = values.shape[dim]
    places = torch.arange(size).view(*((size, 1, 1) if dim == 0 else (1, 1, size)))
    source = places - torch.from_numpy(shifts).view(1, -1, 1)
    found = values.gather(dim, source.clamp(0, size - 1).expand(values.shape))
    return torch.where((source >= 0) & (source < size), found, 0.0)
