"""The IDX format of the MNIST files, gzipped or not."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import torch
from torch import Tensor

_UNSIGNED_BYTE = 0x08


def find(folder: Path, name: str) -> Path:
    """The file `name` in a folder, gzipped or not. Raises: FileNotFoundError that says what was looked for."""
    for path in (folder / f"{name}.gz", folder / name):
        if path.is_file():
            return path
    raise FileNotFoundError(f"{folder} holds no {name}.gz and no {name}")


def read(path: Path) -> Tensor:
    """Read one IDX file of bytes.

    Returns: uint8, the shape that its header says: (images, height, width) or (labels,).
    Raises: ValueError, one sentence, if the file is broken: not IDX, not bytes, cut short or too long.
    """
    content = path.read_bytes()
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"{path} is damaged or cut short (gzip: {error}); fetch it again") from None
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != _UNSIGNED_BYTE or len(content) < 4 + 4 * content[3]:
        raise ValueError(f"{path} is no IDX file of bytes, such as MNIST's")
    dimensions = content[3]
    shape = [int.from_bytes(content[at : at + 4], "big") for at in range(4, 4 + 4 * dimensions, 4)]
    body = bytearray(content[4 + 4 * dimensions :])
    if len(body) != math.prod(shape):
        raise ValueError(f"{path} says it holds {math.prod(shape):,} bytes of data, but there are {len(body):,}")
    return torch.frombuffer(body, dtype=torch.uint8).reshape(shape) if body else torch.empty(shape, dtype=torch.uint8)
