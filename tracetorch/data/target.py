"""Targets: a label or values, for a whole sample or at each of its steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from tracetorch.data.samples import Array, Samples
from tracetorch.printable import printable

Kind = Literal["auto", "label", "values"]
At = Literal["auto", "end", "steps"]
MOST_CLASSES = 10_000
_SHOWN = 8


class Target(NamedTuple):
    """The targets of all samples, as a loss takes them."""

    is_label: bool
    """Whether targets are classes; if not, they are values."""
    at_steps: bool
    """Whether each step has a target; if not, each sample has one."""
    classes: tuple[str, ...]
    """Names of the classes; empty for values."""
    size: int
    """Number of outputs: of classes, or of values."""
    values: Sequence[Array]
    """For each sample: class number () or values (size,); at steps, (steps,) or (steps, size)."""
    counted: Sequence[Array] | None
    """For each sample, bool (steps,): the steps that have a target; None unless at steps."""


def as_target(
    samples: Samples, kind: Kind = "auto", at: At = "auto", classes: Sequence[str | int] | None = None
) -> Target:
    """Return the targets of samples in the form that a loss takes.

    Args:
        kind: "label", "values"; "auto": real numbers are values; whole numbers, bools and texts, and all
            targets if `classes` are given, are labels.
        at: "end": one target for each sample; "steps": one for each of its steps; "auto": "steps" if the target of
            every sample is an array with as many entries as its input has steps.
        classes: names of the classes, in the order of the outputs; some may not occur. None: those that occur, sorted.
    Raises: ValueError that names the sample, says what was found and what is wanted.
    """
    parts = [np.asarray(value) for value in samples.target]
    lengths = samples.num_steps()
    fits = all(length and part.shape[:1] == (length,) for part, length in zip(parts, lengths, strict=True))
    if at == "steps" and not fits:
        wrong = next(n for n, part in enumerate(parts) if not lengths[n] or part.shape[:1] != (lengths[n],))
        raise ValueError(
            f"{samples.source}: {samples.names[wrong]} has {lengths[wrong]} steps and a target of shape "
            f"{parts[wrong].shape}; wanted: a target for each step"
        )
    at_steps = fits if at == "auto" else at == "steps"
    are_labels = classes is not None or all(part.dtype.kind in "iubUS" for part in parts)
    is_label = kind == "label" or (kind == "auto" and are_labels)
    return _labels(samples, parts, at_steps, classes) if is_label else _values(samples, parts, at_steps)


def _labels(samples: Samples, parts: list[Array], at_steps: bool, classes: Sequence[str | int] | None) -> Target:
    """Return targets that are classes, by default sorted as numbers and then as texts. Raises: as `as_target`."""
    for name, part in zip(samples.names, parts, strict=True):
        if part.ndim != int(at_steps):
            where = "at each step" if at_steps else "for each sample"
            raise ValueError(
                f"{samples.source}: {name} has a target of shape {part.shape}; wanted: one label {where}, or "
                "task.kind=values for several numbers"
            )
        if part.dtype.kind == "f" and not (np.isnan(part) | (part == np.floor(part))).all():
            raise ValueError(
                f"{samples.source}: {name} has the target {part}; wanted: whole numbers or texts as labels"
            )
    texts = [_as_text(part) for part in parts]
    flat = np.concatenate([np.atleast_1d(text) for text in texts])
    known = [str(name) for name in np.unique(flat) if name]
    known.sort(key=lambda name: (0, int(name), "") if _is_whole(name) else (1, 0, name))
    if classes is not None:
        names = list(map(str, classes))
        if len({*names}) < len(names):
            raise ValueError(f"task.classes=[{printable(','.join(names), 100)}] names a class twice")
        if unknown := [name for name in known if name not in names]:
            found, listing = (printable(", ".join(each[:12]), 200) for each in (unknown, names))
            what = "the class" if len(unknown) == 1 else "the classes"
            raise ValueError(f"{samples.source}: this run has no output for {what} {found}; its classes are {listing}")
        known = names
    if len(known) < 2:
        only = f"the only label is {printable(known[0], 40)}" if known else "no sample has a label"
        only += "" if flat.all() else " (−1, NaN and an empty text are not labels)"
        raise ValueError(f"{samples.source}: {only}; wanted: at least two classes")
    if len(known) > MOST_CLASSES:
        raise ValueError(
            f"{samples.source} has {len(known):,} different labels; for numbers to be predicted, give task.kind=values"
        )
    number = {name: at for at, name in enumerate(known)} | {"": -1}
    values = [np.vectorize(number.__getitem__, otypes=[np.int64])(text) for text in texts]
    if not at_steps and any(int(value) < 0 for value in values):
        missing = next(name for name, value in zip(samples.names, values, strict=True) if int(value) < 0)
        raise ValueError(f"{samples.source}: {missing} has no label")
    counted = [value >= 0 for value in values] if at_steps else None
    return Target(True, at_steps, tuple(known), len(known), [np.maximum(value, 0) for value in values], counted)


def _values(samples: Samples, parts: list[Array], at_steps: bool) -> Target:
    """Return targets that are values; NaN marks a step without a target. Raises: as `as_target`."""
    sizes = set()
    values, counted = list[Array](), list[Array]()
    for name, part in zip(samples.names, parts, strict=True):
        if part.dtype.kind not in "fiub" or part.ndim > 1 + at_steps:
            raise ValueError(
                f"{samples.source}: {name} has a target of {part.dtype} and shape {part.shape}; wanted: numbers, "
                f"{'(steps,) or (steps, values)' if at_steps else 'one or (values,)'}"
            )
        value = part.astype(np.float32)
        value = value[..., None] if value.ndim == int(at_steps) else value
        is_given = ~np.isnan(value).any(axis=-1)
        if np.isinf(value).any() or not (at_steps or is_given):
            raise ValueError(
                f"{samples.source}: {name} has the target {value.ravel()[:_SHOWN]}; wanted: finite numbers"
            )
        sizes.add(value.shape[-1])
        values.append(np.nan_to_num(value))
        counted.append(np.asarray(is_given))
    if len(sizes) > 1:
        raise ValueError(f"{samples.source}: samples have {' or '.join(map(str, sorted(sizes)))} values as target")
    return Target(False, at_steps, (), sizes.pop(), values, counted if at_steps else None)


def _as_text(part: Array) -> Array:
    """Return labels as texts; −1, NaN and an empty text become "", no label."""
    if part.dtype.kind == "S":
        return np.char.decode(part, "utf-8", "replace")
    if part.dtype.kind in "fi":
        whole = np.where(np.isnan(part), -1, part).astype(np.int64) if part.dtype.kind == "f" else part
        return (
            np.where(whole == -1, "", whole.astype(str)) if part.ndim else np.asarray("" if whole == -1 else str(whole))
        )
    return np.asarray(part.astype(np.int64) if part.dtype.kind == "b" else part).astype(str)


def _is_whole(text: str) -> bool:
    return text.removeprefix("-").isdecimal() and text.isascii() and len(text) < 19


def counts(target: Target, chosen: Array) -> Any:
    """Return the number of samples, or of steps with a target, in each class, (classes,). Args: chosen: samples."""
    every = [
        target.values[n][target.counted[n]] if target.counted is not None else target.values[n].reshape(1)
        for n in chosen
    ]
    return np.bincount(np.concatenate(every), minlength=target.size) if every else np.zeros(target.size, dtype=int)
