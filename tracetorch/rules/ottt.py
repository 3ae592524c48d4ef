"""Online training through time: the gradient of each step alone, with the trace of the input in place of the past."""

from __future__ import annotations

import torch
from torch import Tensor

from tracetorch.encode import Stream
from tracetorch.nn import Sequential
from tracetorch.rules.replayed import Recording, add_gradient, add_traced, local_step, record, steps
from tracetorch.rules.surrogate import Surrogate, surrogate_of
from tracetorch.rules.unrolled import using


class OTTT:
    """Learn at every step, from the signal at that step and the traces of what came in.

        δ of the last layer: dL/d output through that step; below: δ ← (δ·W) through the surrogate of that step
        dL/dW = Σ_t δ(t)·â(t)ᵀ,    â ← β·â + x

    Args:
        net: any network of `tt.nn`.
        surrogate: as in `BPTT`.
    Gradient: approximate: it lacks what reaches the output later than the step itself, through the membranes above.
        Equal to backpropagation through time for W and b of a tied `LI` or `LIS` readout. Decays and thresholds get
        that of each step alone, the membrane before it a fact.
    Memory: batch × (inputs + neurons) of every layer, independent of time.
    Time: the signal comes at the end here, so the sequence is run twice; O(time × batch × weights) each.
    Source: Xiao, Meng, Zhang, He, Lin (2022), doi:10.48550/arXiv.2210.04195.
    """

    def __init__(self, net: Sequential, *, surrogate: Surrogate | str = "fast_sigmoid"):
        self.net, self.surrogate = net, surrogate_of(surrogate)
        self._recording: Recording | None = None

    def begin(self) -> None:
        """Start a new sequence: forget the state."""
        self.net.reset()
        self._recording = None

    def forward(self, xs: Tensor | Stream, *, reduce: str | None = None, window: int | None = None) -> Tensor:
        """Run over a stretch of time; see `Sequential.run`."""
        if not torch.is_grad_enabled():
            return self.net.run(xs, reduce=reduce, window=window)
        output, self._recording = record(self.net, xs, reduce, window)
        return output

    def backward(self, signal: Tensor) -> None:
        """Add to the gradient of every learnable parameter, once for each `forward`.

        Args: signal: dL/d the mean that `forward` gave; or, if that was every step's output, dL/d the last one.
        Raises: RuntimeError if nothing was run since.
        """
        if self._recording is None:
            raise RuntimeError(
                "nothing was run since the last learning moment: call rule.forward(xs) before rule.backward"
            )
        states = list(self._recording.states)
        for x, share in steps(self._recording):
            value, locals_ = x.to(self.net[0].weight.dtype), []
            for at, layer in enumerate(self.net):
                with using(layer, self.surrogate):
                    local = local_step(layer, value, states[at])
                states[at], value = local.state, local.output.detach()
                locals_.append(local)
            if not share:
                continue
            delta = signal * share
            for layer, local in zip(reversed(list(self.net)), reversed(locals_), strict=True):
                at_current, others = local.pull(layer, delta)
                add_traced(layer, at_current, local)
                for name, gradient in others.items():
                    add_gradient(layer, name, gradient)
                delta = at_current @ layer.weight
        self._recording = None
