"""The inner loops over time, and the draws. Everything else calls these functions, and knows no device.

Each has a reference in plain torch, which runs on any device and in any dtype, and a compiled version for CPUs and for
CUDA that gives the same numbers, to the bit where it can. Which one runs is decided here, by device and dtype.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tracetorch.kernels import reference
from tracetorch.kernels.counter import Draws, draw, limit_of
from tracetorch.kernels.drive import Drive
from tracetorch.kernels.sink import Onward, Sink
from tracetorch.kernels.trace import Trace

if TYPE_CHECKING:
    from tracetorch.kernels.cpu.step import Stepper

__all__ = [
    "Draws", "Drive", "Onward", "Sink", "Trace", "currents", "draw", "draw_below", "goes_on", "limit_of", "names",
    "scan", "spike_dtype", "spikes", "stepper", "trace_scan",
]  # fmt: skip


def scan(neuron: str, drive: Drive, membrane: Tensor, constants: tuple[Tensor, ...], sink: Sink) -> None:
    """A layer over a chunk of time, its membrane and traces in place.

    Args:
        neuron: "lif", "li" or "lis"; see `reference.lif_scan` and its neighbours.
        constants: decay, and for "lif" the threshold.
    """
    getattr(_kernels(membrane), f"{neuron}_scan")(drive, membrane, *constants, sink)


def stepper(
    neuron: str,
    weight: Tensor,
    bias: Tensor | None,
    raw: list[Tensor],
    constants: Callable[[Any], tuple[tuple[Tensor, ...], Trace]],
) -> Stepper | None:
    """One step of a layer as one compiled call, if there is such a kernel for it; see `cpu.step.Stepper`."""
    kernels = _kernels(weight)
    return None if kernels is reference else kernels.stepper(neuron, weight, bias, raw, constants)


def currents(drive: Drive) -> Tensor:
    """Currents for a neuron without a kernel, (time, batch, neurons); see `reference.currents`."""
    return drive.xs if drive.weight is None else _kernels(drive.weight).currents(drive)  # type: ignore[return-value]


def trace_scan(xs: Tensor, trace: Trace) -> None:
    """A chunk of input, (time, batch, inputs), into its trace alone; see `reference.trace_scan`."""
    _kernels(trace.values).trace_scan(xs, trace)


def spikes(draws: Draws) -> Tensor:
    """Spikes as a tensor, (time, batch, channels); see `reference.spikes`."""
    return (_of(draws.samples.device) or reference).spikes(draws)


def draw_below(probability: Tensor, seed: int, steps: range, samples: Tensor) -> Tensor:
    """True with the given probability: `draw(...) < probability`, without making the uniform numbers.

    Args:
        probability: in [0, 1], (batch, channels) or (time, batch, channels); resolved to 2⁻²⁴.
        seed, steps, samples: as in `draw`.
    Returns: (time, batch, channels), bool. Probability 0 is never and 1 is always True.
    """
    return spikes(Draws(limit_of(probability), seed, steps, samples, torch.bool))


def spike_dtype(weight: Tensor, precision: torch.dtype) -> torch.dtype:
    """In which dtype a layer best hands its spikes on to one with this weight, whose product has this precision."""
    return torch.bool if weight.device.type == "cpu" and _kernels(weight) is not reference else precision


def goes_on(below: Tensor, above: Tensor, precision: torch.dtype) -> bool:
    """Whether the scan of a layer best goes on through the one above, `Sink.onward`, whose input then is nowhere kept.

    Args:
        below, above: weights of the two layers, (neurons, inputs).
        precision: of the product above.
    """
    kernels = _kernels(below)
    return precision == below.dtype == above.dtype and hasattr(kernels, "goes_on") and kernels.goes_on(below, above)


def names() -> dict[str, str]:
    """Which kernels run on which device, in words."""
    found = {"cpu": "numba" if _numba() else "torch (install numba for speed)"}
    if torch.cuda.is_available():
        found["cuda"] = "triton" if _triton() else "torch (install triton for speed)"
    return found | {"other devices": "torch"}


def _kernels(tensor: Tensor) -> ModuleType:
    if tensor.dtype not in (torch.float32, torch.float64):
        return reference
    return _of(tensor.device) or reference


def _of(device: torch.device) -> ModuleType | None:
    return _numba() if device.type == "cpu" else _triton() if device.type == "cuda" else None


@cache
def _numba() -> ModuleType | None:
    try:
        from numba.core import config  # noqa: PLC0415

        if getattr(config, "DISABLE_JIT", False):  # uncompiled they take minutes, and NumPy's integers overflow in them
            raise RuntimeError("NUMBA_DISABLE_JIT is set")
        from tracetorch.kernels import cpu  # noqa: PLC0415 (numba takes half a second to load)
    except (
        ImportError,
        RuntimeError,
    ) as error:  # RuntimeError also: no folder in which numba may keep what it compiles
        _missing("numba", error)
        return None
    return cpu


@cache
def _triton() -> ModuleType | None:
    try:
        from tracetorch.kernels import cuda  # noqa: PLC0415 (it is there only beside CUDA)

        cuda.probe()
    except Exception as error:  # whatever a compiler, a driver or a GPU that is too old may come up with
        _missing("triton", error)
        return None
    return cuda


def _missing(name: str, error: Exception) -> None:
    why, lines = "is missing" if isinstance(error, ImportError) else "does not work here", str(error).splitlines()
    message = "%s %s (%s): the slower torch kernels run instead"
    logging.getLogger("tracetorch").warning(message, name, why, lines[0] if lines else type(error).__name__)
