"""Online training through time: the gradient of each step alone, with the trace of the input in place of the past."""

from __future__ import annotations

import torch
from torch import Tensor

from tracetorch.encode import Stream
from tracetorch.modes import unaffected
from tracetorch.nn import Layer, Sequential
from tracetorch.nn.local_gradient import At, whole_gradients
from tracetorch.rules.base import Rule, check_at, needs_decay_alone, run_only
from tracetorch.rules.stepwise import Recording, StepwiseGraph, check_signal, chunks, record, run_stepwise
from tracetorch.rules.surrogate import Surrogate, surrogate_of_step


class OTTT(Rule):
    """Learn at every step, from the signal at that step and the traces of what came in.

        δ of the last layer: dL/d output through that step; below: δ ← (δ·W) through the surrogate of that step
        dL/dW = Σ_t δ(t)·â(t)ᵀ,    â ← β·â + x

    Args:
        net: any network of `tt.nn`.
        surrogate: as in `BPTT`; none that goes through the reset.
    Gradient: approximate: it lacks what reaches the output later than the step itself, through the membranes above.
        Equal to backpropagation through time for W and b of a tied `LI` or `LIS` readout. Decays and thresholds get
        that of each step alone, the membrane before it constant.
    Memory: inputs and neurons of every layer for a chunk of 64 steps; independent of time.
    Time: O(time × batch × weights); steps that count are run twice, because the signal comes at their end.
    Source: Xiao, Meng, Zhang, He, Lin (2022), doi:10.48550/arXiv.2210.04195.
    """

    def __init__(self, net: Sequential, *, surrogate: Surrogate | str = "fast_sigmoid"):
        super().__init__(net)
        self.surrogate = surrogate_of_step(surrogate)
        self._recording: Recording | None = None

    def supports(self, layer: Layer) -> str:
        return needs_decay_alone(layer)

    def reset(self, mask: Tensor | None = None) -> None:
        """Start a new sequence."""
        super().reset(mask)
        self._recording = None

    def forward(self, xs: Tensor | Stream, *, reduce: str | None = None, window: int | None = None) -> Tensor:
        """Run over a stretch of time; see `Sequential.run`. `xs` is read again by `backward`."""
        if not torch.is_grad_enabled():
            self._recording = None
            return run_only(self, xs, reduce, window)
        output, self._recording = record(self.net, xs, reduce, window)
        return output

    @unaffected
    @whole_gradients()
    def backward(self, signal: Tensor, *, at: At = "output") -> None:
        """Add to the gradient of every learnable parameter, once for each `forward`.

        Args: signal: dL/d the mean that `forward` gave; or, if that was every step's output, dL/d the last one:
            (batch, out_features).
        Raises: RuntimeError if nothing was run since; ValueError for a signal of another shape.
        """
        check_at(self, at)
        xs, first, share, _, between = check_signal(self.net, self._recording, signal)
        states = list(between)
        for _, part in chunks(xs[first:]):
            graphs, value = list[StepwiseGraph](), part.to(self.net[0].weight.dtype)
            for number, layer in enumerate(self.net):
                graphs.append(run_stepwise(layer, value, states[number], self.surrogate))
                states[number], value = graphs[number].after, graphs[number].outputs
            delta = (signal * share).repeat(len(part), 1)
            for graph in reversed(graphs):
                delta = graph.vjp(delta)
                graph.learn(delta)
                delta = delta @ graph.layer.weight.detach()
        self._recording = None
