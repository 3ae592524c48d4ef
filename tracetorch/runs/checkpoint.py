"""Checkpoints: weights, states, optimizer, counters and generator states.

Trials and spikes are not stored: they follow from the seed and from these values.
"""

from __future__ import annotations

import errno
import hashlib
import io
import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tracetorch.files import read_json, sync_folder, write_whole
from tracetorch.nn import Sequential
from tracetorch.printable import printable
from tracetorch.runs.stored import read_stored


class DamagedError(ValueError):
    """The content of a checkpoint differs from what was written."""


def save_checkpoint(path: str | Path, net: Sequential, optimizer: torch.optim.Optimizer, **entries: Any) -> None:
    """Write weights, states, optimizer, torch's generator states and further entries, with a checksum of all.

    Args: entries: plain values and tensors, such as update=120.
    Raises: OSError if the file cannot be written.
    """
    path = Path(path)
    has_cuda_state = torch.cuda.is_available() and torch.cuda.is_initialized()
    content = {
        "net": net.state_dict(),
        "state": net.save_state(),
        "optimizer": optimizer.state_dict(),
        "random": {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all() if has_cuda_state else []},
        **entries,
    }
    buffer = io.BytesIO()
    torch.save({**content, "checksum": checksum_of(content)}, buffer)
    if not path.parent.is_dir():
        path.parent.mkdir(exist_ok=True)
        sync_folder(path.parent.parent)
    write_whole(path, buffer.getvalue())


def load_checkpoint(
    path: str | Path, net: Sequential, optimizer: torch.optim.Optimizer | None = None
) -> dict[str, Any]:
    """Load the weights and states of a network and, if an optimizer is given, the state of the optimizer.

    Returns: the other entries of the checkpoint, such as {"update": 120, "random": …}.
    Raises: FileNotFoundError, ValueError as `read_checkpoint`. ValueError also for the checkpoint of another network, a
        weight that is not finite, or a NaN state; with an optimizer, also for NaN in its state or a part's (except the
        task's), or a setting of another type. Network and optimizer may then be changed.
    """
    content, misfit = read_checkpoint(path), ""
    try:
        misfit = _first_misfit(net, content["net"])
        fault = _first_not_finite(net, content["net"], content["state"])
        optimizer_state = content.pop("optimizer")
        if optimizer is not None and not fault:
            parts = {name: part for name, part in content.get("parts", {}).items() if name != "task"}  # data may be NaN
            fault = _first_nan("optimizer", optimizer_state) or _first_nan("parts", parts)
        if not fault:
            net.load_state_dict(content.pop("net"))
            net.load_state(content.pop("state"))
        if optimizer is not None and not fault:
            fault = _load_optimizer(optimizer, optimizer_state)
    except Exception as error:
        why = f": {misfit}" if misfit else f" ({type(error).__name__})"
        raise ValueError(f"{path} belongs to another network or optimizer{why}") from error
    if fault:
        raise ValueError(f"{path} cannot be used: {fault}")
    return content


def _first_misfit(net: Sequential, weights: Mapping[str, Tensor]) -> str:
    """Describe the first weight whose shape differs from the network's; "" if there is none."""
    own = net.state_dict()
    for name, value in weights.items():
        if name in own and own[name].shape != value.shape:
            return f"{name} has the shape {tuple(value.shape)} in it, and {tuple(own[name].shape)} in this network"
    return ""


def _first_not_finite(net: Sequential, weights: Mapping[str, Tensor], states: Mapping[str, Tensor]) -> str:
    """Describe the first weight that is not finite although the network's is, or the first NaN state; "" if none."""
    own = net.state_dict()
    for name, value in weights.items():
        if not bool(torch.isfinite(value).all()) and (name not in own or bool(torch.isfinite(own[name]).all())):
            return f"{name} is not finite in it"
    return _first_nan("state", states)


def _first_nan(name: str, value: Any) -> str:
    """Describe the first tensor in a value that holds NaN, by its dotted name; "" if there is none."""
    if isinstance(value, Tensor):
        return f"{name} is NaN in it" if bool(torch.isnan(value).any()) else ""
    if isinstance(value, list | tuple):
        value = dict(enumerate(value))
    inner = value.items() if isinstance(value, Mapping) else ()
    return next((fault for key, item in inner if (fault := _first_nan(f"{name}.{key}", item))), "")


def _load_optimizer(optimizer: torch.optim.Optimizer, optimizer_state: dict[str, Any]) -> str:
    """Load a state into an optimizer, and check the types of its settings, which torch does not.

    Returns: the first setting of another type, in words; "" if there is none.
    """
    before = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
    optimizer.load_state_dict(optimizer_state)
    for own, found in zip(before, optimizer.param_groups, strict=True):
        for name, value in own.items():
            if value is not None and _kind(found.get(name)) != _kind(value):
                shown = printable(repr(found.get(name)), 40)
                return f"the optimizer's {name} is {shown} in it, which has another type than {value!r}"
    return ""


def _kind(value: Any) -> str:
    """Name the type of a setting. A tensor with one element is a "number"; NaN has a type of its own."""
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_kind, value))}]"
    if isinstance(value, bool) or value is None:
        return "switch"
    if isinstance(value, int | float):
        return "NaN" if math.isnan(value) else "number"
    return type(value).__name__


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint to the CPU, and check its checksum, the run that it belongs to, and the types of its entries.

    Memory: a small multiple of the file's size, for any content.
    Raises: FileNotFoundError if there is none; ValueError if it is damaged, cannot be read, or belongs to another run
        than its folder.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint {path}")
    try:
        content = read_stored(path)
        checksum = content.pop("checksum")
        is_intact = checksum == checksum_of(content)
    except Exception as error:  # the parsers' own errors do not help the user
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # EINVAL: a seek to before the start
            raise ValueError(f"{path} cannot be read: {error.strerror}") from error
        raise DamagedError(f"{path} is damaged ({type(error).__name__})") from error
    if not is_intact:
        raise DamagedError(f"{path} is damaged: its content is not what was written")
    for name, (fits, meaning) in _ENTRIES.items():
        if name in content and not fits(content[name]):
            raise DamagedError(f"{path} is damaged: {name!r} is not {meaning}")
    _check_run(path, content.get("run_id"))
    return content


def _check_run(path: Path, run_id: str | None) -> None:
    """Raises: ValueError if the run id of a checkpoint differs from that of its folder.

    Earlier versions wrote no id. Their runs have none in run.json, or got one when they were resumed; both pass.
    """
    try:
        facts = read_json(path.parent.parent / "run.json")
    except (OSError, ValueError):
        return
    own = facts.get("run_id") if isinstance(facts, dict) else None
    if not isinstance(own, str) or run_id == own or (run_id is None and facts.get("resumed")):
        return
    why = " (it has no run_id)" if run_id is None else ""
    raise ValueError(f"{path} is the checkpoint of another run than {path.parent.parent}{why}")


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 62


def _is_seconds(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < math.inf


def _is_dict_of(fits: Callable[[Any], bool], value: Any) -> bool:
    return isinstance(value, dict) and all(map(fits, value.values()))


def _are_generator_states(value: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("cuda"), list):
        return False
    return all(isinstance(state, Tensor) and state.dtype == torch.uint8 for state in (value.get("cpu"), *value["cuda"]))


_ENTRIES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "update": (_is_count, "a whole number from 0 up"),
    "records": (_is_count, "a whole number from 0 up"),
    "wall_seconds": (_is_seconds, "a number from 0 up"),
    "timings": (partial(_is_dict_of, _is_seconds), "seconds by name"),
    "parts": (partial(_is_dict_of, lambda state: isinstance(state, dict)), "states by name"),
    "random": (_are_generator_states, "torch's generator states"),
    "sizes": (
        lambda value: isinstance(value, list) and len(value) == 2 and all(map(_is_count, value)),
        "numbers of inputs and outputs",
    ),
    "run_id": (lambda value: isinstance(value, str), "text"),
}
"""Checks of entries that a checkpoint may have, by name; with a description of the values that pass."""


def restore_random(states: Mapping[str, Any]) -> None:
    """Restore torch's generators; CUDA's only on as many devices. Args: states: the entry "random" of a checkpoint."""
    torch.set_rng_state(states["cpu"])
    if states["cuda"] and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])


def checksum_of(content: Any) -> str:
    """A hash of the values of a checkpoint."""
    digest = hashlib.sha256()

    def feed(value: Any) -> None:
        if isinstance(value, Tensor):
            digest.update(f"{value.dtype}{tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        elif isinstance(value, Mapping):
            for name, inner in value.items():
                digest.update(repr(name).encode())
                feed(inner)
        elif isinstance(value, list | tuple):
            digest.update(str(len(value)).encode())
            for inner in value:
                feed(inner)
        else:
            digest.update(repr(value).encode())

    feed(content)
    return digest.hexdigest()
