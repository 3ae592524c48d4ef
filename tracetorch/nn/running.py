"""How anything with `advance(chunk)` runs over a stretch of time: cut it into chunks, keep all or only a mean."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tracetorch.encode import Stream

CHUNK_ELEMENTS = 1 << 20
"""At most this many numbers in the widest tensor of a chunk: 4 MiB in float32, about a core's share of cache."""

MAX_CHUNK = 512
"""At most this many steps in a chunk, however small the network: more would only take memory."""


def run_chunks(
    advance: Callable[[Tensor], Tensor],
    xs: Tensor | Stream,
    *,
    reduce: str | None,
    window: int | None,
    width: int,
    chunk: int | None,
) -> Tensor:
    """Feed `xs` to `advance` chunk by chunk.

    Args:
        advance: takes (k, batch, in) and gives (k, batch, out), remembering its state in between.
        xs: (time, batch, in), a tensor or a Stream.
        reduce: None for all outputs, "mean" for their mean over the last `window` steps.
        window: how many steps at the end count, for "mean"; all, if None.
        width: features of the widest layer, to choose a chunk that stays in cache.
        chunk: steps in a chunk, if you want to say.
    Returns: (time, batch, out), or (batch, out) for "mean".
    Memory: O(time) for all outputs; independent of time for "mean".
    """
    stream = xs if isinstance(xs, Stream) else _stream(xs)
    if reduce not in (None, "mean"):
        raise ValueError(f'reduce must be None (all outputs) or "mean", got {reduce!r}')
    if window is not None and (reduce is None or not 1 <= window <= stream.steps):
        raise ValueError(f'window={window} needs reduce="mean" and lies between 1 and the {stream.steps} steps of xs')
    size = min(MAX_CHUNK, max(1, CHUNK_ELEMENTS // max(1, stream.shape[0] * width))) if chunk is None else chunk
    outputs, total, start = [], torch.zeros(()), 0
    first = stream.steps - (window or stream.steps)
    for part in stream.chunks(size):
        output = advance(part)
        if reduce is None:
            outputs.append(output)
        elif start + len(part) > first:
            total = total.to(output.device) + output[max(0, first - start) :].sum(dim=0)
        start += len(part)
    return torch.cat(outputs) if reduce is None else total / (stream.steps - first)


def _stream(xs: Tensor) -> Stream:
    if xs.ndim != 3:
        raise ValueError(f"run expects (time, batch, features), got shape {tuple(xs.shape)}")
    return Stream(lambda start, stop: xs[start:stop], xs.shape[0], (xs.shape[1], xs.shape[2]))
