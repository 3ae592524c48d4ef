"""Tasks with a fixed set of samples: labels or values to predict, for a whole sample or at each of its steps."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
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

_SPIKES, _ORDER, _NEW, _AUGMENT, _SPLIT = 0, 3, 4, 5, 6  # purposes of the seeds; 1 and 2: spikes of held-out samples
_MOST_NAMED_CLASSES, _MOST_CONFUSED_CLASSES, _MOST_NAMED_VALUES = 32, 12, 8
_DEFAULT_STEPS = 20
_MOST_STEPS = 10_000_000  # of a sample of events


class Statistics(NamedTuple):
    """Statistics of a split, with which its metrics are means over its samples."""

    class_weight: Tensor  # (classes,), of a hit: the mean of the weighted hits is the mean of the classes' accuracies
    variance: Tensor  # (values,), of the target
    steps: float  # mean number of steps with a target in a sample; 1 if each sample has one target


class SampledTask(Task):
    """Predict the target of each sample. Training samples come in a new order in every pass.

    Samples of different lengths begin at different steps of a batch and end together. The steps before the beginning of
    a sample have no input, and their outputs do not count.

    Args:
        samples: inputs and targets.
        kind, at: the kind of targets, and whether each sample or each step has one; see `data.target.as_target`.
        classes: names of the classes, in the order of the outputs; some may not occur. None: those that occur, sorted.
        skip: for targets at steps: number of steps at the beginning of each sample whose targets do not count, because
            the network cannot know earlier inputs.
        encoding: "current": input is the value. "poisson": spikes with the value as their probability in each step.
            "latency": one spike for each channel, for samples without steps. "delta": a spike when a channel has risen,
            or fallen, by `level` (level crossing), in two inputs for each channel. "events": the number of events in
            each step. "auto": current for values, events for events.
        steps: time steps for which a sample without steps is shown (None: 20). None for samples with steps.
        steps_per_frame: time steps for each step of the samples.
        dt: length of a time step in seconds. It bins events; for other samples it only labels figures. None: as in the
            data; for events, 1, 2 or 5 times a power of ten, so that the longest sample has about 40 to 100 steps.
        max_rate: factor of all inputs. Probabilities of spikes are limited to 1.
        population: inputs for each channel, with Gaussian receptive fields over its range (see `encode.population`);
            1: the value itself.
        level: for delta, the change that gives a spike, in units of the normalized input.
        normalize: the scale of each channel, learned from training samples. "standard": mean 0, deviation 1; "range": 0
            to 1; "none". "auto": none for events and for inputs that need no normalization, such as brightness; else
            range for poisson, latency and populations, and standard for other encodings.
        test, validation: the samples to hold out: a mask, bool (samples,), or a fraction or condition, see
            `data.split.held_out`.
        in_order: whether a fraction holds out the last samples instead of drawn ones.
        augment_steps, augment_channels: largest shifts of a training sample, in steps and in channels, drawn again in
            each pass and filled with zeros. Samples without steps are shifted in channels only.
        noise: standard deviation of Gaussian noise that is added to normalized training inputs; not for events.
        batch_size: samples in a training batch, at most all of them.
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
        classes: Sequence[str | int] | None = None,
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
        choices("at", at, ("auto", "end", "steps"))
        self.target = as_target(samples, kind, at, classes)
        whole_at_least(0, skip=skip)
        if skip and self.target.counted is not None:
            counted = [given & (np.arange(len(given)) >= skip) for given in self.target.counted]
            if not any(map(np.any, counted)):
                longest = max(map(len, counted))
                raise ValueError(f"task.skip={skip} leaves no step with a target in samples of up to {longest} steps")
            self.target = self.target._replace(counted=counted)
        elif skip:
            raise ValueError(
                f"task.skip={skip} is for targets at each step, and {samples.source} has one for each sample"
            )
        self.encoding = _encoding(samples, encoding)
        remark = "" if self.encoding == "events" else samples.remark  # `suggest` shows that of events
        self.remarks = [*filter(None, [remark]), *_like_classes(self.target, kind)]
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
        if noise and self.encoding == "events":
            raise ValueError(f"task.noise={noise:g} does not go with task.encoding=events; give 0")
        self.population = population
        self.input_size = samples.channels * (2 if self.encoding == "delta" else population)
        self.output_size = self.target.size
        self.output_names = self.target.classes or _value_names(samples, self.target)
        if samples.frequencies is not None and self.input_size == samples.channels:
            self.input_frequencies = samples.frequencies.tolist()
        self._split(test, validation, may_miss_classes=classes is not None)
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

    def inputs_of(self, values: Any) -> Stream:
        """Return the input of new samples without targets, (time, samples, input_size), scaled and encoded as here.

        Args: values: (samples, steps, channels), or (samples, channels) for steady inputs, in the units of the data.
        Raises: ValueError for another shape, for values that are not finite, and for a task with events.
        Example: `run.net.run(run.task.inputs_of(values), reduce="mean")` with `run = tt.load(DIR)`
        """
        if self.encoding == "events":
            raise ValueError("events cannot be given as an array: read them with tracetorch eval DIR task.path=FILE")
        array = np.asarray(values, dtype=np.float32)
        channels, middle = self.samples.channels, "" if self.is_steady else "steps, "
        if array.ndim != (2 if self.is_steady else 3) or array.shape[-1] != channels or not array.size:
            raise ValueError(f"values must have the shape (samples, {middle}{channels}), got {array.shape}")
        if not np.isfinite(array).all():
            raise ValueError("values must be finite numbers, got others")
        steps = self.steps if self.is_steady else array.shape[1] * self.steps_per_frame
        numbers = torch.arange(len(array), device=self.device)
        return self._encoded(list(array), steps, mix_seed(self.seed, _NEW), numbers, None)

    def _stream(
        self, chosen: Array, total: int, seed: int, numbers: Tensor, augment: np.random.Generator | None
    ) -> Stream:
        """Return the input of the chosen samples, (total, batch, input_size). All samples end at its last step."""
        if self.encoding == "events":
            return self._events(chosen, total, augment)
        return self._encoded([self.samples.inputs[n] for n in chosen], total, seed, numbers, augment)

    def _encoded(
        self, samples: list[Array], total: int, seed: int, numbers: Tensor, augment: np.random.Generator | None
    ) -> Stream:
        scaled = [self.scale(sample) for sample in samples]
        if self.population > 1:
            scaled = [encode.population(torch.from_numpy(each), self.population, 0, 1).numpy() for each in scaled]
        if self.is_steady:
            values = self._augmented(torch.from_numpy(np.stack(scaled))[None], augment)[0].to(self.device)
            values, name = values * self.max_rate, self.encoding
            if name == "current":
                return ENCODERS["constant"](values, total, seed=seed, samples=numbers)
            return ENCODERS[name](values.clamp(max=1), total, seed=seed, samples=numbers)
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
        """Return the numbers of events in each step. Memory: one step number for each event, and a chunk of steps."""
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
            values = values if self.encoding in ("current", "delta") else values.clamp(0, 1)
        return values

    def description(self) -> str:
        """Return a summary of the data in a line: samples, steps, channels, targets, splits."""
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

    def example(self, trial: int = 0) -> tuple[Batch, dict[str, tuple[float, float]]]:
        """See `Task.example`. A sample shorter than others is without the empty steps that precede it in a batch."""
        batch, marks = super().example(trial)
        padding = batch.xs.steps - int(self._lengths[int(batch.conditions["sample"][0])])
        if not padding or not isinstance(batch, CountedBatch):
            return batch, marks
        target = batch.target[padding:] if batch.at_steps else batch.target
        counted = batch.counted[padding:]
        return CountedBatch(batch.xs[padding:], target, batch.conditions, counted, at_steps=batch.at_steps), marks

    # ── results ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def score(self, output: Tensor, batch: Batch) -> Trials:
        """Return accuracy and balanced accuracy of labels, or R² and the mean squared error of values.

        The mean of a column over all samples of a split is the metric of the split. With one target for each sample,
        there are also the columns of targets and predictions; with labels at each step, those of the confused steps.
        """
        split = self._split_of[int(batch.conditions["sample"][0])]
        class_weight, variance, steps = self._statistics[split]

        def of_samples(value: Tensor) -> Tensor:
            """Numbers of samples, whose mean over the split is the mean of `value` over all steps with a target."""
            if not isinstance(batch, CountedBatch) or not batch.at_steps:
                return value
            return torch.where(batch.counted, value, 0.0).sum(dim=0) / steps

        if self.target.is_label:
            prediction = output.argmax(dim=-1)
            hit = (prediction == batch.target).to(torch.float32)
            if not self.target.at_steps and split == "train":  # a training batch has its own shares of the classes
                class_weight = _class_weight(torch.bincount(batch.target, minlength=self.target.size).double())
            weighted = hit.double() * class_weight[batch.target]
            columns = {"accuracy": of_samples(hit), "balanced_accuracy": of_samples(weighted)}
            named = {"target": batch.target, "prediction": prediction}
            if self.target.at_steps and split != "train":
                columns |= self._confused(prediction, batch)
        else:
            output, target = self.in_units(output), self.in_units(batch.target)
            error = (output - target).square()
            unexplained = of_samples((error / variance).mean(dim=-1))
            columns = {"r2": 1 - unexplained, "mse": of_samples(error.mean(dim=-1))}
            few = range(min(self.target.size, _MOST_NAMED_VALUES))
            named = {f"target_{at}": target[..., at] for at in few}
            named |= {f"prediction_{at}": output[..., at] for at in few}
        return batch.conditions | ({} if self.target.at_steps else named) | columns

    def _confused(self, prediction: Tensor, batch: Batch) -> Trials:
        """Return how many steps of each class were taken for each other one, by sample; {} for many classes."""
        assert isinstance(batch, CountedBatch)
        if self.target.size > _MOST_CONFUSED_CLASSES:
            return {}
        pair = torch.where(batch.counted, batch.target * self.target.size + prediction, -1)
        return {name: (pair == at).sum(dim=0) for at, name in enumerate(self._pairs)}

    @property
    def _pairs(self) -> list[str]:
        """The names of pairs of a class and one that it was taken for, the latter running faster."""
        return [f"steps_of_{true}_as_{taken}" for true in self.target.classes for taken in self.target.classes]

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
        """Return the accuracy of each class, for at most 32 classes.

        For labels at each step: for at most 12; and the share of the most frequent class.
        """
        classes = self.target.classes
        if self.target.is_label and self.target.at_steps:
            number = torch.from_numpy(counts(self.target, trials["sample"].numpy())).double()
            found = {"chance_accuracy": float(number.max() / number.sum())}
            right = {name: trials.get(f"steps_of_{name}_as_{name}") for name in classes}
            shares = {
                f"accuracy_of_{name}": float(steps.sum() / number[at])
                for at, (name, steps) in enumerate(right.items())
                if steps is not None and number[at]
            }
            return shares | found
        if "prediction" not in trials or len(classes) > _MOST_NAMED_CLASSES:
            return {}
        target, hit = trials["target"].long(), trials["accuracy"].double()
        total = torch.zeros(len(classes), dtype=torch.float64).index_add_(0, target, hit)
        number = torch.bincount(target, minlength=len(classes))
        return {
            f"accuracy_of_{name}": float(total[at] / number[at]) for at, name in enumerate(classes) if int(number[at])
        }

    def figures(self, trials: Trials) -> Figures:
        """Draw the confusion matrix of labels, or predictions against targets; nothing for targets at steps."""
        from tracetorch import plot

        if "prediction" in trials:
            target, prediction = trials["target"].long(), trials["prediction"].long()
            return {"confusion": plot.confusion(target, prediction, list(self.target.classes))}
        if self.target.is_label and set(self._pairs) <= trials.keys():
            total = torch.stack([trials[name].sum() for name in self._pairs]).long()
            pair = torch.arange(len(total)).repeat_interleave(total)
            true, taken = pair // self.target.size, pair % self.target.size
            return {"confusion": plot.confusion(true, taken, list(self.target.classes))}
        if "prediction_0" in trials:
            few = range(min(self.target.size, _MOST_NAMED_VALUES))
            pairs = [(trials[f"target_{at}"], trials[f"prediction_{at}"]) for at in few]
            return {"prediction": plot.prediction(pairs, self.output_names)}
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
            "channels": self.samples.names_of_channels(),
        }

    def load_for_test(self, state: dict[str, Any]) -> None:
        """Use the scales of a trained network. Raises: ValueError if it was trained on other channels or targets."""
        if misfit := self.misfit(state):
            raise ValueError(f"the run was trained {misfit}")
        if other := self.samples.other_channel(state.get("channels", [])):  # earlier versions stored no names
            raise ValueError(other)
        if state["classes"] != list(self.target.classes) or len(state["target_shift"]) != self.target.size:
            known = self._targets_in_words(state["classes"], len(state["target_shift"]))
            found = self._targets_in_words(self.target.classes, self.target.size)
            raise ValueError(f"the run was trained on {known}, and {self.samples.source} has {found}")
        self.scale = Scale(state["shift"].numpy(), state["factor"].numpy(), bool(state["clips"]))
        self.target_scale = Scale(state["target_shift"].numpy(), state["target_factor"].numpy(), False)

    def misfit(self, state: dict[str, Any]) -> str:
        """Say how the number of channels differs from that in training; "" if not. Args: state: of `state_dict`."""
        trained, own = len(state["shift"]), self.samples.channels
        if trained == own:
            return ""
        first = self.samples.inputs[0]
        is_swapped = isinstance(first, np.ndarray) and first.ndim == 2 and len(first) == trained
        hint = ": are the axes swapped? Wanted: (samples, steps, channels)" if is_swapped else ""
        return f"with {trained:,} channels, and {self.samples.source} has {own:,}{hint}"

    @staticmethod
    def _targets_in_words(classes: Sequence[str], size: int) -> str:
        return f"the classes {', '.join(classes[:12])}" if classes else f"{size} value{'s' * (size > 1)} to predict"

    def _training_values(self) -> Iterator[Array]:
        """Yield the targets of the training samples, (values,) or (steps, values) each; nothing for labels."""
        for n in self.splits["train"] if not self.target.is_label else ():
            values = self.target.values[int(n)]
            yield values if self.target.counted is None else values[self.target.counted[int(n)]]

    def _scaled_target(self, target: Array) -> Array:
        """Return targets for the loss: values are standardized, so that learning rates do not depend on their unit."""
        return target if self.target.is_label else self.target_scale(target)

    def in_units(self, values: Tensor) -> Tensor:
        """Return outputs or targets of the network, (…, size), in the units of the data."""
        if self.target.is_label:
            return values
        shift, factor = (torch.from_numpy(part).to(values) for part in self.target_scale[:2])
        return values / factor + shift

    # ── preparation ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _count_steps(self, steps: int | None) -> Array:
        """Return the number of time steps of each sample. Raises: ValueError for `steps` or `dt` that do not fit."""
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
        return np.array(self.samples.num_steps()) * self.steps_per_frame

    def _split(self, test: float | str | Array, validation: float | str | Array, *, may_miss_classes: bool) -> None:
        """Set `splits`: the sample numbers of each split.

        Raises: ValueError if no sample is left in a split, or if a held-out class does not occur in training.
        """
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
        if self.target.is_label and not may_miss_classes:
            trained = counts(self.target, self.splits["train"])
            for name in ("validation", "test"):
                present = counts(self.target, self.splits[name])
                if missing := [self.target.classes[at] for at in np.flatnonzero((present > 0) & (trained == 0))]:
                    raise ValueError(
                        f"{source}: the class {missing[0]} occurs in the {name} samples, and in none of the "
                        f"{len(self.splits['train']):,} training samples"
                    )


_FEWEST_OF_A_CLASS, _MOST_LIKE_CLASSES = 3, 20


def _like_classes(target: Target, kind: Kind) -> list[str]:
    """Say, in a list, that values to be predicted seem to be classes: few whole numbers, each of them several times."""
    if kind != "auto" or target.is_label or target.size > 1:
        return []
    values = target.values if target.counted is None else map(operator.getitem, target.values, target.counted)
    found, number = np.unique(np.concatenate([value.reshape(-1) for value in values]), return_counts=True)
    is_whole = bool((found == np.round(found)).all())
    if not is_whole or not 2 <= len(found) <= _MOST_LIKE_CLASSES or number.min() < _FEWEST_OF_A_CLASS:
        return []
    listing = ", ".join(f"{value:g}" for value in found[:4]) + ", …" * (len(found) > 4)
    return [f"the targets {listing} are real numbers, and so values to be predicted; for classes, give task.kind=label"]


def _value_names(samples: Samples, target: Target) -> tuple[str, ...] | None:
    """Return a name for each value of a target; None if they are unknown."""
    names = samples.target_names
    if len(names) == 1 and target.size > 1:
        return tuple(f"{names[0]} {at}" for at in range(target.size))
    return names if len(names) == target.size else None


def _encoding(samples: Samples, encoding: str) -> str:
    """Return the encoding, chosen if it is "auto". Raises: ValueError for one that does not fit the samples."""
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
    """Return the step of each time. A time at most 1e-4 steps before a step belongs to it, since times are rounded."""
    return np.floor(times.astype(np.float64) / dt + 1e-4).astype(np.int64)


def _step_length(inputs: Any) -> float:
    """Return 1, 2 or 5 times a power of ten, in seconds, so that the longest sample has about 40 to 100 steps."""
    longest = max((float(events.times[-1]) for events in inputs if len(events.times)), default=0.0)
    if longest <= 0:
        return 1e-3
    wanted = longest / 100
    power = 10.0 ** np.floor(np.log10(wanted))
    least = wanted * (1 - 1e-6)  # times may be rounded to float32
    return float(f"{next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least):.1g}")


def _method(samples: Samples, encoding: str, normalize: str, population: int) -> Any:
    """Return the method of `fit`, chosen if it is "auto". Raises: ValueError for one that does not fit the encoding."""
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
    """Return the statistics of the chosen samples."""
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
    """Return the weights of hits; see `Statistics`. Args: number: of targets in each class, (classes,)."""
    return number.sum() / ((number > 0).sum().clamp(min=1) * number.clamp(min=1))


# ── functions that make streams, at the top level, so that they can be pickled ────────────────────────────────────────


def _steps_of(values: Tensor, start: int, stop: int) -> Tensor:
    return values[start:stop]


class _Sparse(NamedTuple):
    """The events of one row of a batch."""

    step: Array  # of each event, in order
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
    """Return values, (time, batch, channels), shifted along a dimension and filled with 0. Args: shifts: (batch,)."""
    size = values.shape[dim]
    places = torch.arange(size).view(*((size, 1, 1) if dim == 0 else (1, 1, size)))
    source = places - torch.from_numpy(shifts).view(1, -1, 1)
    found = values.gather(dim, source.clamp(0, size - 1).expand(values.shape))
    return torch.where((source >= 0) & (source < size), found, 0.0)
