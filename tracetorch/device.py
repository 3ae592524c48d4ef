"""Devices by name; the number of CPU threads; the widest float and the cache size of a device."""

from functools import cache
from pathlib import Path

import torch


def resolve(name: str) -> torch.device:
    """The device that a name stands for.

    Args: name: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:N" or "mps".
    Raises: ValueError with a message of one sentence, if the name is none of these or this machine has no such device.
    """
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    kind, colon, number = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (colon and not (kind == "cuda" and number.isdecimal())):
        raise ValueError(f"device={name} is not a device: use auto, cpu, cuda, cuda:0 (or another number) or mps")
    if kind == "cuda" and not cuda:
        build = "a CPU build" if torch.version.cuda is None else f"built for CUDA {torch.version.cuda}"
        raise ValueError(f"device={name}: torch {torch.__version__} ({build}) sees no CUDA GPU here; use device=cpu")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise ValueError(f"device={name}: this machine has cuda:0 to cuda:{torch.cuda.device_count() - 1}")
    if kind == "mps" and not mps:
        raise ValueError("device=mps: this machine has no Apple GPU that torch can use; use device=cpu")
    return torch.device(name)


def use_threads(count: int | None) -> None:
    """Set the number of CPU threads of torch and of the compiled kernels. Args: count: None: as at start-up."""
    initial = _initial_threads()  # read before the first `set_num_threads`
    torch.set_num_threads(count or initial)


@cache
def _initial_threads() -> int:
    return torch.get_num_threads()


def widest_float(device: torch.device) -> torch.dtype:
    """The widest float of a device: float64, except on Apple's GPUs."""
    return torch.float32 if device.type == "mps" else torch.float64


def cache_bytes(device: torch.device) -> int:
    """Size of the L2 cache: of a GPU, or of a CPU core times the number of threads. An unknown size counts as 1 MiB."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).L2_cache_size)
    return _core_cache() * torch.get_num_threads() if device.type == "cpu" else _DEFAULT_CACHE


_DEFAULT_CACHE = 1 << 20


@cache
def _core_cache() -> int:
    try:
        size = Path("/sys/devices/system/cpu/cpu0/cache/index2/size").read_text().strip()
        return int(size[:-1]) << {"K": 10, "M": 20}[size[-1]]
    except (OSError, ValueError, KeyError, IndexError):
        return _DEFAULT_CACHE
