"""Checkpoints: weights, states, optimizer, counters and random numbers, in tensors and plain values.

What is not in them is a function of the config and the number of the update: trials, and spikes.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tracetorch.files import write_whole
from tracetorch.nn import Sequential


def save_checkpoint(path: Path, net: Sequential, optimizer: torch.optim.Optimizer, **counters: Any) -> None:
    """Write weights, states, optimizer, torch's random numbers and counters, whole, with a checksum over all of it.

    Args: counters: plain values and tensors, such as update=120; data and spikes are functions of them and the seed.
    """
    content = {
        "net": net.state_dict(),
        "state": net.save_state(),
        "optimizer": optimizer.state_dict(),
        "random": {"cpu": torch.get_rng_state(), "cuda": _cuda_states()},
        **counters,
    }
    buffer = io.BytesIO()
    torch.save({**content, "checksum": _checksum(content)}, buffer)
    path.parent.mkdir(exist_ok=True)
    write_whole(path, buffer.getvalue())


def load_checkpoint(path: Path, net: Sequential, optimizer: torch.optim.Optimizer | None = None) -> dict[str, Any]:
    """Put a checkpoint's weights and states into a network; its optimizer's state into an optimizer, if there is one.

    Returns: the rest of it, such as {"update": 120, "random": …}.
    Raises: FileNotFoundError if there is none; ValueError, one sentence, if it is broken or of another network.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint {path}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        checksum = content.pop("checksum")
        whole = checksum == _checksum(content)
    except Exception as error:  # torch raises whatever its unpickler meets; none of it should reach the user as it is
        raise ValueError(f"{path} is damaged ({type(error).__name__})") from error
    if not whole:
        raise ValueError(f"{path} is damaged: its content is not what was written")
    try:
        net.load_state_dict(content.pop("net"))
        net.load_state(content.pop("state"))
        settled = content.pop("optimizer")
        if optimizer is not None:
            optimizer.load_state_dict(settled)
    except Exception as error:
        raise ValueError(f"{path} belongs to another network or optimizer ({type(error).__name__})") from error
    return content


def restore_random(states: Mapping[str, Any]) -> None:
    """Let torch's own random numbers go on as they would have when a checkpoint was written. Args: its "random"."""
    torch.set_rng_state(states["cpu"])
    if states["cuda"] and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])


def _cuda_states() -> list[Tensor]:
    return torch.cuda.get_rng_state_all() if torch.cuda.is_available() and torch.cuda.is_initialized() else []


def _checksum(content: Any) -> str:
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
