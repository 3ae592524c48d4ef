"""Checkpoints: weights, states, optimizer and counters, in tensors and plain numbers.

What is not in them is a function of the config and the number of the update: trials, spikes, the schedule's step size.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch

from tracetorch.files import write_whole
from tracetorch.nn import Sequential


def save_checkpoint(path: Path, net: Sequential, optimizer: torch.optim.Optimizer, **counters: Any) -> None:
    """Write weights, states, optimizer and counters, whole.

    Args: counters: plain numbers and tensors, such as update=120; data and spikes are functions of them and the seed.
    """
    content = {"net": net.state_dict(), "state": net.save_state(), "optimizer": optimizer.state_dict(), **counters}
    buffer = io.BytesIO()
    torch.save(content, buffer)
    path.parent.mkdir(exist_ok=True)
    write_whole(path, buffer.getvalue())


def load_checkpoint(path: Path, net: Sequential, optimizer: torch.optim.Optimizer | None = None) -> dict[str, Any]:
    """Put a checkpoint's weights and states into a network, and its optimizer's state into an optimizer.

    Returns: the rest of it, such as {"update": 120}.
    Raises: FileNotFoundError if there is none; ValueError, one sentence, if it is broken or of another network.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint {path}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        net.load_state_dict(content.pop("net"))
        net.load_state(content.pop("state"))
        settled = content.pop("optimizer")
        if optimizer is not None:
            optimizer.load_state_dict(settled)
    except Exception as error:  # torch raises whatever its unpickler meets; none of it should reach the user as it is
        raise ValueError(f"{path} is damaged or belongs to another network ({type(error).__name__})") from error
    return content
