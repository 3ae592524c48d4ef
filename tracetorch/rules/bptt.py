"""Backpropagation through time: all steps are kept, or the last ones, and the gradient goes back through them."""

from __future__ import annotations

import torch
from torch import Tensor

from tracetorch.encode import Stream
from tracetorch.nn import Sequential
from tracetorch.nn.local_gradient import At
from tracetorch.rules.base import Rule, check_at, run_only
from tracetorch.rules.surrogate import Surrogate, surrogate_of
from tracetorch.rules.unrolled import learn, run_unrolled


class BPTT(Rule):
    """Backpropagation through the time of the last `forward`, or through its last steps.

    Args:
        net: any network of `tt.nn`.
        surrogate: what stands for the derivative of a spike: "fast_sigmoid", "arctan", "triangle", or a `Surrogate`.
        through_reset: whether the gradient flows through the reset as well.
        window: steps that the gradient goes back; None: all steps of the last `forward`.
    Gradient: exact, but for the surrogate: that of ordinary autograd through every step. What lies before the last
        `forward` of the same sequence is constant to it, whether it was learned from or not. With a window shorter than
        that: approximate, without what reached the output from earlier steps, and without the outputs before them,
        though they count in a mean.
    Memory: O(time × batch × (inputs + neurons)), or O(window × …): every spike and membrane, until `backward`.
    Time: forward through every step, backward through those that are kept, O(time × batch × weights) each.
    Source: Werbos (1990), doi:10.1109/5.58337; with surrogates, Neftci, Mostafa, Zenke (2019),
        doi:10.1109/MSP.2019.2931595; truncated, Williams, Peng (1990), doi:10.1162/neco.1990.2.4.490.
    """

    def __init__(
        self,
        net: Sequential,
        *,
        surrogate: Surrogate | str = "fast_sigmoid",
        through_reset: bool = False,
        window: int | None = None,
    ):
        super().__init__(net)
        if window is not None and (window != int(window) or window < 1):
            raise ValueError(f"window must be a whole number of steps, at least 1, or None, got {window}")
        self.surrogate = surrogate_of(surrogate, through_reset=through_reset)
        self.window = None if window is None else int(window)
        self._output: Tensor | None = None

    def reset(self, mask: Tensor | None = None) -> None:
        """Start a new sequence: forget the state, and what led to it."""
        super().reset(mask)
        self._output = None

    def forward(self, xs: Tensor | Stream, *, reduce: str | None = None, window: int | None = None) -> Tensor:
        """Run over a stretch of time; see `Sequential.run`. Under `torch.no_grad` that is all; else a graph is kept."""
        if not torch.is_grad_enabled():
            self._output = None
            return run_only(self, xs, reduce, window)
        self._output = run_unrolled(self.net, xs, self.surrogate, reach=self.window, reduce=reduce, window=window)
        return self._output.detach()

    def backward(self, signal: Tensor, *, at: At = "output") -> None:
        """Add to the gradient of every trainable parameter, once for each `forward`.

        Args: signal: dL/d what `forward` gave; or, if that was every step's output, with respect to the last one's.
        Raises: RuntimeError if nothing was run since.
        """
        check_at(self, at)
        learn(self.net, self._output, signal)
        self._output = None


class TruncatedBPTT(BPTT):
    """`BPTT` with a window of `k` steps.

    Args: net, surrogate, through_reset: as in `BPTT`; k: its window.
    Gradient, Memory, Time, Source: as `BPTT` with a window.
    """

    def __init__(
        self, net: Sequential, *, k: int, surrogate: Surrogate | str = "fast_sigmoid", through_reset: bool = False
    ):
        if k is None or k != int(k) or k < 1:
            raise ValueError(f"k must be a whole number of steps, at least 1, got {k}")
        super().__init__(net, surrogate=surrogate, through_reset=through_reset, window=k)

    @property
    def k(self) -> int:
        """Steps that the gradient goes back."""
        assert self.window is not None
        return self.window
