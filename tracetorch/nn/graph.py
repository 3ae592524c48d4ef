"""One step on a CUDA device, recorded once and replayed: launching kernels one by one takes longer than they run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import torch
from torch import Tensor

from tracetorch.backends import LazySpikes, OutputSpec
from tracetorch.modes import unaffected


class Advances(Protocol):
    """A layer or a network."""

    def advance(self, xs: Tensor | LazySpikes, out: OutputSpec) -> None: ...


class StepGraph:
    """`net(x)` as a CUDA graph: input, output, states and parameters at fixed addresses.

    It is recorded again when one of those moves: another batch, a state that was forgotten or handed out, a parameter
    that was replaced. Numbers may change as they like, those of decays and thresholds too.

    Args: net: what advances.
    """

    def __init__(self, net: Advances):
        self._net = net
        self._recorded: list[Any] | None = None

    @unaffected
    @torch.no_grad()
    def __call__(self, x: Tensor, layers: Iterable[Any]) -> Tensor:
        """One step.

        Args:
            x: (batch, in_features).
            layers: of the network as it is now, from the first to the last.
        Returns: output (batch, out_features).
        """
        layers = list(layers)
        layers[0]._check_step(x)
        states = [layer.own_state(len(x)) for layer in layers]
        now: list[Any] = [(*map(torch.Tensor.data_ptr, (*state.tensors, *layer.parameters())), layer.precision,
                *map(torch.Tensor.stride, layer.parameters()))
               for layer, state in zip(layers, states, strict=True)]  # fmt: skip
        now.append((tuple(x.shape), layers[0]._like.dtype))
        if now != self._recorded:
            self._recorded = None
            self._record(x.to(layers[0]._like.dtype), layers[-1], states)
            self._recorded = now
        self._input.copy_(x)
        self._graph.replay()
        return self._output[0].clone()

    def _record(self, x: Tensor, last: Any, states: list[Any]) -> None:
        """Record one step. The steps that it takes to warm up leave the states as they were."""
        self._input = x.clone()
        weight = last._like
        self._output = weight.new_empty(1, *states[-1].neuron[0].shape)
        before = [[value.clone() for value in state.tensors] for state in states]
        try:
            with torch.cuda.device(weight.device):
                side = torch.cuda.Stream(weight.device)
                side.wait_stream(torch.cuda.current_stream(weight.device))
                with torch.cuda.stream(side):
                    for _ in range(2):
                        self._step()
                torch.cuda.current_stream(weight.device).wait_stream(side)
                self._graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(self._graph, stream=side):
                    self._step()
        finally:
            for state, kept in zip(states, before, strict=True):
                for value, old in zip(state.tensors, kept, strict=True):
                    value.copy_(old)

    def _step(self) -> None:
        self._net.advance(self._input[None], OutputSpec(outputs=self._output.flatten(2)))
