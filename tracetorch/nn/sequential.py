"""Layers one after another, with the same interface as a single layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple, cast, overload

import torch
from torch import Tensor
from torch.nn import Module, ModuleList

from tracetorch import backends
from tracetorch.backends import FusedReadout, LazySpikes, OutputSpec, SlopeSums, TraceBuffers
from tracetorch.modes import kind_of, numbers, without_graph
from tracetorch.nn.graph import StepGraph
from tracetorch.nn.layer import LI, Layer
from tracetorch.nn.local_gradient import At, Gradients, local_gradients
from tracetorch.nn.network import Network, Shape, has_hooks, run_with_hooks
from tracetorch.nn.neurons import Neuron, Values
from tracetorch.nn.state import check_saved


class StretchSums(NamedTuple):
    """Where a pass adds up a layer's input and the slopes of its neurons, and where it writes outputs."""

    inputs: TraceBuffers  # the layer's trace, and the sums
    slopes: SlopeSums | None  # or membranes
    outputs: Tensor | None = None  # (time, batch, out_features), of a layer below another


class Sequential(Network):
    """A chain of layers.

    Args: layers: one or more `Layer`s, each with as many inputs as the one before has outputs. Outputs with several
        dimensions are flattened for a layer with a `torch.nn.Linear` connection.
    Memory: what its layers hold, independent of time.
    Example:
        >>> net = Sequential(tt.nn.LIF(4, 8), tt.nn.LIS(8, 2))
        >>> net.run(torch.rand(100, 1, 4), reduce="mean").shape
        torch.Size([1, 2])
    """

    _graph: StepGraph | None = None

    def __init__(self, *layers: Layer):
        super().__init__()
        if not layers:
            raise ValueError("a network needs at least one layer")
        for layer in layers:
            _check_layer(layer)
        repeated = [layer for at, layer in enumerate(layers) if any(layer is other for other in layers[:at])]
        if repeated:
            raise ValueError(
                f"{repeated[0]} is in the network twice: it has one state, and would count each step twice"
            )
        for below, above in pairwise(layers):
            if None not in (below.out_features, above.in_features) and below.out_features != above.in_features:
                raise ValueError(f"{below} gives {below.out_features} outputs, but {above} takes {above.in_features}")
        self.layers = ModuleList(layers)
        self.in_features, self.out_features = layers[0].in_features, layers[-1].out_features

    @property
    def precision(self) -> torch.dtype | None:
        """Dtype of the factors of every layer's forward matrix product; see `Layer.precision`.

        Raises: ValueError on reading, if the layers have different precisions.
        """
        found = {layer.precision for layer in self}
        if len(found) > 1:
            raise ValueError(f"the layers have different precisions, {found}: read the one of each layer")
        return found.pop()

    @precision.setter
    def precision(self, dtype: torch.dtype | None) -> None:
        for layer in self:
            layer.precision = dtype

    def _step(self, x: Tensor) -> Tensor:
        layers: Any = self._modules["layers"]._modules.values()  # type: ignore[union-attr]
        first = next(iter(layers))
        if (
            first._compiled_step is None
            and first._like.is_cuda
            and all(backends.one_step(layer._traits) == "graph" and not has_hooks(layer) for layer in self)
        ):
            self._graph = self._graph or StepGraph(self)
            return self._graph(x, self)
        for layer in layers:
            x = layer(x if isinstance(x, Tensor) and x.ndim == 2 else as_input(layer, x, 1))
        return x

    def __getstate__(self) -> dict[str, Any]:
        """Drops compiled handles: they point into this network's memory."""
        return self.__dict__ | {"_graph": None}

    def _prepare(self, batch: int, in_shape: Shape) -> Shape:
        for layer in self:
            in_shape = layer._prepare(batch, _flat(layer, in_shape))
        return in_shape

    @without_graph
    def advance(self, xs: Tensor | LazySpikes, out: OutputSpec) -> None:
        if any(map(has_hooks, self)):
            for layer in self:
                xs = run_with_hooks(layer, xs if isinstance(xs, LazySpikes) else as_input(layer, xs, 2))
            out.take_chunk(cast(Tensor, xs).flatten(2))
        else:
            self.run_layers(xs, out)

    def run_layers(self, xs: Tensor | LazySpikes, out: OutputSpec, sums: Sequence[StretchSums] | None = None) -> None:
        """Run the layers in order; a fused readout runs in the scan of the layer below it.

        Args: sums: of each layer, which are added up or written, too; see `dispatch.sums_slopes`.
        """
        chain = self.chain
        if isinstance(xs, Tensor) and sums is None:
            compiled = [layer._bound_step(xs.shape[1]) for layer in chain]
            if None not in compiled and backends.pass_through(compiled, xs, out):
                return
        trace: TraceBuffers | None
        xs, trace = chain[0]._prepare_chunk(xs)
        if sums:
            trace, out.slopes = sums[0].inputs, sums[-1].slopes
        fired: int | None = None
        for at, (below, above) in enumerate(pairwise(chain)):
            steps, batch = (xs.size if isinstance(xs, LazySpikes) else xs.shape)[:2]
            shape = tuple(below.own_state(batch).neuron[0].shape[1:])
            state = above.own_state(batch, _flat(above, shape))
            above._check_weight(below._like.device)
            constants, above_trace = above._constants_of(state)
            through = OutputSpec(trace=above_trace)
            if sums:
                through.trace, through.slopes = sums[at + 1].inputs, sums[at].slopes
            if at == len(chain) - 2 and backends.fuses_readout(below._traits, above._traits):
                through.outputs = sums[at].outputs if sums else None
                kernel, membrane = str(above.neuron.kernel), state.neuron.membrane
                through.readout = FusedReadout(kernel, above.weight, above.bias, membrane, constants, out)
                below._run_neurons(xs, through, trace, fired)
                state.steps.add_(steps)
                return
            dtype = backends.spike_dtype(above._traits) if below.neuron.spiking else below._like.dtype
            outputs = sums[at].outputs if sums else None
            if outputs is None:
                outputs = torch.empty(steps, batch, *shape, dtype=dtype, device=below._like.device)
            through.outputs = outputs.flatten(2)
            below._run_neurons(xs, through, trace, fired)
            xs, trace, fired = as_input(above, outputs, 2), None, through.fired
        chain[-1]._run_neurons(xs, out, trace, fired)

    def local_gradients(
        self, signal: Tensor, *, at: At = "output", return_input_grad: bool = True
    ) -> tuple[Gradients, Tensor | None]:
        above, below, found = None, cast("Tensor | None", signal), Gradients()
        for layer in reversed(self.chain):
            wants_input_grad = return_input_grad or layer is not self.chain[0]
            assert below is not None
            if above is not None and layer.out_features is None:  # the layer above flattens its input
                below = below.reshape(layer.live_state.neuron[0].shape) if layer.live_state is not None else below
            of_layer, below = local_gradients(
                layer, layer.live_state, below, above, at=at, return_input_grad=wants_input_grad
            )
            for parameter, gradient in of_layer.items():  # two layers may share a parameter
                found[parameter] = found[parameter] + gradient if parameter in found else gradient
            above, at = layer, "output"
        if below is not None and len(self.chain[0].input_trace.trace_bank):
            below = below.sum(dim=0)
        return found, below

    def reset(self, mask: Tensor | None = None) -> None:
        """Forget the state of every layer. Args: mask: the samples to reset, bool (batch,); None: all."""
        for layer in self:
            layer.reset(mask)

    def save_state(self) -> dict[str, Tensor]:
        """The states of all layers as named tensors: "0.membrane", "0.trace", …"""
        return {f"{at}.{name}": value for at, layer in enumerate(self) for name, value in layer.save_state().items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore a state from `save_state`. Raises: ValueError if it belongs to another network."""
        check_saved(state)
        known = {str(at) for at in range(len(self))}
        unknown = {name for name in state if name.split(".")[0] not in known}
        if unknown:
            raise ValueError(f"a network of {len(self)} layers has no state named {', '.join(sorted(unknown))}")
        for at, layer in enumerate(self):
            prefix = f"{at}."
            layer.load_state({name.removeprefix(prefix): v for name, v in state.items() if name.startswith(prefix)})

    @property
    def chain(self) -> list[Layer]:
        """The layers, from the first to the last."""
        return list(self.__iter__())  # `list(self)` would call `__len__` first, which is slower

    def __iter__(self) -> Iterator[Layer]:
        return iter(self._modules["layers"]._modules.values())  # type: ignore[arg-type,union-attr]

    def __len__(self) -> int:
        return len(self.layers)

    @overload
    def __getitem__(self, at: int) -> Layer: ...
    @overload
    def __getitem__(self, at: slice) -> Sequential: ...
    def __getitem__(self, at: int | slice) -> Layer | Sequential:
        """A layer; or, for a slice, the network of these layers, which shares them."""
        if isinstance(at, slice):
            return Sequential(*self.chain[at])
        return cast("Layer", self.layers[at])


def _flat(layer: Layer, shape: Shape) -> Shape:
    """The shape of one sample as the layer takes it."""
    return shape if layer.in_features is None or len(shape) == 1 else (torch.Size(shape).numel(),)


def as_input(layer: Layer, xs: Tensor, before: int) -> Tensor:
    """Values in the shape that the layer takes. Args: before: number of dimensions before those of one sample."""
    is_tensor = isinstance(xs, Tensor)  # the layer raises for anything else
    return xs.flatten(before) if is_tensor and layer.in_features is not None and xs.ndim > before + 1 else xs


def _check_layer(layer: object) -> None:
    """Raises: TypeError if this is not a layer, with advice."""
    if isinstance(layer, Layer):
        return
    if isinstance(layer, type) and issubclass(layer, Layer):
        advice = f"make a layer of it: {layer.__name__}(inputs, neurons)"
    elif isinstance(layer, list | tuple | Sequential):
        advice = "unpack it: Sequential(*layers)"
    elif isinstance(layer, Module):
        advice = "torch.nn.Sequential joins a network with modules of any kind"
    else:
        advice = "a layer is made by tracetorch.nn, such as LIF(784, 256)"
    raise TypeError(f"a network is made of layers of tt.nn, got {kind_of(layer)}; {advice}")


def feedforward(
    in_features: int,
    out_features: int,
    *,
    hidden: Sequence[int],
    neuron: Callable[[int, int], Layer] | Sequence[Callable[[int, int], Layer]],
    readout: Callable[[int, int], Layer],
) -> Sequential:
    """Make a network of hidden layers and a readout, each fully connected to the layer below.

    Args:
        in_features, out_features: sizes of the input and of the readout.
        hidden: sizes of the hidden layers, from the input up; may be empty.
        neuron, readout: functions that make a layer from its sizes, such as `LIF` or `partial(LIS, decay=.99)`; or a
            class of neurons, of which `Layer` makes one in which every parameter is trained. `neuron` may be a list,
            one for each hidden layer.
    Example:
        >>> feedforward(784, 10, hidden=[256], neuron=tt.nn.LIF, readout=tt.nn.LIS)[0]
        LIF(784, 256)
        >>> feedforward(784, 10, hidden=[256], neuron=tt.nn.neurons.LIF, readout=tt.nn.LIS)[0]
        LIF(784, 256)
    """
    if isinstance(hidden, str) or not isinstance(hidden, Iterable):
        raise TypeError(f"hidden is a list of sizes, such as [256], got {hidden!r}")
    neurons: list[Any] = list(neuron) if isinstance(neuron, list | tuple) else [neuron] * len(hidden)
    if len(neurons) != len(hidden):
        kinds, sizes = len(neurons), len(hidden)
        raise ValueError(f"neuron lists {kinds} kinds of layers, and hidden {sizes} sizes: give one for each")
    for name, make in [*(("neuron", make) for make in neurons), ("readout", readout)]:
        if not callable(make) or isinstance(make, Module):
            raise TypeError(f"{name} makes a layer from its sizes, such as tracetorch.nn.LIF, got {make!r}")
    makers, sides = map(_layers_of, [*neurons, readout]), pairwise([in_features, *hidden, out_features])
    return Sequential(*(make(below, above) for make, (below, above) in zip(makers, sides, strict=True)))


def running_means(in_features: int, out_features: int, *, decay: Values) -> Layer:
    """Make a memory of the input: a layer of leaky integrators, not trained, with a mean of each input for each decay.

        mean ← β·mean + (1 − β)·input

    The difference of the means with a small and a large β is the change of an input. LIF neurons give it poorly: their
    reset subtracts the threshold, so that while they fire, their rate is that of the present current, whatever β.

    Args:
        in_features: number of inputs.
        out_features: number of neurons: inputs × decays, or a multiple, with which each mean occurs several times.
        decay: β per step, in (0, 1), of equal groups of neurons.
    Raises: ValueError for another number of neurons.
    Example:
        >>> tt.nn.running_means(2, 4, decay=[0.5, 0.75]).run(torch.ones(1, 1, 2)).tolist()
        [[[0.5, 0.5, 0.25, 0.25]]]
    """
    decays = numbers(decay, "decay").view(-1)
    needed = in_features * len(decays)
    if not needed or out_features % needed:
        raise ValueError(
            f"running means of {in_features} inputs with {len(decays)} decays take {needed} neurons, or a multiple of "
            f"them, got {out_features}"
        )
    layer = LI(in_features, out_features, decay=decays, trainable=())
    with torch.no_grad():
        copies = torch.eye(in_features).repeat(out_features // in_features, 1)
        leaks = 1 - decays.repeat_interleave(out_features // len(decays))
        layer.weight.copy_(copies * leaks[:, None])
    return layer


def _layers_of(make: Callable[..., Any]) -> Callable[[int, int], Layer]:
    """The function that makes layers; for a class of neurons, also with arguments, one that makes layers of them."""
    kind = make.func if isinstance(make, partial) else make
    return partial(Layer, neuron=make) if isinstance(kind, type) and issubclass(kind, Neuron) else make
