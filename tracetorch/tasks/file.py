"""A task from a file or a folder of a user's own data."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from tracetorch import data, files
from tracetorch.data.audio import Bands
from tracetorch.data.events import EventReading
from tracetorch.data.read import HDF5, Reading
from tracetorch.data.samples import Array, Events, Samples
from tracetorch.data.split import field_of
from tracetorch.data.tables import Rows
from tracetorch.data.target import At, Kind
from tracetorch.tasks.sampled import Encoding, Normalize, SampledTask


class File(SampledTask):
    """Predict a label or values from data in a file, a folder or a zip archive.

    Kinds of data: `.npz` and `.npy` (see `data.arrays`), `.csv` and `.tsv` (`data.tables`), folders and archives of
    `.wav` (`data.audio`) or of images (`data.images`); events (`data.events`, `data.hdf5`): `.h5` in SHD's layout,
    `.npz` of times and channels, folders and archives of N-MNIST's `.bin`, DVS-Gesture's `.aedat`, or `.npz`.

    Args:
        path: of the file or folder. A folder may hold its split: train.npz and test.npz (or .csv, .h5, .zip, …), or
            names with the same word in front, such as shd_train.h5, or folders train and test; also validation or
            valid.
        pattern: of file names in a folder or archive, such as "{label}_{speaker}_{index}.wav"; its fields can be used
            in `test` and `validation`. None: a folder for each class, "{label}/{name}".
        inputs, target: names of arrays, columns or fields. None: those with a usual name; see the readers.
        sample, time, rows: of tables; see `data.tables.read_table`. With `cut`, at="steps" or `skip`, rows="auto" means
            "steps".
        cut: length, in steps, of the samples into which longer recordings are cut; a shorter rest is dropped. None: no
            cut.
        kind, at, classes, skip, encoding, steps, steps_per_frame, dt, max_rate, population, level, normalize: see
            `SampledTask`.
        bands, scale, frames, hop, sample_rate: of recordings; see `data.audio.Bands`.
        size, grey: of images; see `data.images.read_images`; size: also of the sensor of events.
        channels, downsample, max_time, time_unit, from_first: of events; see `data.events.EventReading`.
        test, validation: the held-out samples: a fraction, drawn by the seed, or the end of the data with `cut`; a
            condition on a field, such as "index<5" or "speaker=lucas"; or, for `test`, the path of a second file. Where
            the data hold a split of their own, it replaces the fractions.
        augment_steps, augment_channels, noise, batch_size, seed: see `SampledTask`.
    Raises: OSError if the data cannot be read; ImportError for a missing library; ValueError that says what was found
        and what is wanted.
    """

    def __init__(
        self,
        *,
        path: str,
        pattern: str | None = None,
        inputs: str | list[str] | None = None,
        target: str | list[str] | None = None,
        sample: str | None = None,
        time: str | None = None,
        rows: Rows = "auto",
        cut: int | None = None,
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
        bands: int = 40,
        scale: Literal["mel", "gammatone"] = "mel",
        frames: int | None = 64,
        hop: float | None = None,
        sample_rate: int | None = None,
        size: list[int] | None = None,
        grey: bool = False,
        channels: int | None = None,
        downsample: int = 1,
        max_time: float | None = None,
        time_unit: float | None = None,
        from_first: bool = False,
        test: float | str = 0.2,
        validation: float | str = 0.1,
        augment_steps: int = 0,
        augment_channels: int = 0,
        noise: float = 0.0,
        batch_size: int = 64,
        seed: int = 0,
    ):
        how = Reading(
            pattern=pattern,
            inputs=_names(inputs),
            target=_names(target),
            sample=sample,
            time=time,
            rows="steps" if rows == "auto" and (cut is not None or at == "steps" or skip) else rows,
            fields=tuple(name for name in map(field_of, (test, validation)) if name),
            bands=Bands(bands=bands, scale=scale, frames=frames, hop=hop, sample_rate=sample_rate),
            size=_pair(size),
            grey=grey,
            events=EventReading(channels, _pair(size), downsample, max_time, time_unit, from_first),
        )
        self.path = path
        samples, tested, validated = _read(path, test, how)
        if cut is not None:
            samples = _cut(samples, cut)
        elif len(samples) == 1:
            steps = len(samples.inputs[0])
            raise ValueError(
                f"{path} is one recording of {steps:,} steps: cut it, such as task.cut={max(1, steps // 50)}"
            )
        super().__init__(
            samples,
            kind=kind,
            at=at,
            classes=classes,
            skip=skip,
            encoding=encoding,
            steps=steps,
            steps_per_frame=steps_per_frame,
            dt=dt,
            max_rate=max_rate,
            population=population,
            level=level,
            normalize=normalize,
            test=test if tested is None else tested,
            validation=validation if validated is None else validated,
            in_order=cut is not None,
            augment_steps=augment_steps,
            augment_channels=augment_channels,
            noise=noise,
            batch_size=batch_size,
            seed=seed,
        )


def _names(given: str | list[str] | None) -> str | tuple[str, ...] | None:
    return given if given is None or isinstance(given, str) else tuple(given)


def _pair(size: list[int] | None) -> tuple[int, int] | None:
    """Return height and width. Raises: ValueError for anything but two numbers from 1."""
    if size is None:
        return None
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"task.size={size}: give [height,width]")
    return size[0], size[1]


def _read(path: str, test: float | str, how: Reading) -> tuple[Samples, Array | None, Array | None]:
    """Return all samples, and the masks of the test and validation samples; None for a split that the data lack."""
    paths = {name: str(file) for name, file in _split_files(files.expanded(path)).items()} or {"train": path}
    parts = {name: _load(file, how) for name, file in paths.items()}
    if isinstance(test, str) and _exists(test):
        parts["test"] = _load(test, how)
    elif isinstance(test, str) and len(parts) > 1:
        raise ValueError(
            f"{path} is split into {' and '.join(parts)}, and task.test={test} asks for another split: omit it or "
            "put all samples in one file or folder"
        )
    if len(parts) == 1:
        return parts["train"], *_own_split(parts["train"], test)
    first = parts["train"]
    for name, part in parts.items():
        if part.channels != first.channels:
            hint = "; give task.channels, or task.size of a camera" if isinstance(first.inputs[0], Events) else ""
            raise ValueError(
                f"{part.source} ({name}) has {part.channels} channels, and {first.source} has {first.channels}{hint}"
            )
        if other := part.other_channel(first.names_of_channels()):
            raise ValueError(other)
    origin = np.concatenate([np.full(len(part), at) for at, part in enumerate(parts.values())])
    masks = {name: origin == at for at, name in enumerate(parts)}
    shared = set.intersection(*(set(part.fields) for part in parts.values()))
    joined = replace(
        first,
        inputs=[sample for part in parts.values() for sample in part.inputs],
        target=[goal for part in parts.values() for goal in part.target],
        fields={name: np.concatenate([part.fields[name] for part in parts.values()]) for name in shared},
        names=[f"{name}: {one}" for name, part in parts.items() for one in part.names],
        source=" and ".join(dict.fromkeys(part.source for part in parts.values())),
    )
    return joined, masks.get("test"), masks.get("validation")


def _own_split(samples: Samples, test: float | str) -> tuple[Array | None, Array | None]:
    """Return the masks of the test and validation samples by the field `split`; None without it.

    A condition as `test` has precedence over the field.
    """
    column = np.char.lower(samples.fields["split"].astype(str)) if "split" in samples.fields else np.zeros(0, str)
    if isinstance(test, str) or not {"train", "test"} <= {*column}:
        return None, None
    return column == "test", column == "validation" if "validation" in column else None


_SPLIT_NAME = re.compile(r"(.*[-_. ]|.*[a-z](?=[TV]))?((?i:train|valid|validation|test))")
_SPLIT_ENDINGS = ("", ".npz", ".npy", ".csv", ".tsv", ".zip", *HDF5)  # "": a folder


def _split_files(folder: Path) -> dict[str, Path]:
    """Return the files or folders train and test of a folder, and validation if it exists; {} without train and test.

    Their names may begin with the same word, such as shd_train.h5 and shd_test.h5. Links that lead out are left out.
    """
    found: dict[tuple[str, str], dict[str, Path]] = {}
    for path in sorted(folder.iterdir()) if os.path.isdir(folder) else ():  # noqa: PTH112  # as in `_exists`
        ending = "" if path.is_dir() else path.suffix.lower() or "none"
        name = _SPLIT_NAME.fullmatch(path.name.removesuffix(path.suffix) if ending else path.name)
        if name and ending in _SPLIT_ENDINGS and not files.leads_out(path, folder):
            word = name[2].lower()
            part = "validation" if word == "valid" else word
            found.setdefault(((name[1] or "").lower(), ending), {})[part] = path
    whole = [parts for parts in found.values() if {"train", "test"} <= {*parts}]
    return {part: whole[0][part] for part in ("train", "validation", "test") if part in whole[0]} if whole else {}


def _exists(path: str) -> bool:
    return os.path.exists(files.expanded(path))  # noqa: PTH110  # unlike Path.exists, False for a name that is too long


def _stamp(path: str) -> tuple[int, int]:
    """Return size and time of a file, so that a changed file is read again; the files in a folder are not compared."""
    stat = os.stat(files.expanded(path))  # noqa: PTH116  # for a path of unknown kind
    return stat.st_size, stat.st_mtime_ns


def _load(path: str, how: Reading) -> Samples:
    """Return the samples of a path, from memory if they were read before. Raises: as `data.read`."""
    if not _exists(path):
        raise FileNotFoundError(f"task.path={path}: there is no such file or folder")
    return _load_once(path, how, _stamp(path))


@lru_cache(maxsize=4)
def _load_once(path: str, how: Reading, stamp: tuple[int, int]) -> Samples:
    del stamp
    return data.read(path, how)


def _cut(samples: Samples, steps: int) -> Samples:
    """Cut each sample into parts of `steps` steps, numbered by the field "part"; a shorter rest is dropped.

    Raises: ValueError for samples without steps, or if all are shorter.
    """
    if steps < 1:
        raise ValueError(f"task.cut must be at least 1, got {steps}")
    if any(not isinstance(sample, np.ndarray) or sample.ndim == 1 for sample in samples.inputs):
        raise ValueError(
            f"task.cut={steps}: the samples of {samples.source} have no steps that could be cut; rows of a table "
            "that are time steps need task.rows=steps"
        )
    places = [
        (n, start) for n, sample in enumerate(samples.inputs) for start in range(0, len(sample) - steps + 1, steps)
    ]
    if not places:
        raise ValueError(
            f"task.cut={steps}: the longest sample of {samples.source} has {max(map(len, samples.inputs))} steps"
        )
    goals = [np.asarray(goal) for goal in samples.target]
    is_stepwise = [goal.shape[:1] == (len(sample),) for goal, sample in zip(goals, samples.inputs, strict=True)]
    rows = np.array([n for n, _ in places])
    return replace(
        samples,
        inputs=[samples.inputs[n][start : start + steps] for n, start in places],
        target=[goals[n][start : start + steps] if is_stepwise[n] else samples.target[n] for n, start in places],
        fields={name: column[rows] for name, column in samples.fields.items()}
        | {"part": np.array([start // steps for _, start in places])},
        names=[f"{samples.names[n]}, steps {start} to {start + steps}" for n, start in places],
    )


_FEW_CHANNELS = 4
_FEW_NEURONS = 32  # in a hidden layer; among more, enough spike


class Suggestion(NamedTuple):
    """A setting that suits the data."""

    key: str  # of the config
    value: str  # as it would be typed
    why: str  # in a few words, for the user


_LEAST_DEVIATION = 0.25  # of membranes; below it, most neurons with the threshold 1 do not spike


def _for_events(task: SampledTask) -> list[Suggestion]:
    """Return the length of a step, and a larger input for each event if neurons would not spike without it.

    Weights are drawn uniformly within ±1/√channels, so that an event adds 1/(3·channels) to the variance of membranes.
    Membranes with a time constant of a sixth of a sample have the variance of a twelfth of its events.
    """
    if task.encoding != "events":
        return []
    found = []
    if task.is_dt_chosen:
        why = f"at most {task.steps} steps a sample"
        found.append(Suggestion("task.dt", f"{task.dt:g}", "; ".join(filter(None, (why, task.samples.remark)))))
    events = np.mean([len(task.samples.inputs[int(n)].times) for n in task.splits["train"]])
    deviation = math.sqrt(float(events) / 12 / (3 * task.input_size))  # of membranes
    if task.max_rate == 1 and 0 < deviation < _LEAST_DEVIATION:
        found.append(Suggestion("task.max_rate", f"{0.5 / deviation:.2g}", "few events in a channel"))
    return found


_PATIENCE = 10


def suggest(task: SampledTask, rule: str, hidden: Sequence[int], length: float | None = None) -> list[Suggestion]:
    """Return settings that suit the data of a task.

    - One target for each sample: membranes with a time constant of a sixth of a sample, and eight learning moments in a
      sample, each with an update; one at the end for samples without steps, and for BPTT.
    - A target at each step: up to eight groups of neurons with time constants up to a fifth of a sample, receptive
      fields for few channels, and OTTT, which takes a signal at every step. Of 16 receptive fields, two or three are
      active, so that membranes with a time constant of a few steps deviate by .3 and few of them reach the threshold of
      1: a network of few neurons would be almost silent, and gets a larger input.
    - Passes until the validation data show no progress.

    Args:
        rule: name of the rule's class if the user typed it; else "".
        hidden: sizes of the hidden layers.
        length: passes, if a length is typed.
    """
    target, steps, batches = task.target, task.steps, task.batches_per_pass
    if target.is_label:
        found = [Suggestion("network", "lif_lis", "class probabilities"), Suggestion("loss", "cross_entropy", "labels")]
    else:
        found = [Suggestion("network", "lif_li", "real numbers"), Suggestion("loss", "mse", "values to predict")]
        found.append(Suggestion("network.readout.bias", "true", ""))
        found.append(Suggestion("network.readout.trainable", "[weight,bias]", ""))
    found += _for_events(task)
    if target.at_steps:
        longest = max(8.0, min(steps / 5, 200))
        groups = math.gcd(8, *hidden)  # number of groups of neurons, of equal size
        places = [at / (groups - 1) for at in range(groups)] if groups > 1 else [0.7]
        decays = ",".join(f"{1 - 1 / (1.4 * (longest / 1.4) ** place):.3g}" for place in places)
        found.append(Suggestion("rule", "ottt", "a signal at every step"))
        found.append(Suggestion("network.neuron.decay", f"[{decays}]", "time constants up to a fifth of a sample"))
        found.append(Suggestion("network.readout.decay", "0.8", ""))
        found.append(Suggestion("optimizer.lr", "0.005", ""))
        if task.samples.channels <= _FEW_CHANNELS and task.encoding in ("current", "poisson"):
            found.append(Suggestion("task.population", "16", "few channels"))
            if task.max_rate == 1 and task.encoding == "current" and min(hidden, default=0) <= _FEW_NEURONS:
                found.append(Suggestion("task.max_rate", "2", "few neurons: those with short time constants spike too"))
    else:
        decay = f"{1 - 1 / max(2.0, min(steps, 6000) / 6):.4g}"
        found.append(Suggestion("network.neuron.decay", decay, "a sixth of a sample"))
        found.append(Suggestion("network.readout.decay", decay, ""))
    if task.is_steady or target.at_steps or rule == "BPTT":
        every = "1" if target.at_steps and rule == "Trace" else "null"
    else:
        every = f"{max(1, steps // 8)}"
    if every != "null":
        why = "a target at each step" if target.at_steps else "the target holds all along"
        found.append(Suggestion("train.learn_every", every, why))
    passes = length or max(30, math.ceil(1000 / batches))
    if length is None:
        found.append(Suggestion("train.passes", f"{passes}", f"{len(task.splits['train']):,} training samples"))
    if len(task.splits["validation"]):
        passes_between = max(1, math.ceil(passes / 30))
        found.append(Suggestion("train.eval_every", f"{batches * passes_between}", "updates"))
        if passes / passes_between > _PATIENCE:
            found.append(Suggestion("train.patience", f"{_PATIENCE}", "evaluations without a better one"))
    return found
