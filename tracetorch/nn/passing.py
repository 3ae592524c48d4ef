"""How a chunk passes from layer to layer: each hands its outputs on to the one above, or goes through it at once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import torch

from tracetorch import kernels
from tracetorch.kernels import Drive, Onward, Sink

if TYPE_CHECKING:
    from tracetorch.nn.layer import TraceLayer


def pass_up(layers: Sequence[TraceLayer], drive: Drive, sink: Sink) -> None:
    """A chunk through layers one above the other. Args: drive: of the first; sink: takes the outputs of the last."""
    *below, last = layers
    for lower, upper in pairwise(below):
        drive = _hand_on(lower, upper, drive)
    if not below:
        last.emit(drive, sink)
    elif _is_one_scan(below[-1], last):
        _go_through(below[-1], last, drive, sink)
    else:
        last.emit(_hand_on(below[-1], last, drive), sink)


def _hand_on(below: TraceLayer, above: TraceLayer, drive: Drive) -> Drive:
    """The outputs of one layer to the one above, whose trace takes them in the same pass. Returns: what drives that."""
    _check(below, above)
    steps, batch, _ = drive.size
    dtype = kernels.spike_dtype(above.weight, above.product_dtype) if below.spiking else below.weight.dtype
    outputs = torch.empty(steps, batch, below.out_features, dtype=dtype, device=below.weight.device)
    sink = Sink(outputs=outputs, trace=above.trace_of(above.own_state(batch)))
    below.emit(drive, sink)
    return above.drive_of(outputs, fired=sink.fired)


def _go_through(below: TraceLayer, above: TraceLayer, drive: Drive, sink: Sink) -> None:
    _check(below, above)
    steps, batch, _ = drive.size
    state = above.own_state(batch)
    onward = Onward(str(above.kernel), above.weight, above.bias, state.membrane, above.constants, sink)
    below.emit(drive, Sink(trace=above.trace_of(state), onward=onward))
    state.steps.add_(steps)


def _is_one_scan(below: TraceLayer, above: TraceLayer) -> bool:
    """Whether both have kernels, and no scan of their own, and it is faster."""
    both = below.scans_as_usual and above.scans_as_usual
    return both and kernels.goes_on(below.weight, above.weight, above.product_dtype)


def _check(below: TraceLayer, above: TraceLayer) -> None:
    if above.in_features != below.out_features:
        raise ValueError(f"{below} gives {below.out_features} outputs, but {above} takes {above.in_features}")
    above.check_place(below.weight.device)
