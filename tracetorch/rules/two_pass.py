"""Running a stretch of time twice: once for its output, and, once the learning signal is known, again to learn from it.

Rules that need the signal at every step, as if it had been there all along, get it this way in constant memory: a
stream is made again, and a state is small. Where a label is there from the start, once would do.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from tracetorch.encode import Stream
from tracetorch.modes import unaffected
from tracetorch.nn import Sequential
from tracetorch.nn.network import as_stream
from tracetorch.nn.state import LayerState

CHUNK = 64
"""Steps that go through a layer at once: enough for matrix products over time × batch rows, and no more memory."""


class Recording(NamedTuple):
    """A stretch of time that can be run again."""

    xs: Tensor | Stream
    first: int  # the first step that counts in the output
    share: float  # how much each counting step counts
    before: list[LayerState]  # the state of every layer before the stretch
    between: list[LayerState]  # and before the first step that counts


@unaffected
@torch.no_grad()
def record(net: Sequential, xs: Tensor | Stream, reduce: str | None, window: int | None) -> tuple[Tensor, Recording]:
    """Run over a stretch of time. Returns: its output, as `Sequential.run` gives it, and what it takes to run it again.

    Where every step's output is given, it is the last that counts. Raises: as `Sequential.run`.
    """
    count = as_stream(xs, reduce, window).steps
    before = _states(net, xs)
    first = count - (1 if reduce is None else window or count)
    if first <= 0:
        return net.run(xs, reduce=reduce, window=window), Recording(xs, 0, 1 / count, before, before)
    early = net.run(xs[:first], reduce=reduce, window=None if reduce is None else 1)
    between = _states(net, xs)
    late = net.run(xs[first:], reduce=reduce)
    output = torch.cat([early, late]) if reduce is None else late
    return output, Recording(xs, first, 1 / (count - first), before, between)


def check_signal(net: Sequential, recording: Recording | None, signal: Tensor) -> Recording:
    """Returns: what is to be learnt from. Raises: RuntimeError if nothing was run; ValueError for an odd signal."""
    if recording is None:
        raise RuntimeError("nothing was run since the last learning moment: call rule.forward(xs) before rule.backward")
    wanted = (len(recording.before[0].steps), net.out_features)
    if signal.shape != wanted:
        raise ValueError(f"expected a signal of shape {wanted}, got {tuple(signal.shape)}")
    return recording


def chunks(xs: Tensor | Stream) -> Iterator[tuple[int, Tensor]]:
    """The steps in order, `CHUNK` at a time, and the number of the first of them. It is the first chunk that is short.

    So the steps that count, which stand at the end, are in as few chunks as can be.
    """
    start, stop = 0, len(xs) % CHUNK or CHUNK
    while start < len(xs):
        part = xs[start:stop]
        yield start, part.dense() if isinstance(part, Stream) else part
        start, stop = stop, stop + CHUNK


def _states(net: Sequential, xs: Tensor | Stream) -> list[LayerState]:
    batch = xs.shape[0] if isinstance(xs, Stream) else xs.shape[1]
    return [layer.own_state(batch).copy() for layer in net]
