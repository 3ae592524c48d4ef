"""Truncated backpropagation through time: only the last steps are kept."""

from __future__ import annotations

import torch
from torch import Tensor

from tracetorch.encode import Stream
from tracetorch.nn import Sequential
from tracetorch.rules.rule import network_of
from tracetorch.rules.surrogate import Surrogate, surrogate_of
from tracetorch.rules.unrolled import learn, run_unrolled


class TruncatedBPTT:
    """Learn from the last `k` steps of the last `forward`; what came before is a fact.

    Args:
        net: any network of `tt.nn`.
        k: steps that the gradient goes back.
        surrogate, through_reset: as in `BPTT`.
    Gradient: that of `BPTT` for `k` at least as long as what was run. Otherwise approximate: it lacks everything that
        reached the output from more than k steps ago, and all outputs before that, though they count in a mean. Where a
        sequence is run in stretches shorter than k, it goes back no further than the last of them.
    Memory: O(k × batch × (inputs + neurons)), independent of the length of the sequence.
    Time: forward through every step, backward through k.
    Source: Williams, Peng (1990), doi:10.1162/neco.1990.2.4.490.
    """

    def __init__(
        self, net: Sequential, *, k: int, surrogate: Surrogate | str = "fast_sigmoid", through_reset: bool = False
    ):
        if k != int(k) or k < 1:
            raise ValueError(f"k must be a whole number of steps, at least 1, got {k}")
        self.net, self.k, self.surrogate = network_of(net), int(k), surrogate_of(surrogate, through_reset=through_reset)
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
        self._output = run_unrolled(self.net, xs, self.surrogate, reach=self.k, reduce=reduce, window=window)
        return self._output.detach()

    def backward(self, signal: Tensor) -> None:
        """Add to the gradient of every learnable parameter; as in `BPTT`."""
        learn(self.net, self._output, signal)
        self._output = None
