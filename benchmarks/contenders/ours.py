"""traceTorch: the forward pass keeps no graph, and each layer learns from its trace."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

import tracetorch as tt
from contenders.base import BLOCK, LEARNING_RATE, Contender
from tracetorch.rules import Rule


class Ours(Contender):
    """traceTorch as in its README; by default, only weights are trained, as in the other libraries.

    Args:
        precision: of the matrix products.
        chunked: whether a stream is read chunk by chunk (`net.run`), or one step at a time (`net(x)`).
        rule: makes the learning rule of a network.
        trainable: names of trained parameters; a readout has no threshold.
        trace_bank: of the hidden layers.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        device: torch.device,
        *,
        precision: torch.dtype = torch.float32,
        chunked: bool = False,
        rule: Callable[[tt.nn.Sequential], Rule] = tt.rules.Trace,
        trainable: Sequence[str] = ("weight",),
        trace_bank: Sequence[float] = (),
    ):
        super().__init__(sizes, device)
        first, *hidden, last = sizes
        neuron = partial(tt.nn.LIF, trainable=trainable, trace_bank=trace_bank)
        readout = partial(tt.nn.LIS, trainable=[name for name in trainable if name != "threshold"])
        net = tt.nn.feedforward(first, last, hidden=hidden, neuron=neuron, readout=readout)
        self.net, self.chunked = net.to(device), chunked
        self.rule = rule(self.net)
        self.net.precision = precision
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=LEARNING_RATE)
        self.detail = str(precision).removeprefix("torch.")

    @torch.no_grad()
    def amplify(self, gain: float) -> None:
        for layer in self.net:
            layer.weight.mul_(gain)

    @torch.no_grad()
    def activity(self, rates: Tensor, steps: int = 50) -> list[float]:
        """Spikes per neuron and step in each hidden layer, in the first steps from a reset state."""
        xs, activities = tt.encode.poisson(rates, steps).dense(), []
        self.net.reset()
        for layer in list(self.net)[:-1]:
            xs = layer.run(xs)
            activities.append(float(xs.mean()))
        self.net.reset()
        return activities

    def train_step(self, rates: Tensor, steps: int, seed: int, target: Tensor) -> None:
        self.rule.reset()
        mean = self.rule.forward(tt.encode.poisson(rates, steps, seed), reduce="mean")
        _, signal = tt.loss.cross_entropy(mean, target)
        self.rule.backward(signal)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def reset(self) -> None:
        self.net.reset()

    @torch.no_grad()
    def stream(self, rates: Tensor, steps: int, seed: int) -> None:
        xs = tt.encode.poisson(rates, steps, seed)
        if self.chunked:
            self.net.run(xs, reduce="mean")
        else:
            for block in xs.chunks(BLOCK):
                for x in block:
                    self.net(x)
