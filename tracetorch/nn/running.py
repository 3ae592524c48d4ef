"""How layers run over a stretch of time: cut it into chunks, keep all outputs or only their mean."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tracetorch import device as devices
from tracetorch.encode import Stream
from tracetorch.kernels import Draws, Sink
from tracetorch.modes import check_tensor, unaffected, whole
from tracetorch.nn.hooks import advance_with_hooks

if TYPE_CHECKING:
    from tracetorch.nn.layer import TraceLayer
    from tracetorch.nn.sequential import Sequential

MAX_CHUNK = 1024
"""At most this many steps in a chunk, however small the network: more would only take memory."""

_CACHES = 8
"""Size of a chunk's widest tensor, in caches: on 784-256-10 with batch 128, half and twice as much took longer."""

_MOST_BYTES = 1 << 25
"""Of a chunk's widest tensor, however large the cache: so that short sequences take as much memory as long ones."""

_SMALL_BATCH = 16
"""A smaller batch does not make chunks longer: each sample's currents shall stay in the cache of its core."""


@unaffected
@torch.no_grad()
def run_chunks(
    layers: Iterable[TraceLayer],
    module: TraceLayer | Sequential,
    xs: Tensor | Stream,
    *,
    reduce: str | None,
    window: int | None,
    chunk: int | None,
) -> Tensor:
    """Feed `xs` to a layer or a network chunk by chunk.

    Args:
        layers: those that run, from the first to the last.
        module: that layer, or the network of these layers.
        xs: (time, batch, in), a tensor or a Stream.
        reduce: None for all outputs, "mean" for their mean over the last `window` steps.
        window: how many steps at the end count, for "mean"; all, if None.
        chunk: steps in a chunk, if you want to say.
    Returns: (time, batch, out), or (batch, out) for "mean".
    Memory: O(time) for all outputs; independent of time for "mean".
    """
    stream = as_stream(xs, reduce, window)
    layers, batch = list(layers), stream.shape[0]
    weight, features = layers[-1].weight, layers[-1].out_features
    start, first = 0, stream.steps - (window or stream.steps)
    keep = weight.new_empty(stream.steps, batch, features) if reduce is None else None
    wide = devices.widest_float(weight.device)  # a sum in float32 would stop counting spikes at 2²⁴ of them
    total = None if reduce is None else torch.zeros(batch, features, dtype=wide, device=weight.device)
    for part in stream.parts(chunk_steps(layers, batch) if chunk is None else chunk):
        steps = part.size[0] if isinstance(part, Draws) else len(part)
        outputs = None if keep is None else keep[start : start + steps]
        advance_with_hooks(module, part, Sink(outputs=outputs, total=total, first=max(0, first - start)))
        start += steps
    return keep if total is None else (total / (stream.steps - first)).to(weight.dtype)  # type: ignore[return-value]


def source_of(xs: Tensor | Stream) -> Tensor | None:
    """What an input over time was made from, if that is to get a gradient."""
    return xs.source if isinstance(xs, Stream) else xs if isinstance(xs, Tensor) else None


def chunk_steps(layers: list[TraceLayer], batch: int) -> int:
    """How many steps go through a layer at once.

    Enough for one matrix product over time × batch rows, and for what a call costs, to be worth while; and no more than
    what leaves the widest tensor of a chunk, (time, batch, features), within a few times the cache.
    """
    weight = layers[0].weight
    widest = max(max(layer.in_features, layer.out_features) for layer in layers)
    row = max(batch, _SMALL_BATCH) * widest * weight.element_size()
    room = min(_MOST_BYTES, _CACHES * devices.cache_bytes(weight.device))
    return min(MAX_CHUNK, max(1, room // row))


def as_stream(xs: Tensor | Stream, reduce: str | None, window: int | None) -> Stream:
    """What is to be run, as a stream. Raises: ValueError if it has another shape, or cannot be reduced like that."""
    if not isinstance(xs, Stream):
        check_tensor(xs, "run")
        if xs.ndim != 3:
            raise ValueError(f"run expects (time, batch, features), got shape {tuple(xs.shape)}")
        tensor = xs.detach()
        xs = Stream(lambda start, stop: tensor[start:stop], len(tensor), (tensor.shape[1], tensor.shape[2]))
    if reduce not in (None, "mean"):
        raise ValueError(f'reduce must be None (all outputs) or "mean", got {reduce!r}')
    if window is not None and (reduce is None or not 1 <= whole(window, "window") <= xs.steps):
        raise ValueError(f'window={window} needs reduce="mean" and lies between 1 and the {xs.steps} steps of xs')
    return xs
