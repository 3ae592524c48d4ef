"""Online training with postsynaptic estimates (OTPE): the layer above is taken to sum what a synapse has caused."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tracetorch import backends
from tracetorch.nn import Sequential
from tracetorch.rules.carried import CarriedRule
from tracetorch.rules.eprop import Eligibility
from tracetorch.rules.stepwise import Activity, add_gradient
from tracetorch.rules.surrogate import Surrogate


class Factors(NamedTuple):
    """The factors of a chunk's eligibilities."""

    mean_slope: Tensor | None  # ψ̄, (time, batch, out_features); None if it is not needed
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
    Memory: as `EProp`, with R̂ in place of its eligibilities; factorized, without R̂, and with two input traces at each
        step of a chunk of at most 128.
    Time: O(time × batch × weights), as `EProp`. Within a chunk no R̂ is formed.
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
        eligibilities = state.get("eligibilities") or ()
        for at, (own, found) in enumerate(zip(self._eligibilities, eligibilities, strict=bool(state))):
            own.load_state_dict(found, self._leak(at))

    def _restart(self) -> None:
        super()._restart()
        # Of each layer, Σ_{t' ≥ t} λ^(t' − t)·L(t') at the first step t of the block learned before.
        self._reach = dict[int, Tensor]()
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

    def _advance(self, at: int, activity: Activity) -> Factors | None:
        if not self._carries(at):
            return None
        leak, traces = self._leak(at), None
        if self.factorized:
            traces = torch.stack([self._sum(at, f"twice_{n}", x, leak)[1:] for n, x in enumerate(activity.traces)])
        if at == 0 and not self.factorized:  # no signal goes further down
            return Factors(None, None)
        slope = activity.slope(activity.whole)
        total = self._sum(at, "slope", slope, leak)[1:]
        count = self._sum(at, "count", torch.ones_like(slope[..., :1]), leak)[1:]
        return Factors(total.div_(count), traces)

    def _learn(self, at: int, activity: Activity, factors: Factors | None, signal: Tensor, steps: slice) -> Tensor:
        if factors is None:
            delta = activity.vjp(signal, steps)
            activity.learn(delta.clone(), steps)
            return delta
        if activity.trained_constants:
            activity.vjp(signal, steps)
        passed = signal if factors.mean_slope is None else signal * factors.mean_slope[steps]
        if factors.twice_traced is not None:
            activity.learn_product(passed, factors.twice_traced[:, steps])
            add_gradient(activity.layer, "bias", passed.sum(dim=(0, 1)))
            return passed
        future, leak = signal.clone(memory_format=torch.contiguous_format), self._leak(at)
        future = backends.leak_back(future, self._reach.get(at), leak)
        self._reach[at] = future[0].clone()
        if steps.start == 0:
            self._eligibilities[at].learn(leak * self._reach.pop(at))
        activity.learn_from(future, steps)
        return passed

    def _leave(self, at: int, activity: Activity, *, is_last: bool) -> None:
        if self._carries(at) and not self.factorized:
            self._eligibilities[at].take(activity, self._leak(at), is_last=is_last)

    def _keep_unlearnt(self) -> None:
        super()._keep_unlearnt()
        for at, eligibility in enumerate(self._eligibilities):
            eligibility.fold(self._leak(at))
