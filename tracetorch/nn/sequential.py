"""Layers one after another, with the same interface as a single layer."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from typing import Any, cast, overload

import torch
from torch import Tensor
from torch.nn import Module, ModuleList

from tracetorch.encode import Stream
from tracetorch.kernels import Draws, Sink
from tracetorch.modes import kind_of
from tracetorch.nn.autograd import with_gradient
from tracetorch.nn.gradients import accumulate
from tracetorch.nn.graph import StepGraph
from tracetorch.nn.hooks import has_hooks, pass_on
from tracetorch.nn.layer import TraceLayer
from tracetorch.nn.learning import At, Gradients, local_gradients
from tracetorch.nn.passing import pass_up
from tracetorch.nn.running import run_chunks, source_of
from tracetorch.nn.state import check_saved


class Sequential(Module):
    """A chain of layers.

    Args: layers: one or more `TraceLayer`s, each with as many inputs as the one before has neurons.
    Memory: what its layers hold, independent of time.
    Example:
        >>> net = Sequential(tt.nn.LIF(4, 8), tt.nn.LIS(8, 2))
        >>> net.run(torch.rand(100, 1, 4), reduce="mean").shape
        torch.Size([1, 2])
    """

    _graph: StepGraph | None = None

    def __init__(self, *layers: TraceLayer):
        super().__init__()
        if not layers:
            raise ValueError("a network needs at least one layer")
        for layer in layers:
            _check_layer(layer)
        twice = [layer for at, layer in enumerate(layers) if any(layer is other for other in layers[:at])]
        if twice:
            raise ValueError(f"{twice[0]} is in the network twice: it has one state, and would count each step twice")
        for below, above in pairwise(layers):
            if below.out_features != above.in_features:
                raise ValueError(f"{below} gives {below.out_features} outputs, but {above} takes {above.in_features}")
        self.layers = ModuleList(layers)
        self.in_features, self.out_features = layers[0].in_features, layers[-1].out_features

    @property
    def precision(self) -> torch.dtype | None:
        """Dtype of the factors of every layer's forward matrix product; see `TraceLayer.precision`.

        Raises: ValueError on reading, if the layers were given different ones.
        """
        found = {layer.precision for layer in self}
        if len(found) > 1:
            raise ValueError(f"the layers have different precisions, {found}: ask each layer for its own")
        return found.pop()

    @precision.setter
    def precision(self, dtype: torch.dtype | None) -> None:
        for layer in self:
            layer.precision = dtype

    def forward(self, x: Tensor) -> Tensor:
        """One step. Args: x (batch, in_features). Returns: the last layer's output, with one node of autograd.

        The node's backward pass is that of `backward`: see `nn.autograd`. No node under `torch.no_grad()`.
        """
        if torch.is_grad_enabled():
            return with_gradient(self, partial(self._step, x.detach() if isinstance(x, Tensor) else x), x)
        return self._step(x)

    def _step(self, x: Tensor) -> Tensor:
        first: TraceLayer = next(iter(self))
        if first.weight.is_cuda and all(layer.kernel and not has_hooks(layer) for layer in self):
            self._graph = self._graph or StepGraph(self)
            return self._graph(x, self)
        for layer in self.layers:
            x = layer(x)
        return x

    def __getstate__(self) -> dict[str, Any]:
        """Without what holds addresses of this network's memory: a copy finds its own."""
        return self.__dict__ | {"_graph": None}

    @torch.no_grad()
    def advance(self, xs: Tensor | Draws, sink: Sink) -> None:
        """One chunk, (time, batch, in_features), layer by layer; `sink` takes the outputs. Builds no graph."""
        if any(map(has_hooks, self)):
            for layer in self:
                xs = pass_on(layer, xs)
            sink.take_chunk(cast(Tensor, xs))
        else:
            pass_up(list(self), self[0].driven_by(xs), sink)

    def run(
        self, xs: Tensor | Stream, *, reduce: str | None = None, window: int | None = None, chunk: int | None = None
    ) -> Tensor:
        """Many steps: the same dynamics as calling the network on each, however the time is cut into chunks.

        Args:
            xs: (time, batch, in_features), a tensor or a Stream that is made as it is read.
            reduce: None for the output of every step; "mean" for the mean output.
            window: with "mean", how many steps at the end count; all, if None.
            chunk: steps that go through a layer at once; chosen to stay in cache, if None.
        Returns: (time, batch, out_features), or (batch, out_features) for "mean".
        Memory: O(time) without `reduce`, because that is what was asked for; independent of time with it.
        Hooks: forward hooks and pre-hooks of the network and of its layers are called once a chunk, with input and
            output of all its steps, (time, batch, features). What they return takes the place of these, except where
            `EProp` and `OTTT` run a stretch again to learn from it: they call none. `BPTT` takes all for one chunk.
            Backward hooks of the network and of its layers, and torch's global forward hooks, are not called by it.
        """
        run = partial(run_chunks, self, self, xs, reduce=reduce, window=window, chunk=chunk)
        return with_gradient(self, run, source_of(xs))

    def backward(self, signal: Tensor, *, at: At = "output", below: bool = True) -> Tensor | None:
        """Learn, from the last layer to the first; at any time, any number of times.

        Args:
            signal: dL/d average output of the network, (batch, out_features).
            at: "logits" if it is dL/d that of which this is the softmax: then its derivative is not applied again.
            below: whether anything below the network is to learn.
        Returns: dL/d average input of the network, (batch, in_features): the signal for what lies below it, if asked.
        Hooks: autograd takes no part, so backward hooks of the network and of its layers are not called.
        """
        found, told = self.local_gradients(signal, at=at, below=below)
        accumulate(found)
        return told

    def local_gradients(
        self, signal: Tensor, *, at: At = "output", below: bool = True
    ) -> tuple[Gradients, Tensor | None]:
        """As `backward`, but gives the gradients and leaves `.grad` alone."""
        above, told, found = None, cast("Tensor | None", signal), Gradients()
        for layer in reversed(self.chain):
            asks = below or layer is not self.chain[0]
            assert told is not None
            of_layer, told = local_gradients(layer, layer.present, told, above, at=at, below=asks)
            for parameter, gradient in of_layer.items():  # two layers may share a parameter
                found[parameter] = found[parameter] + gradient if parameter in found else gradient
            above, at = layer, "output"
        return found, told if told is None or told.ndim == 2 else told.sum(dim=0)

    def reset(self, lanes: Tensor | None = None) -> None:
        """Forget the state of every layer. Args: lanes: of which samples alone, bool (batch,); of all, if None."""
        for layer in self:
            layer.reset(lanes)

    def save_state(self) -> dict[str, Tensor]:
        """The states of all layers as named tensors: "0.membrane", "0.trace", …"""
        return {f"{at}.{name}": value for at, layer in enumerate(self) for name, value in layer.save_state().items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take up what `save_state` gave. Raises: ValueError if it belongs to another network."""
        check_saved(state)
        known = {str(at) for at in range(len(self))}
        strangers = {name for name in state if name.split(".")[0] not in known}
        if strangers:
            raise ValueError(f"a network of {len(self)} layers has no place for {', '.join(sorted(strangers))}")
        for at, layer in enumerate(self):
            prefix = f"{at}."
            layer.load_state({name.removeprefix(prefix): v for name, v in state.items() if name.startswith(prefix)})

    @property
    def chain(self) -> list[TraceLayer]:
        """The layers, from the first to the last."""
        return list(self)

    def __iter__(self) -> Iterator[TraceLayer]:
        return iter(self.layers._modules.values())  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(self.layers)

    @overload
    def __getitem__(self, at: int) -> TraceLayer: ...
    @overload
    def __getitem__(self, at: slice) -> Sequential: ...
    def __getitem__(self, at: int | slice) -> TraceLayer | Sequential:
        """A layer; or, for a slice, the network of these layers, which shares them."""
        if isinstance(at, slice):
            return Sequential(*self.chain[at])
        return cast("TraceLayer", self.layers[at])


def _check_layer(layer: object) -> None:
    """Raises: TypeError, with what to write instead, for what is not a layer."""
    if isinstance(layer, TraceLayer):
        return
    if isinstance(layer, type) and issubclass(layer, TraceLayer):
        advice = f"make a layer of it: {layer.__name__}(inputs, neurons)"
    elif isinstance(layer, list | tuple | Sequential):
        advice = "unpack it: Sequential(*layers)"
    elif isinstance(layer, Module):
        advice = "torch.nn.Sequential joins a network with modules of any kind"
    else:
        advice = "a layer is made by tracetorch.nn, such as LIF(784, 256)"
    raise TypeError(f"a network is made of layers of tt.nn, got {kind_of(layer)}; {advice}")
