"""Base class of layers and networks: steps, runs over time cut into chunks, and the backward pass."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import Module

from tracetorch import backends
from tracetorch import device as devices
from tracetorch.backends import LazySpikes, OutputSpec
from tracetorch.encode import Stream, chunk_size
from tracetorch.modes import check_tensor, unaffected, whole, without_graph
from tracetorch.nn.local_gradient import At, Gradients, accumulate, with_gradient

MAX_CHUNK = 1024  # steps; longer chunks only take more memory
_CACHES = 8  # size of a chunk's widest tensor, in caches; 4 and 16 were slower on 784-256-10 with batch 128
_MOST_BYTES = 1 << 25  # limit of the same: sequences shorter than a chunk need memory that depends on their length
_SMALL_BATCH = 16  # a smaller batch has chunks of the same length: each sample's currents stay in the cache of its core

Shape = tuple[int, ...]


class Network(Module, ABC):
    """A layer, or a chain of layers."""

    @property
    @abstractmethod
    def chain(self) -> list[Any]:
        """The layers, from the first to the last."""

    @abstractmethod
    def _prepare(self, batch: int, in_shape: Shape) -> Shape:
        """Make the states for input of this shape. Returns: the shape of one sample's output. Raises: as `run`."""

    @abstractmethod
    def advance(self, xs: Tensor | LazySpikes, out: OutputSpec) -> None:
        """Run one chunk, (time, batch, *in_shape), without a graph."""

    @abstractmethod
    def local_gradients(
        self, signal: Tensor, *, at: At = "output", return_input_grad: bool = True
    ) -> tuple[Gradients, Tensor | None]:
        """Return the gradients and dL/d average input, as `backward` computes them; `.grad` stays unchanged."""

    @abstractmethod
    def _step(self, x: Tensor) -> Tensor:
        """One step without a graph."""

    def forward(self, x: Tensor) -> Tensor:
        """One step. Args: x (batch, *in_shape). Returns: output (batch, *features), with one autograd node.

        The node's backward pass is that of `backward`: see `nn.local_gradient`. No node under `torch.no_grad()`.
        """
        if torch.is_grad_enabled() and isinstance(x, Tensor):  # the step raises for anything else
            return with_gradient(self, partial(self._step, x.detach()), x)
        return self._step(x)

    def run(
        self, xs: Tensor | Stream, *, reduce: str | None = None, window: int | None = None, chunk: int | None = None
    ) -> Tensor:
        """Run many steps: the same dynamics as one call for each step, for any length of the chunks.

        Args:
            xs: (time, batch, *in_shape), a tensor or a Stream.
            reduce: None for the output of every step; "mean" for the mean output.
            window: with "mean", number of steps at the end that count; None: all.
            chunk: steps that go through a layer at once; None: chosen to stay in cache.
        Returns: (time, batch, *features), or (batch, *features) for "mean".
        Memory: O(time) without `reduce`; independent of time with it.
        Hooks: forward hooks and pre-hooks of the network and of its layers are called once a chunk, with input and
            output of all its steps, which they may replace. `EProp` and `OTTT` call no hooks when they run a
            stretch of time again; `BPTT` treats the steps that it keeps as one chunk. Backward hooks, and torch's
            global forward hooks, are not called.
        """
        source = xs.source if isinstance(xs, Stream) else xs if isinstance(xs, Tensor) else None
        run = partial(run_chunks, self, xs, reduce=reduce, window=window, chunk=chunk)
        return with_gradient(self, run, source)

    def backward(self, signal: Tensor, *, at: At = "output", return_input_grad: bool = True) -> Tensor | None:
        """Add the gradients of all layers to `.grad`, the last layer first.

        It may be called after any step, and repeatedly.

        Args:
            signal: dL/d average output, (batch, *features).
            at: "logits": the signal is dL/d logits, and the derivative of the softmax is not applied.
            return_input_grad: whether to compute dL/d average input, (batch, *in_shape), for a module below.
        Returns: dL/d average input, or None.
        Hooks: backward hooks of the network and of its layers are not called.
        """
        found, below = self.local_gradients(signal, at=at, return_input_grad=return_input_grad)
        accumulate(found)
        return below


@contextmanager
def state_aside(net: Network) -> Iterator[None]:
    """Restore the state of a network after the `with` block, in the same memory unless a caller holds that memory."""
    before = [
        (layer, layer.live_state, layer._lent, layer.live_state and layer.live_state.copy()) for layer in net.chain
    ]
    try:
        yield
    finally:
        for layer, state, lent, kept in before:
            if state is None or lent:  # it did not change
                after = state
            elif layer._lent or layer._state is not state:  # a caller may hold it
                after = kept
            else:
                after = state
                for value, old in zip(state.tensors, kept.tensors, strict=True):
                    value.copy_(old)
            layer._put(_state=after, _spare=None, _lent=lent, _state_changes=layer._state_changes + 1)


# ── chunks ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@unaffected
@without_graph
def run_chunks(
    net: Network,
    xs: Tensor | Stream,
    *,
    reduce: str | None,
    window: int | None,
    chunk: int | None,
    advance: Callable[[Tensor | LazySpikes, OutputSpec], None] | None = None,
) -> Tensor:
    """See `Network.run`. Args: advance: in place of `Network.advance`; it calls the hooks of the network itself."""
    stream = as_stream(xs, reduce, window)
    given = None if chunk is None else chunk_size(chunk)  # refused before the state is prepared
    batch, *in_shape = stream.shape
    net.chain[0]._check_chunk((stream.steps, batch, *in_shape))
    shape, like = net._prepare(batch, tuple(in_shape)), net.chain[-1]._like
    start, first = 0, stream.steps - (window or stream.steps)
    all_outputs = like.new_empty(stream.steps, batch, *shape) if reduce is None else None
    wide_dtype = devices.widest_float(like.device)  # a float32 sum of spikes would stop growing at 2²⁴
    total = None if reduce is None else torch.zeros(batch, *shape, dtype=wide_dtype, device=like.device)
    size = given or chunk_steps(net.chain, batch)
    with nullcontext() if size >= stream.steps else _same_weights(net):
        for part in stream.parts(size):
            steps = part.size[0] if isinstance(part, LazySpikes) else len(part)
            outputs = None if all_outputs is None else all_outputs[start : start + steps].flatten(2)
            flat_total = None if total is None else total.flatten(1)
            out = OutputSpec(outputs=outputs, total=flat_total, first=max(0, first - start))
            if advance is not None:
                advance(part, out)
            elif has_hooks(net):
                out.take_chunk(run_with_hooks(net, part).flatten(2))
            else:
                net.advance(part, out)
            start += steps
    return all_outputs if total is None else (total / (stream.steps - first)).to(like.dtype)  # type: ignore[return-value]


@contextmanager
def _same_weights(net: Network) -> Iterator[None]:
    """Context in which kernels keep transposed weights, unless a hook may change the weights."""
    kept = [layer._columns for layer in net.chain if layer._columns is not None]
    are_constant = not any(map(has_hooks, (net, *net.chain)))
    try:
        for columns in kept:
            columns.lasting, columns.filled = are_constant, False
        yield
    finally:
        for columns in kept:
            columns.lasting = columns.filled = False


def chunk_steps(layers: list[Any], batch: int) -> int:
    """Length of a chunk: as many steps as keep its widest tensor within a few times the cache."""
    like = layers[0]._like
    step_bytes = max(batch, _SMALL_BATCH) * max(layer._widest for layer in layers) * like.element_size()
    chunk_bytes = min(_MOST_BYTES, _CACHES * devices.cache_bytes(like.device))
    return min(MAX_CHUNK, max(1, chunk_bytes // step_bytes))


def as_stream(xs: Tensor | Stream, reduce: str | None, window: int | None) -> Stream:
    """The input as a stream. Raises: ValueError for too few dimensions, or a wrong `reduce` or `window`."""
    if not isinstance(xs, Stream):
        check_tensor(xs, "run")
        if xs.ndim < 3:
            raise ValueError(f"run expects (time, batch, features), got shape {tuple(xs.shape)}")
        tensor = xs.detach()
        xs = Stream(lambda start, stop: tensor[start:stop], len(tensor), tuple(tensor.shape[1:]))
    if reduce not in (None, "mean"):
        raise ValueError(f'reduce must be None (all outputs) or "mean", got {reduce!r}')
    if window is not None and (reduce is None or not 1 <= whole(window, "window") <= xs.steps):
        raise ValueError(f'window={window} needs reduce="mean" and lies between 1 and the {xs.steps} steps of xs')
    return xs


# ── forward hooks: torch calls them for a single step only ──────────────────────────────────────────────────────────


def has_hooks(module: Module) -> bool:
    """Whether a forward hook may read or change a module's input or output."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def call_with_hooks(module: Module, forward: Callable[[Tensor], Tensor], xs: Tensor) -> Tensor:
    """`forward(xs)` between the forward pre-hooks and the forward hooks of a module."""
    if not has_hooks(module):
        return forward(xs)
    vars(module)["forward"] = forward  # hides the method, so that torch itself calls every kind of hook
    try:
        with torch.enable_grad():  # a hook may compute a weight from trained parameters, as pruning does
            return cast(Tensor, module(xs)).detach()
    finally:
        del vars(module)["forward"]


def run_with_hooks(module: Network, xs: Tensor | LazySpikes) -> Tensor:
    """The outputs of a chunk, (time, batch, *features), with hooks."""

    def advance(xs: Tensor) -> Tensor:
        steps, batch, *in_shape = xs.shape
        shape = module._prepare(batch, tuple(in_shape))
        outputs = module.chain[-1]._like.new_empty(steps, batch, *shape)
        module.advance(xs, OutputSpec(outputs=outputs.flatten(2)))
        return outputs

    return call_with_hooks(module, advance, backends.spikes(xs) if isinstance(xs, LazySpikes) else xs)
