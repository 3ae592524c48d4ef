"""Hashes that identify an experiment, a run, and the data that its config names."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from tracetorch.files import MOST_DATA_BYTES, expanded, find_idx, leads_out, open_regular
from tracetorch.renamed import former
from tracetorch.runs.records import to_json

READERS = dict.fromkeys(("MNIST", "SequentialMNIST", "shd", "nmnist", "dvs_gesture"), ("source",)) | {
    "File": ("path", "test")
}
"""Tasks of traceTorch that read files, and the arguments that name a file or a folder."""

OF_DIGITS = ("MNIST", "SequentialMNIST")
DIGITS = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
"""The files that the tasks of `OF_DIGITS` read, each gzipped or not."""

_NO_FOLDERS = ("sample", "download")  # sources with the same content on every machine
_MOST_FILES = 1_000_000
_CHUNK = 1 << 20


def data_of(config: Mapping[str, Any]) -> dict[str, str]:
    """Hashes of the data that a config names, by dotted key.

    Data that cannot be read, and data of tasks that are not part of traceTorch, have no hash.
    """
    digests = {key: content_hash(value, files) for key, value, files in _sources(config, "")}
    return {key: digest for key, digest in digests.items() if digest}


def content_hash(source: str, names: Sequence[str] | None = DIGITS) -> str | None:
    """A short hash of a file, or of files in a folder.

    Args: names: of the files in a folder; None: all.
    Returns: None if there is no such file, or if one cannot be read.
    """
    digest = hashlib.sha256()
    try:
        folder = expanded(source)
        if names is not None:
            paths = [find_idx(folder, name) or folder / name for name in names]
        elif folder.is_dir():
            paths = sorted(path for path in folder.rglob("*") if path.is_file() and not leads_out(path, folder))
            digest.update("\0".join(path.relative_to(folder).as_posix() for path in paths).encode(errors="replace"))
        else:
            paths = [folder]
        for path in paths[:_MOST_FILES]:
            with open_regular(path) as file:
                stat = os.fstat(file.fileno())
            if stat.st_size > MOST_DATA_BYTES:
                raise ValueError(f"{path} is larger than {MOST_DATA_BYTES:,} bytes")
            digest.update(_hash_of_file(os.path.realpath(path), stat.st_size, stat.st_mtime_ns))
    except (OSError, ValueError):
        return None
    return digest.hexdigest()[:12]


@lru_cache(maxsize=256)
def _hash_of_file(path: str, size: int, mtime_ns: int) -> bytes:
    """Hash a file. Size and time are keys of the cache: a file that changes is read again."""
    del mtime_ns
    digest = hashlib.sha256()
    with open_regular(Path(path)) as file:
        left = size
        while left > 0 and (chunk := file.read(min(left, _CHUNK))):
            digest.update(chunk)
            left -= len(chunk)
    return digest.digest()


def _sources(node: Any, path: str) -> Iterator[tuple[str, str, Sequence[str] | None]]:
    """Dotted keys of a config that name data, their values, and the names of the files that count (None: all)."""
    if isinstance(node, Mapping):
        module, _, name = str(node.get("_target_", "")).rpartition(".")
        for argument in READERS.get(name, ()) if f"{module}.".startswith("tracetorch.tasks.") else ():
            value = node.get(argument)
            if isinstance(value, str) and value not in _NO_FOLDERS:
                yield f"{path}{argument}", value, DIGITS if name in OF_DIGITS else None
        for key, inner in node.items():
            yield from _sources(inner, f"{path}{key}.")
    elif isinstance(node, list | tuple):
        for at, inner in enumerate(node):
            yield from _sources(inner, f"{path}{at}.")


NOT_THE_EXPERIMENT = ("seed", "device", "threads", "output", "diagnostics", "logger")

_NOT_OF_PARTS = ("task.resume",)  # keys of parts that do not change the results of an uninterrupted run
_SHORT = {"truncated_bptt": "tbptt", "coarse_bptt": "coarse", "stllr": "s_tllr", "esdrtrl": "es_d_rtrl"}
"""Rules whose name, that of their preset, differs from that of their class."""


def group_of(config: Mapping[str, Any], data: Mapping[str, str] | None = None) -> str:
    """Hash of a resolved config without seeds, machine, outputs, diagnostics and loggers; equal for repetitions.

    Args: data: hashes from `data_of`; None: computed here. They replace the paths of the data.
    """
    return hash_of(experiment_of(config, data, seeds=False))


def id_of(config: Mapping[str, Any], data: Mapping[str, str] | None = None) -> str:
    """Hash of a resolved config with its seeds, which identifies one run on any device. Args: as in `group_of`."""
    return hash_of([experiment_of(config, data, seeds=True), config.get("seed")])


def facts_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of run.json that follow from a config and the data that it names."""
    rule = config.get("rule")
    name = name_of(str(rule.get("_target_", ""))) if isinstance(rule, dict) else rule
    data = data_of(config)
    return {
        "id": id_of(config, data),
        "group": group_of(config, data),
        "seed": config.get("seed"),
        "rule": name,
        **({"data": data} if data else {}),
    }


def name_of(target: str) -> str:
    """A name for a `_target_`: "adam" for "torch.optim.Adam", "three_factor" for "tracetorch.rules.ThreeFactor"."""
    name = re.sub(r"(?<=[a-z])(?=[A-Z]\w)", "_", target.rpartition(".")[2]).lower()
    return _SHORT.get(name, name)


def experiment_of(config: Mapping[str, Any], data: Mapping[str, str] | None, *, seeds: bool) -> dict[str, Any]:
    """The part of a config that defines the experiment, with hashes in place of the paths of data.

    Keys have their former names, so that runs of all versions with the same settings are one experiment.

    Args: data: as in `group_of`. seeds: whether the seeds of parts are included.
    """
    hashes = data_of(config) if data is None else data
    entries = {name: former(value) for name, value in config.items() if name not in NOT_THE_EXPERIMENT}
    if entries.get("init_from") in (None, "null"):  # `compare` reads None as "null"
        entries = {name: value for name, value in entries.items() if name not in ("init_from", "init_parts")}
    if not entries.get("frozen"):
        entries.pop("frozen", None)
    return {name: _identified(value, hashes, name, seeds) for name, value in entries.items()}


def _identified(value: Any, data: Mapping[str, str], path: str, seeds: bool) -> Any:
    if isinstance(value, Mapping):
        entries = {name: inner for name, inner in value.items() if f"{path}.{name}" not in _NOT_OF_PARTS}
        entries = {name: inner for name, inner in entries.items() if seeds or name != "seed"}
        return {name: _identified(inner, data, f"{path}.{name}", seeds) for name, inner in entries.items()}
    if isinstance(value, list | tuple):
        return [_identified(inner, data, f"{path}.{at}", seeds) for at, inner in enumerate(value)]
    return {"data": data[path]} if path in data else value


def hash_of(value: Any) -> str:
    """A short hash of plain values, independent of the order of keys."""
    ordered = to_json(_sorted(value))
    return hashlib.sha256(ordered.encode()).hexdigest()[:12]


def _sorted(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _sorted(value[name]) for name in sorted(value, key=str)}
    return [_sorted(inner) for inner in value] if isinstance(value, list | tuple) else value
