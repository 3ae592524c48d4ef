"""Which data a config names, by a hash of their content, wherever they lie."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from tracetorch.files import MOST_DATA_BYTES, expanded, find_idx, open_regular

READERS = {"MNIST": "source", "SequentialMNIST": "source"}
"""Tasks of traceTorch that read files, and the argument that names the folder."""

DIGITS = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
"""The files that they read, each gzipped or not."""

RESERVED = ("sample", "download")
"""Sources that are no folders: their content is the same everywhere."""

_CHUNK = 1 << 20


def data_of(config: Mapping[str, Any]) -> dict[str, str]:
    """The data that a config names: the hash of their content by the dotted key that names them.

    Data that are missing or cannot be read have no hash; nor have those of tasks that are not part of traceTorch.
    """
    found = {key: content_hash(value) for key, value in _named(config, "")}
    return {key: made for key, made in found.items() if made}


def content_hash(source: str) -> str | None:
    """A short hash of the files of digits in a folder; None if it does not have them all."""
    digest = hashlib.sha256()
    try:
        folder = expanded(source)
        for name in DIGITS:
            digest.update(_hash_of_one(folder, name))
    except (OSError, ValueError):
        return None
    return digest.hexdigest()[:12]


def _hash_of_one(folder: Path, name: str) -> bytes:
    path = find_idx(folder, name) or folder / name
    with open_regular(path) as file:
        stat = os.fstat(file.fileno())
    if stat.st_size > MOST_DATA_BYTES:
        raise ValueError(f"{path} is larger than {MOST_DATA_BYTES:,} bytes")
    return _hash_of_file(os.path.realpath(path), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=256)
def _hash_of_file(path: str, size: int, mtime_ns: int) -> bytes:
    """Args: size, mtime_ns: of the file now; a file that changes has others, and is read again."""
    del mtime_ns
    digest = hashlib.sha256()
    with open_regular(Path(path)) as file:
        left = size
        while left > 0 and (chunk := file.read(min(left, _CHUNK))):
            digest.update(chunk)
            left -= len(chunk)
    return digest.digest()


def _named(node: Any, path: str) -> Iterator[tuple[str, str]]:
    """Keys and values of a config that name data."""
    if isinstance(node, Mapping):
        module, _, name = str(node.get("_target_", "")).rpartition(".")
        argument = READERS.get(name) if f"{module}.".startswith("tracetorch.tasks.") else None
        value = node.get(argument) if argument else None
        if isinstance(value, str) and value not in RESERVED:
            yield f"{path}{argument}", value
        for key, inner in node.items():
            yield from _named(inner, f"{path}{key}.")
    elif isinstance(node, list | tuple):
        for at, inner in enumerate(node):
            yield from _named(inner, f"{path}{at}.")
