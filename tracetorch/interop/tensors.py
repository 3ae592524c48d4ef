"""Weights of networks in files of safetensors: named tensors, with a run's config as metadata."""

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
from tracetorch.nn import Layer, Sequential
from tracetorch.optional import library
from tracetorch.printable import printable
from tracetorch.runs.records import to_json

_MOST_HEADER_BYTES = 16 << 20
_LENGTH_BYTES = 8  # of the header's length, at the start of a file
_ALLOWED = "tracetorch.nn."  # the only targets in a file's config that are called
_HYDRA_KEYS = ("_target_", "_partial_")


def write_safetensors(
    path: str | Path, net: Sequential | Layer, config: Mapping[str, Any] | None = None, **facts: str
) -> None:
    """Write weights by name, as in `net.state_dict()`, atomically.

    Args:
        config: of a run, for the metadata; from it, `read_safetensors` makes the network.
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
        net: the network to fill; None: a new one, made from the config in the metadata, which must be
            `tracetorch.nn.feedforward` with layers of `tracetorch.nn`.
    Returns: the network.
    Raises: OSError; ValueError that names the file if it is not of this format, is damaged, holds NaN or infinity, has
        no usable config, or belongs to another network; ImportError without the package safetensors.
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
        net = _network(metadata, weights) if net is None else net
    except Exception as error:
        raise ValueError(
            f"{path} does not say how to make its network ({printable(error, 160)}): give one, net=…"
        ) from error
    expected = net.state_dict()
    for name in [*expected, *weights]:
        stored, own = weights.get(name), expected.get(name)
        if stored is None or own is None or stored.shape != own.shape:
            found, wanted = ("nothing" if value is None else f"shape {tuple(value.shape)}" for value in (stored, own))
            raise ValueError(
                f"{path} belongs to another network: {printable(name)} is {found} in it, {wanted} in this one"
            )
    net.load_state_dict(weights)
    return net


def _metadata(path: Path, content: bytes) -> dict[str, Any]:
    """Return the metadata in the header. Raises: ValueError if the header is longer than the file, or is not JSON."""
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


def _network(metadata: Mapping[str, Any], weights: Mapping[str, Tensor]) -> Any:
    """Return a new network as the config in the metadata describes it. Raises: an error for an unusable config."""
    if "config" not in metadata:
        raise ValueError("its metadata have no config")
    config, sizes = (files.parse_json(str(metadata[name]).encode()) for name in ("config", "sizes"))
    network = config["network"]
    if network["_target_"] != f"{_ALLOWED}feedforward":
        raise ValueError(f"{printable(network['_target_'], 60)} is not {_ALLOWED}feedforward")
    widths = [int(size) for size in (sizes[0], *network["hidden"], sizes[1])]
    if sum(a * b for a, b in pairwise(widths)) > sum(value.numel() for value in weights.values()):
        raise ValueError("its config describes a larger network than its weights")  # before memory is allocated
    dtype = next(value.dtype for value in weights.values() if value.is_floating_point())
    return _instance(network)(*sizes).to(dtype)


def _instance(node: Any) -> Any:
    """Return the object that a part of a config describes, as Hydra would make it.

    Raises: ValueError for a target that is not a public name of `tracetorch.nn`.
    """
    if isinstance(node, list):
        return [_instance(inner) for inner in node]
    if not isinstance(node, dict):
        return node
    target = str(node.get("_target_"))
    found: Any = layers
    for name in target.removeprefix(_ALLOWED).split("."):
        if not target.startswith(_ALLOWED) or name not in found.__all__:
            raise ValueError(f"{printable(target, 60)} is not part of tracetorch.nn")
        found = getattr(found, name)
    options = {key: _instance(inner) for key, inner in node.items() if key not in _HYDRA_KEYS}
    return partial(found, **options) if node.get("_partial_") else found(**options)
