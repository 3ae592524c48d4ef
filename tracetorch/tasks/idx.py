"""The IDX format of the MNIST files, gzipped or not. Memory is bounded by what a file holds, not by what it says."""

from __future__ import annotations

import gzip
import math
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from tracetorch.files import MOST_DATA_BYTES, find_idx, open_regular
from tracetorch.printable import printable

_UNSIGNED_BYTE = 0x08
_GZIP = b"\x1f\x8b"
_MOST_UNFOLDED = 1032  # bytes from one byte, in the format of gzip
_CHUNK = 1 << 20


def find(folder: Path, name: str) -> Path:
    """The file `name` in a folder; see `find_idx`. Raises: FileNotFoundError that says what was looked for."""
    found = find_idx(folder, name)
    if found is None:
        held = sorted(path.name for path in folder.iterdir())
        holds = f"it holds {printable(', '.join(held), 100)}" if held else "it is empty"
        raise FileNotFoundError(f"{folder} holds no {name}.gz and no {name}; {holds}")
    return found


def read(path: Path) -> Tensor:
    """Read one IDX file of bytes.

    Returns: uint8, the shape that its header says: (images, height, width) or (labels,).
    Raises: ValueError, one sentence, if the file is broken: not IDX, not bytes, cut short or too long.
    """
    body = bytearray()
    with _opened(path) as (file, stored, factor):
        shape = _shape(path, file, stored, factor)
        claimed = math.prod(shape)
        while len(body) < claimed and (chunk := file.read(min(_CHUNK, claimed - len(body)))):
            body += chunk  # it grows with what there is, not with what the header says
        more = bool(file.read(1))
    if more or len(body) < claimed:
        there = "there are more" if more else f"there are {len(body):,}"
        raise ValueError(f"{path} says it holds {claimed:,} bytes of data, but {there}")
    return torch.frombuffer(body, dtype=torch.uint8).reshape(shape) if body else torch.empty(shape, dtype=torch.uint8)


def shape_of(path: Path) -> tuple[int, ...]:
    """The shape that the header of an IDX file says. Raises: as `read`."""
    with _opened(path) as (file, stored, factor):
        return _shape(path, file, stored, factor)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, int, int]]:
    """A file, unfolded while it is read; its size; and how many bytes one of its bytes can stand for."""
    with open_regular(path) as file:
        stored = os.fstat(file.fileno()).st_size
        is_gzipped = file.read(2) == _GZIP
        file.seek(0)
        if not is_gzipped:
            yield file, stored, 1
            return
        try:
            with gzip.GzipFile(fileobj=file) as unfolded:
                yield unfolded, stored, _MOST_UNFOLDED  # type: ignore[misc]
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"{path} is damaged or cut short (gzip: {error}); fetch it again") from None


def _shape(path: Path, file: BinaryIO, stored: int, factor: int) -> tuple[int, ...]:
    start = file.read(4)
    sizes = file.read(4 * start[3]) if len(start) == 4 else b""
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] != _UNSIGNED_BYTE or len(sizes) < 4 * start[3]:
        raise ValueError(f"{path} is not an IDX file of bytes, such as MNIST's")
    shape = tuple(int.from_bytes(sizes[at : at + 4], "big") for at in range(0, len(sizes), 4))
    claimed, there = math.prod(shape), stored if factor > 1 else stored - 4 - len(sizes)
    if claimed > there * factor or (factor == 1 and claimed != there):
        at_most = f"at most {there * factor:,}" if factor > 1 else f"{there:,}"
        raise ValueError(f"{path} says it holds {claimed:,} bytes of data, but there are {at_most}")
    if math.prod(max(1, length) for length in shape) > MOST_DATA_BYTES:
        raise ValueError(f"{path} has the shape {shape[:8]}; more than {MOST_DATA_BYTES:,} bytes are not read")
    return shape
