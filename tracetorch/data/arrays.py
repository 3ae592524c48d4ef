"""NumPy files: `.npz` with inputs and targets by name, or `.npy` with inputs, and with targets in a second file."""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from difflib import get_close_matches
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tracetorch import files
from tracetorch.data.samples import Array, Samples, check_finite
from tracetorch.printable import printable

INPUTS = ("inputs", "input", "x", "X", "data", "spikes", "rates")
TARGETS = ("target", "targets", "label", "labels", "y", "Y")
LENGTHS = "lengths"
_MOST_HEADER_BYTES = 1 << 16  # more than the header of any .npy file takes
_MOST_SHOWN = 100  # characters in a message


def read_npz(path: Path, inputs: str | None = None, target: str | None = None) -> Samples:
    """Read a `.npz` file.

    The inputs are (samples, steps, channels), or (samples, channels), the rates or currents of a steady input. If
    samples differ in length, the array `lengths`, (samples,), holds their numbers of steps; the inputs are then padded
    to (samples, steps, channels), or joined to (sum of lengths, channels). The target has one entry for each sample, or
    for each step in the layout of the inputs. Every array with one value for each sample is a field. Arrays of Python
    objects are refused.

    Args: inputs, target: names of arrays; None: the first name in `INPUTS` or `TARGETS` that the file has.
    Raises: OSError; ValueError that names the file, says what was found and what is wanted.
    """
    found = load(path)
    name = _named(path, found, inputs, INPUTS, "inputs")
    target_name = _named(path, found, target, TARGETS, "target")
    return _samples(path, name, target_name, found)


def read_npy(path: Path, target: str | None) -> Samples:
    """Read two `.npy` files, with the inputs and with the targets; see `read_npz` for their shapes.

    Args: target: the file with the targets: a path from the folder of the first file, or any other path.
    Raises: OSError; ValueError that names the file, says what was found and what is wanted.
    """
    if target is None:
        raise ValueError(f"{path} holds inputs alone: give the file of the targets, task.target=NAME.npy")
    nearby = path.parent / target
    target_path = nearby if nearby.exists() else files.expanded(target)
    return _samples(path, path.name, target, {path.name: _load_npy(path), target: _load_npy(target_path)})


def _samples(path: Path, name: str, target_name: str, found: dict[str, Array]) -> Samples:
    """Return samples.

    Args: name, target_name: of the arrays with the inputs and the targets. found: all arrays of the file, by name.
    Raises: ValueError for inputs, lengths or targets that do not fit together.
    """
    values, target = found[name], found[target_name]
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
    targets: Any = target
    lengths = found.get(LENGTHS)
    if lengths is not None:
        parts = _cut(path, lengths, values)
        if values.ndim == 3 and target.shape[:2] == values.shape[:2]:
            targets = [row[: len(part)] for row, part in zip(target, parts, strict=True)]
        elif values.ndim == 2 and target.shape[:1] == values.shape[:1] and len(values) != len(parts):
            targets = np.split(target, np.cumsum(lengths)[:-1])
    if target.ndim < 1 or len(targets) != len(parts):
        raise ValueError(f"{path}: {name} holds {len(parts):,} samples, and {target_name} has the shape {target.shape}")
    fields = {key: each for key, each in found.items() if key not in (name, LENGTHS) and each.shape == (len(parts),)}
    titles = [f"sample {row}" for row in range(len(parts))]
    named = (target_name.removesuffix(".npy"),)
    return Samples(parts, values.shape[-1], list(targets), fields, titles, str(path), target_names=named)


def _cut(path: Path, lengths: Array, values: Array) -> list[Array]:
    """Return the samples without padding, (steps, channels) each, from padded or joined inputs.

    Raises: ValueError for lengths that do not fit the inputs.
    """
    is_padded = values.ndim == 3
    most = values.shape[1] if is_padded else len(values)
    if lengths.ndim != 1 or lengths.dtype.kind not in "iu" or not ((lengths > 0) & (lengths <= most)).all():
        got = f"{lengths.dtype} of shape {lengths.shape}"
        if lengths.ndim == 1 and lengths.dtype.kind in "iu":
            wrong = int(np.flatnonzero((lengths <= 0) | (lengths > most))[0])
            got = f"{int(lengths[wrong]):,} for sample {wrong}"
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
    """Return the arrays of an open `.npz` file.

    Args: name: of the file, for messages. most: number of bytes, decompressed, that are read.
    Raises: ValueError that names the file if it is damaged, is larger, or holds Python objects.
    """
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
    """Return the names of the arrays of a `.npz` file. A file that cannot be read has none here; `load` reports it."""
    try:
        with files.open_regular(path) as file, zipfile.ZipFile(file) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist()]
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError):
        return []


def _load_npy(path: Path) -> Array:
    """Return the array of a `.npy` file. Raises: OSError; ValueError that names the file."""
    try:
        return decode_npy(files.read_bytes(path, files.MOST_DATA_BYTES), path.name)
    except ValueError as error:
        raise ValueError(f"{path} is not a .npy file that can be read: {error}") from None


def decode_npy(content: bytes, name: str) -> Array:
    """Decode a `.npy` file. The size in its header is compared with the data before anything is allocated.

    Args: name: of the file, for messages.
    Raises: ValueError that names the file if it is damaged or holds Python objects.
    """
    file = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file, max_header_size=_MOST_HEADER_BYTES)
    except (ValueError, SyntaxError, OverflowError) as error:
        raise ValueError(f"{name}: {printable(' '.join(str(error).split()), _MOST_SHOWN)}") from None
    if dtype.hasobject:
        raise ValueError(f"{name} holds Python objects, which could run code; save numbers or texts")
    expected, actual = math.prod(shape) * dtype.itemsize, len(content) - file.tell()
    if expected != actual:
        raise ValueError(f"{name} says that it holds {expected:,} bytes, and there are {actual:,}")
    file.seek(0)
    return np.asarray(np.load(file, allow_pickle=False))


def _named(path: Path, found: dict[str, Array], given: str | None, usual: tuple[str, ...], key: str) -> str:
    """Return the name of an array: the given one, or the first usual one. Raises: ValueError if the file has none."""
    name = given if given is not None else next((name for name in usual if name in found), None)
    if name in found:
        return str(name)
    held = printable(", ".join(found), _MOST_SHOWN) or "no array"
    if given is None:
        raise ValueError(f"{path} holds {held}, and none of {', '.join(usual)}: give task.{key}=NAME")
    close = get_close_matches(given, found, n=1)
    raise ValueError(f"{path} holds {held}, and no array {given}{f'; did you mean {close[0]}?' if close else ''}")
