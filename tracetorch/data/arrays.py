"""NumPy files: `.npz` with inputs and targets by name, or `.npy` with the inputs alone."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from tracetorch import files
from tracetorch.data.samples import Samples

INPUTS = ("inputs", "input", "x", "X", "data", "spikes", "rates")
TARGETS = ("labels", "label", "targets", "target", "y", "Y")
LENGTHS = "lengths"


def read_arrays(path: Path, inputs: str | None = None, target: str | None = None) -> Samples:
    """Read a `.npz` file.

    The inputs are (samples, steps, channels); or (samples, channels), the rates or currents of a steady input. Of
    samples that differ in length, an array `lengths`, (samples,), says how many of the steps count. Every other array
    with one value for each sample is a field. `.npy` files inside are read without pickle.

    Args: inputs, target: names of arrays; None: the first of `INPUTS`, of `TARGETS`, that is there.
    Raises: OSError; ValueError that names the file, says what was found and what is wanted.
    """
    found = _load(path)
    name, wanted = _named(path, found, inputs, INPUTS, "inputs"), _named(path, found, target, TARGETS, "target")
    values, goal = found[name], found[wanted]
    if values.dtype.kind not in "fiub" or values.ndim not in (2, 3):
        raise ValueError(
            f"{path}: {name} is {values.dtype} of shape {values.shape}; wanted: numbers of shape (samples, steps, "
            "channels) or (samples, channels)"
        )
    if not values.size:
        raise ValueError(f"{path}: {name} is empty, of shape {values.shape}")
    values = values.astype(np.float32, copy=False)
    if not np.isfinite(values).all():
        at = tuple(map(int, np.argwhere(~np.isfinite(values))[0]))
        raise ValueError(f"{path}: {name}{list(at)} is {values[at]}; wanted: finite numbers")
    if goal.ndim < 1 or len(goal) != len(values):
        raise ValueError(f"{path}: {name} holds {len(values):,} samples, and {wanted} has the shape {goal.shape}")
    fields = {key: one for key, one in found.items() if key not in (name, LENGTHS) and one.shape == values.shape[:1]}
    ends = _lengths(path, found.get(LENGTHS), values)
    return Samples(
        [sample[:end] for sample, end in zip(values, ends, strict=True)],
        values.shape[-1],
        list(goal),
        fields,
        [f"row {row}" for row in range(len(values))],
    )


def _load(path: Path) -> dict[str, np.ndarray]:
    with files.open_regular(path) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                total = sum(entry.file_size for entry in archive.infolist())
            if total > files.MOST_DATA_BYTES:
                raise ValueError(f"it unpacks to {total:,} bytes; more than {files.MOST_DATA_BYTES:,} are not read")
            file.seek(0)
            with np.load(file, allow_pickle=False) as held:
                return {name: held[name] for name in held.files}
        except (ValueError, OSError, EOFError, zipfile.BadZipFile, MemoryError) as error:
            why = "it holds Python objects" if "pickle" in str(error) else " ".join(str(error).split())
            raise ValueError(f"{path} is not a .npz file that can be read: {why}") from None


def _named(path: Path, found: dict[str, np.ndarray], given: str | None, usual: tuple[str, ...], key: str) -> str:
    name = given if given is not None else next((name for name in usual if name in found), None)
    if name in found:
        return str(name)
    wanted = f"no array {given}" if given is not None else f"none of {', '.join(usual)}"
    raise ValueError(f"{path} holds {', '.join(found) or 'no array'}, and {wanted}: give task.{key}=NAME")


def _lengths(path: Path, lengths: np.ndarray | None, values: np.ndarray) -> list[int | None]:
    if lengths is None or values.ndim == 2:
        return [None] * len(values)
    steps = values.shape[1]
    fits = lengths.shape == values.shape[:1] and lengths.dtype.kind in "iu" and ((lengths > 0) & (lengths <= steps)).all()
    if not fits:
        raise ValueError(f"{path}: {LENGTHS} must be a whole number from 1 to {steps} for each of {len(values)} samples")
    return [int(length) for length in lengths]
