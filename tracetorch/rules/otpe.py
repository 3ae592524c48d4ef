"""Online training with postsynaptic estimates (OTPE): the layer above is taken to sum what a synapse has caused."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tracetorch.nn import Sequential
from tracetorch.rules.carried import CarriedRule
from tracetorch.rules.eprop import Eligibility
from tracetorch.rules.stepwise import StepwiseGraph, add_gradient
from tracetorch.rules.surrogate import Surrogate


class Factors(NamedTuple):
    """The factors of a chunk's eligibilities."""

    mean_slope: Tensor | None  # ψ̄, (rows, out_features); None if it is not needed
    twice_traced: Tensor | None  # ẑ, (groups, time, batch, in_features)


class OTPE(CarriedRule):
    """Learn from eligibilities that estimate the effect on the layer above, and a signal through mean slopes.

        R̂ ← λ·R̂ + ψ·x̂ᵀ,    x̂ ← β·x̂ + x          for every synapse of a layer below the last
        dL/dW = Σ_t L(t)·R̂(t)
        L = W'ᵀ·δ below the last layer, δ: dL/d current of the last layer, through that step
        L ← W'ᵀ·(ψ̄·L) further down,    ψ̄(t) = Σ_s λ^(t − s)·ψ(s) / Σ_s λ^(t − s)
        symbols: input x, surrogate ψ of the step, weights W' of the layer above, β the decay of the layer's input
        trace, λ that of the membrane of the layer above, or the mean of its decays if it has several

    Factorized (F-OTPE): R̂ ≈ ψ̄·ẑᵀ, ẑ ← λ·ẑ + x̂, and for biases ψ̄. The last layer learns from δ and the trace of its
    own input, as in `OTTT`.

    Args:
        net: any network of `tt.nn`.
        factorized: replace R̂ by the product of two traces, which needs no memory of the size of the synapses.
        surrogate: as in `BPTT`, without `through_reset`.
    Gradient: equal to backpropagation through time (with the same surrogate, not through the reset) for W and b of a
        tied readout and, unless factorized, of the tied hidden layer below it if the readout has one decay. Approximate
        for layers further down, whose signal passes the layers above through mean slopes, and is filtered only by the
        first of them. Decays and thresholds get the gradient of each step alone.
    Memory: inputs and neurons of every layer for two chunks of 64 steps. Unless factorized, for longer sequences or
        several stretches also R̂, batch × inputs × neurons of every layer below the last. Independent of time.
    Time: O(time × batch × weights); the stretch runs twice, because the signal is known only at its end. Within a
        chunk no R̂ is formed, as in `EProp`.
    Source: Summe, Schaefer, Joshi (2023), doi:10.48550/arXiv.2311.16151; mean slopes and factorized biases as in the
        code of the paper's experiments, where all layers have one λ.
    """

    def __init__(self, net: Sequential, *, factorized: bool = False, surrogate: Surrogate | str = "fast_sigmoid"):
        self.factorized = factorized
        super().__init__(net, surrogate)

    def state_dict(self) -> dict[str, Any]:
        """Return the sums and eligibilities, for a checkpoint right after a learning moment."""
        return {**super().state_dict(), "eligibilities": [value.state_dict() for value in self._eligibilities]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the result of `state_dict`."""
        super().load_state_dict(state)
        for eligibility, found in zip(self._eligibilities, state.get("eligibilities") or (), strict=bool(state)):
            eligibility.load_state_dict(found)

    def _restart(self) -> None:
        super()._restart()
        self._eligibilities = [] if self.factorized else [Eligibility(layer) for layer in list(self.net)[:-1]]

    def _forget(self, mask: Tensor) -> None:
        super()._forget(mask)
        for eligibility in self._eligibilities:
            eligibility.forget(mask)

    def _carries(self, at: int) -> bool:
        return at < len(self.net) - 1

    def _leak(self, at: int) -> float:
        """λ of a layer below the last."""
        return float(self.net[at + 1].neuron.decay.detach().mean())

    def _advance(self, at: int, graph: StepwiseGraph, xs: Tensor) -> Factors | None:
        if not self._carries(at):
            return None
        slope, leak, traces = graph.slope(), self._leak(at), None
        if self.factorized:
            traces = torch.stack([self._sum(at, f"twice_{n}", x, leak)[1:] for n, x in enumerate(graph.trace)])
        else:
            self._eligibilities[at].fold(leak)
            self._eligibilities[at].take(graph, slope)
        if at == 0 and not self.factorized:  # no signal goes further down
            return Factors(None, None)
        total = self._sum(at, "slope", slope.view_as(graph.outputs), leak)[1:]
        count = self._sum(at, "count", torch.ones_like(xs[..., :1]), leak)[1:]
        return Factors((total / count).flatten(0, 1), traces)

    def _learn(self, at: int, graph: StepwiseGraph, factors: Factors | None, signal: Tensor) -> Tensor:
        if factors is None:
            delta = graph.vjp(signal)
            graph.learn(delta)
            return delta
        if graph.trained_constants:
            graph.vjp(signal)
        passed = signal if factors.mean_slope is None else signal * factors.mean_slope
        if factors.twice_traced is not None:
            graph.learn_weight(passed, factors.twice_traced)
            add_gradient(graph.layer, "bias", passed.sum(dim=0))
        else:
            leak, future = self._leak(at), _future(signal.view_as(graph.outputs), self._leak(at))
            graph.learn(future.flatten(0, 1) * graph.slope())
            self._eligibilities[at].learn(leak * future[0])
        return passed


def _future(signal: Tensor, leak: float) -> Tensor:
    """Return Σ_{t' ≥ t} λ^(t' − t)·L(t') of each step of a chunk. Args: signal: L, (time, batch, features)."""
    steps = torch.arange(len(signal), dtype=signal.dtype, device=signal.device)
    weights = (leak ** (steps - steps[:, None]).clamp(min=0)).triu()  # faster than a scan of the reversed signal
    return (weights @ signal.flatten(1)).view_as(signal)
