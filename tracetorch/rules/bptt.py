"""Backpropagation through time: every step is kept, and the gradient goes back through all of them."""

from __future__ import annotations

import torch
from torch import Tensor

from tracetorch.encode import Stream
from tracetorch.nn import Sequential
from tracetorch.rules.rule import network_of
from tracetorch.rules.surrogate import Surrogate, surrogate_of
from tracetorch.rules.unrolled import learn, run_unrolled


class BPTT:
    """Learn from everything that happened in the last `forward`.

    Args:
        net: any network of `tt.nn`.
        surrogate: what stands for the derivative of a spike: "fast_sigmoid", "arctan", "triangle", or a `Surrogate`.
        through_reset: whether the gradient flows through the reset as well.
    Gradient: exact, but for the surrogate: that of ordinary autograd through every step. What lies before the last
        `forward` of the same sequence is a fact to it, whether it was learnt from or not.
    Memory: O(time × batch × (inputs + neurons)): every spike and membrane, until `backward`.
    Time: forward and backward through every step, O(time × batch × weights) each.
    Source: Werbos (1990), doi:10.1109/5.58337; with surrogates, Neftci, Mostafa, Zenke (2019),
        doi:10.1109/MSP.2019.2931595.
    """

    def __init__(self, net: Sequential, *, surrogate: Surrogate | str = "fast_sigmoid", through_reset: bool = False):
        self.net, self.surrogate = network_of(net), surrogate_of(surrogate, through_reset=through_reset)
        self._output: Tensor | None = None

    def begin(self, lanes: Tensor | None = None) -> None:
        """Start a new sequence: forget the state, and what led to it."""
        self.net.reset(lanes)
        self._output = None

    def forward(self, xs: Tensor | Stream, *, reduce: str | None = None, window: int | None = None) -> Tensor:
        """Run over a stretch of time; see `Sequential.run`. Under `torch.no_grad` that is all; else a graph is kept."""
        if not torch.is_grad_enabled():
            self._output = None
            return self.net.run(xs, reduce=reduce, window=window)
        self._output = run_unrolled(self.net, xs, self.surrogate, reach=None, reduce=reduce, window=window)
        return self._output.detach()

    def backward(self, signal: Tensor) -> None:
        """Add to the gradient of every learnable parameter, once for each `forward`.

        Args: signal: dL/d what `forward` gave; or, if that was every step's output, with respect to the last one's.
        Raises: RuntimeError if nothing was run since.
        """
        learn(self.net, self._output, signal)
        self._output = None
