"""NumPy files: `.npz` with inputs and targets by name, or `.npy` with inputs, and with targets in a second file."""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tracetorch import files
from tracetorch.data.samples import Array, Samples, check_finite
from tracetorch.printable import printable

INPUTS = ("inputs", "input", "x", "X", "data", "spikes", "rates")
TARGETS = ("target", "targets", "label", "labels", "y", "Y")
LENGTHS = "lengths"
_HEADER = 1 << 16  # bytes, more than the header of any .npy file takes
_MOST_SHOWN = 100


def read_npz(path: Path, inputs: str | None = None, target: str | None = None) -> Samples:
    """Read a `.npz` file.

    The inputs are (samples, steps, channels), or (samples, channels), the rates or currents of a steady input. Of
    samples that differ in length, an array `lengths`, (samples,), says how many of the steps count; the inputs may then
    also be (sum of lengths, channels), one sample after another. Every other array with one value for each sample is a
    field. Arrays of Python objects are refused.

    Args: inputs, target: names of arrays; None: the first of `INPUTS`, of `TARGETS`, that is there.
    Raises: OSError; ValueError that names the file, says what was found and what is wanted.
    """
    found = load(path)
    name = _named(path, found, inputs, INPUTS, "inputs")
    wanted = _named(path, found, target, TARGETS, "target")
    return _samples(path, {"inputs": name, "target": wanted}, found)


def read_npy(path: Path, target: str | None) -> Samples:
    """Read two `.npy` files. Args: target: the file with the targets, next to the first one or a whole path."""
    if target is None:
        raise ValueError(f"{path} holds inputs alone: give the file of the targets, task.target=NAME.npy")
    other = path.with_name(target) if path.with_name(target).exists() else files.expanded(target)
    names = {"inputs": path.name, "target": other.name}
    return _samples(path, names, {path.name: _load_npy(path), other.name: _load_npy(other)})


def _samples(path: Path, names: dict[str, str], found: dict[str, Array]) -> Samples:
    """Return samples. Args: names: of the arrays with inputs and target. found: all arrays; the others are fields."""
    name, wanted = names["inputs"], names["target"]
    values, goal = found[name], found[wanted]
    if values.dtype.kind not in "fiub" or values.ndim not in (2, 3):
        raise ValueError(
            f"{path}: {name} is {values.dtype} of shape {values.shape}; wanted: numbers of shape (samples, steps, "
            "channels) or (samples, channels)"
        )
    if not values.size:
        raise ValueError(f"{path}: {name} is empty, of shape {values.shape}")
    values = values.astype(np.float32, copy=False)
    check_finite(values, f"{path}: {name}")
    parts: Any = values
    goals: Any = goal
    lengths = found.get(LENGTHS)
    if lengths is not None:
        parts = _cut(path, lengths, values)
        is_at_steps = goal.shape[:2] == values.shape[:2] and values.ndim == 3
        goals = [row[: len(part)] for row, part in zip(goal, parts, strict=False)] if is_at_steps else goal
        if values.ndim == 2 and len(goal) == len(values) != len(parts):
            goals = np.split(goal, np.cumsum(lengths)[:-1])
    if goal.ndim < 1 or len(goals) != len(parts):
        raise ValueError(f"{path}: {name} holds {len(parts):,} samples, and {wanted} has the shape {goal.shape}")
    fields = {key: one for key, one in found.items() if key not in (name, LENGTHS) and one.shape == (len(parts),)}
    titles = [f"sample {row}" for row in range(len(parts))]
    return Samples(parts, values.shape[-1], list(goals), fields, titles, str(path))


def _cut(path: Path, lengths: Array, values: Array) -> list[Array]:
    """Return the samples at their lengths, from padded or joined inputs."""
    is_padded = values.ndim == 3
    most = values.shape[1] if is_padded else len(values)
    if lengths.ndim != 1 or lengths.dtype.kind not in "iu" or not ((lengths > 0) & (lengths <= most)).all():
        got = f"{lengths.dtype} of shape {lengths.shape}"
        raise ValueError(f"{path}: {LENGTHS} must hold whole numbers from 1 to {most}, one for each sample, got {got}")
    if is_padded and len(lengths) != len(values):
        raise ValueError(f"{path}: {LENGTHS} holds {len(lengths):,} numbers, and the inputs {len(values):,} samples")
    if is_padded:
        return [sample[:length] for sample, length in zip(values, lengths, strict=True)]
    if int(lengths.sum()) != len(values):
        raise ValueError(
            f"{path}: {LENGTHS} add up to {int(lengths.sum()):,} steps, and the inputs hold {len(values):,}"
        )
    return np.split(values, np.cumsum(lengths)[:-1])


def load(path: Path) -> dict[str, Array]:
    """Return the arrays of a `.npz` file. Raises: OSError; ValueError that names the file."""
    with files.open_regular(path) as file:
        return decode_npz(file, str(path))


def decode_npz(file: BinaryIO, name: str, most: int = files.MOST_DATA_BYTES) -> dict[str, Array]:
    """Return the arrays of an open `.npz` file. Raises: ValueError with its name, also for more than `most` bytes."""
    try:
        with zipfile.ZipFile(file) as archive:
            entries = [entry for entry in archive.infolist() if entry.filename.endswith(".npy")]
            total = sum(entry.file_size for entry in entries)
            if total > most:
                raise ValueError(f"it says that it holds {total:,} bytes; more than {most:,} are not read")
            found = {}
            for entry in entries:
                with archive.open(entry) as stored:
                    found[entry.filename.removesuffix(".npy")] = decode_npy(stored.read(), entry.filename)
            return found
    except (ValueError, OSError, EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        why = printable(" ".join(str(error).split()), 200) or type(error).__name__
        raise ValueError(f"{name} is not a .npz file that can be read: {why}") from None


def names_of(path: Path) -> list[str]:
    """Return the names of the arrays of a `.npz` file; none if it cannot be read, which `load` then reports."""
    try:
        with files.open_regular(path) as file, zipfile.ZipFile(file) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist()]
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError):
        return []


def _load_npy(path: Path) -> Array:
    try:
        return decode_npy(files.read_bytes(path, files.MOST_DATA_BYTES), path.name)
    except ValueError as error:
        raise ValueError(f"{path} is not a .npy file that can be read: {error}") from None


def decode_npy(content: bytes, name: str) -> Array:
    """Decode a `.npy` file. The size in its header is compared with the data before anything is allocated.

    Raises: ValueError that names it.
    """
    file = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file, max_header_size=_HEADER)
    except (ValueError, SyntaxError, OverflowError) as error:
        raise ValueError(f"{name}: {printable(' '.join(str(error).split()), _MOST_SHOWN)}") from None
    if dtype.hasobject:
        raise ValueError(f"{name} holds Python objects, which could run code; save numbers or texts")
    expected, there = math.prod(shape) * dtype.itemsize, len(content) - file.tell()
    if expected != there:
        raise ValueError(f"{name} says that it holds {expected:,} bytes, and there are {there:,}")
    file.seek(0)
    return np.asarray(np.load(file, allow_pickle=False))


def _named(path: Path, found: dict[str, Array], given: str | None, usual: tuple[str, ...], key: str) -> str:
    name = given if given is not None else next((name for name in usual if name in found), None)
    if name in found:
        return str(name)
    wanted = f"no array {given}" if given is not None else f"none of {', '.join(usual)}"
    held = printable(", ".join(found), _MOST_SHOWN) or "no array"
    raise ValueError(f"{path} holds {held}, and {wanted}: give task.{key}=NAME")
