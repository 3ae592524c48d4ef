"""Weights of networks as files of safetensors: named tensors, and a run's config as metadata."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tracetorch import __version__, files
from tracetorch import nn as layers
from tracetorch.interop.optional import library
from tracetorch.nn import Layer, Sequential
from tracetorch.printable import printable
from tracetorch.runs.records import to_json

_MOST_HEADER_BYTES = 16 << 20
_LENGTH_BYTES = 8  # of the header's length, at the start of a file
_PLAIN = "tracetorch.nn."  # what a config's network may call
_SPECIAL = ("_target_", "_partial_")


def write_safetensors(
    path: str | Path, net: Sequential | Layer, config: Mapping[str, Any] | None = None, **facts: str
) -> None:
    """Write weights by name, as in `net.state_dict()`, atomically.

    Args:
        config: of a run, for the metadata, where `read_safetensors` finds how to make the network.
        facts: further entries of the metadata.
    Raises: files.WriteError; ImportError without the package safetensors.
    """
    save = library("safetensors.torch", "safetensors").save
    weights = {name: value.detach().cpu().contiguous().clone() for name, value in net.state_dict().items()}
    metadata = {"format": "pt", "tracetorch": __version__, **facts}
    if config is not None:
        metadata |= {
            "config": to_json(config),
            "sizes": to_json([net.chain[0].in_features, net.chain[-1].out_features]),
        }
    files.write_whole(Path(path), save(weights, metadata=metadata))


def read_safetensors(path: str | Path, net: Any = None) -> Any:
    """Read weights into a network.

    Args:
        path: of a file of any origin.
        net: the network to fill; None: made as the config in the metadata says, if that is `tracetorch.nn.feedforward`
            with layers of `tracetorch.nn`.
    Returns: the network.
    Raises: FileNotFoundError, OSError; ValueError that names the file if it is no such file, claims more than it has,
        has no usable config, or belongs to another network; ImportError without the package safetensors.
    """
    load, path = library("safetensors.torch", "safetensors").load, Path(path)
    content = files.read_bytes(path, files.MOST_DATA_BYTES)
    metadata = _metadata(path, content)
    try:
        weights: dict[str, Tensor] = load(content)
    except Exception as error:  # the library's own, about offsets, dtypes and shapes
        raise ValueError(f"{path} is not a file of safetensors, or is damaged: {printable(error, 100)}") from error
    for name, value in weights.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ValueError(f"{path} cannot be used: {printable(name)} is not finite")
    try:
        net = _made(metadata, weights) if net is None else net
    except Exception as error:
        raise ValueError(
            f"{path} does not say how to make its network ({printable(error, 160)}): give one, net=…"
        ) from error
    own = net.state_dict()
    for name in [*own, *weights]:
        here, there = own.get(name), weights.get(name)
        if here is None or there is None or here.shape != there.shape:
            found, own = ("nothing" if value is None else f"shape {tuple(value.shape)}" for value in (there, here))
            raise ValueError(
                f"{path} belongs to another network: {printable(name)} is {found} in it, {own} in this one"
            )
    net.load_state_dict(weights)
    return net


def _metadata(path: Path, content: bytes) -> dict[str, Any]:
    """The metadata in the header. Raises: ValueError if the header is longer than the file, or is not JSON."""
    length = int.from_bytes(content[:_LENGTH_BYTES], "little")
    if len(content) < _LENGTH_BYTES or length > min(len(content) - _LENGTH_BYTES, _MOST_HEADER_BYTES):
        raise ValueError(
            f"{path} is not a file of safetensors, or was cut short: it claims a header of {length:,} bytes"
        )
    try:
        header = files.parse_json(content[_LENGTH_BYTES : _LENGTH_BYTES + length])
    except ValueError as error:
        raise ValueError(f"{path} is not a file of safetensors: its header is not JSON: {error}") from None
    found = header.get("__metadata__", {}) if isinstance(header, dict) else {}
    return found if isinstance(found, dict) else {}


def _made(metadata: Mapping[str, Any], weights: Mapping[str, Tensor]) -> Any:
    if "config" not in metadata:
        raise ValueError("its metadata have no config")
    config, sizes = (files.parse_json(str(metadata[name]).encode()) for name in ("config", "sizes"))
    network = config["network"]
    if network["_target_"] != f"{_PLAIN}feedforward":
        raise ValueError(f"{printable(network['_target_'], 60)} is not {_PLAIN}feedforward")
    widths = [int(size) for size in (sizes[0], *network["hidden"], sizes[1])]
    if sum(a * b for a, b in pairwise(widths)) > sum(value.numel() for value in weights.values()):
        raise ValueError("its config describes a larger network than its weights")  # and would take any memory
    dtype = next(value.dtype for value in weights.values() if value.is_floating_point())
    return _instance(network)(*sizes).to(dtype)


def _instance(node: Any) -> Any:
    """A part of a config, as Hydra makes it, if it is of `tracetorch.nn` and its arguments are plain."""
    if isinstance(node, list):
        return [_instance(inner) for inner in node]
    if not isinstance(node, dict):
        return node
    target = str(node.get("_target_"))
    names = target.removeprefix(_PLAIN).split(".")
    made: Any = layers
    for name in names:
        if not target.startswith(_PLAIN) or name not in made.__all__:
            raise ValueError(f"{printable(target, 60)} is not part of tracetorch.nn")
        made = getattr(made, name)
    options = {key: _instance(inner) for key, inner in node.items() if key not in _SPECIAL}
    return partial(made, **options) if node.get("_partial_") else made(**options)
