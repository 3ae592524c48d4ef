"""One step on a CUDA device, recorded once and replayed: launching each kernel takes longer than running it."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from tracetorch.backends import OutputSpec
from tracetorch.modes import unaffected


class StepGraph:
    """`net(x)` as a CUDA graph: input, output, states and parameters at fixed addresses.

    It is recorded again when an address changes: for another batch size, a state that a caller has read or set, or
    a parameter that was replaced. Values may change, also those of decays and thresholds.

    Args: net: a layer or a network.
    """

    def __init__(self, net: Any):
        self._net = net
        self._captured: list[Any] | None = None

    @unaffected
    @torch.no_grad()
    def __call__(self, x: Tensor, layers: Iterable[Any]) -> Tensor:
        """One step. Args: x (batch, in_features); layers: all of them. Returns: output (batch, out_features)."""
        layers = list(layers)
        layers[0]._check_step(x)
        states = [layer.own_state(len(x)) for layer in layers]
        key: list[Any] = []
        for layer, state in zip(layers, states, strict=True):
            parameters = [*layer.parameters()]
            addresses = [*map(Tensor.data_ptr, (*state.tensors, *parameters))]
            key.append((addresses, layer.precision, [*map(Tensor.stride, parameters)]))
        key.append((tuple(x.shape), layers[0]._like.dtype))
        if key != self._captured:
            self._captured = None
            self._record(x.to(layers[0]._like.dtype), layers[-1], states)
            self._captured = key
        self._input.copy_(x)
        self._graph.replay()
        return self._output[0].clone()

    def _record(self, x: Tensor, last: Any, states: list[Any]) -> None:
        """Record one step after two warm-up steps, and restore the states."""
        self._input = x.clone()
        weight = last._like
        self._output = weight.new_empty(1, *states[-1].neuron[0].shape)
        before = [[value.clone() for value in state.tensors] for state in states]
        try:
            with torch.cuda.device(weight.device):
                stream = torch.cuda.Stream(weight.device)
                stream.wait_stream(torch.cuda.current_stream(weight.device))
                with torch.cuda.stream(stream):
                    for _ in range(2):
                        self._step()
                torch.cuda.current_stream(weight.device).wait_stream(stream)
                self._graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(self._graph, stream=stream):
                    self._step()
        finally:
            for state, kept in zip(states, before, strict=True):
                for value, old in zip(state.tensors, kept, strict=True):
                    value.copy_(old)

    def _step(self) -> None:
        self._net.advance(self._input[None], OutputSpec(outputs=self._output.flatten(2)))
