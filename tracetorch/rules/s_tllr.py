"""S-TLLR: the error of each step, times an eligibility with a causal and a non-causal term, as in STDP."""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from tracetorch.modes import check_number, whole
from tracetorch.nn import Sequential
from tracetorch.rules.carried import CarriedRule
from tracetorch.rules.stepwise import Activity, add_gradient
from tracetorch.rules.surrogate import Surrogate


class Factors(NamedTuple):
    """The factors of a chunk's eligibilities."""

    start: Tensor | None  # x̂ before the chunk, (batch, in_features); None: the layer's own trace
    slope_trace: Tensor  # ψ̂ before each step, (time, batch, out_features)


class STLLR(CarriedRule):
    """Learn from the error of each step and an eligibility of pre- and postsynaptic traces.

        e(t) = α_pre·ψ(t)·x̂(t)ᵀ + α_post·ψ̂(t−1)·x(t)ᵀ          causal term, and non-causal term
        x̂(t) = λ_pre·x̂(t−1) + x(t),    ψ̂(t) = λ_post·ψ̂(t−1) + ψ(t)
        dL/dW = Σ_t L(t)·e(t),    dL/db = Σ_t L(t)·ψ(t)
        L of the last layer: dL/d output at that step; below, at that step: L ← (L·ψ)·W, or δ·B if feedback is random
        symbols: input x, surrogate derivative ψ of the step, weights W, random matrix B of a layer, (outputs, neurons),
        δ: dL/d membrane of the last layer, through that step

    The causal term takes inputs before the postsynaptic activity, the non-causal one inputs after it. Layers that do
    not spike learn as in `OTTT`.

    Args:
        net: any network of `tt.nn`.
        pre_decay: λ_pre, per step, 0 to 1; None: the decay of the layer's own input trace.
        post_decay: λ_post, per step, 0 to 1.
        pre_scale: α_pre.
        post_scale: α_post; negative as in STDP, or positive. 0 leaves the causal term.
        feedback: "symmetric": the error passes through the weights of the layers above; "random": it reaches each layer
            directly, through a fixed random B.
        seed: of the random feedback.
        surrogate: the secondary activation function; as in `BPTT`, without `through_reset`.
    Raises: ValueError for a decay outside 0 to 1, a scale that is not finite, or another feedback; TypeError for a
        setting that is not a number.
    Gradient: approximate: the non-causal term is not part of a gradient, and the causal one drops the effect of a spike
        on later outputs. With `post_scale=0` and the other defaults, the weights get the gradient of `OTTT`. Equal to
        backpropagation through time for W and b of a tied `LI` or `LIS` readout. Decays and thresholds get the gradient
        of each step alone.
    Memory: batch × (inputs + neurons) of every layer, and their activity in two chunks of at most 128 steps;
        independent of time.
    Time: O(time × batch × weights). The last 128 steps, and those before the window, run once; counted steps before
        them run again, because the signal is known only at the end.
    Not implemented from the paper: recurrent weights.
    Source: Apolinario, Roy (2025), doi:10.48550/arXiv.2306.15220; defaults and biases as in the authors' code,
        github.com/mapolinario94/S-TLLR.
    """

    def __init__(
        self,
        net: Sequential,
        *,
        pre_decay: float | None = None,
        post_decay: float = 0.5,
        pre_scale: float = 1.0,
        post_scale: float = -0.2,
        feedback: Literal["symmetric", "random"] = "symmetric",
        seed: int = 0,
        surrogate: Surrogate | str = "fast_sigmoid",
    ):
        scales = {"pre_scale": pre_scale, "post_scale": post_scale}
        for name, value in {"pre_decay": pre_decay or 0.0, "post_decay": post_decay, **scales}.items():
            check_number(value, name)
            if name not in scales and not 0 <= value <= 1:
                raise ValueError(f"{name} must be from 0 to 1, got {value:g}")
            if not math.isfinite(value):
                raise ValueError(f"{name} must be finite, got {value:g}")
        if feedback not in ("symmetric", "random"):
            raise ValueError(f"feedback must be symmetric or random, got {feedback!r}")
        super().__init__(net, surrogate)
        self.pre_decay, self.post_decay = pre_decay, post_decay
        self.pre_scale, self.post_scale = pre_scale, post_scale
        generator = torch.Generator().manual_seed(whole(seed, "seed"))
        *sizes, out = (len(layer.weight) for layer in net)
        random = [torch.randn(out, size, generator=generator) / out**0.5 for size in sizes]
        self._feedback = random if feedback == "random" else None
        self._passes_down = self._feedback is None
        self._delta: Tensor | None = None  # δ in the present block, (time, batch, outputs)

    def _carries(self, at: int) -> bool:
        return self.net[at].neuron.spiking

    def _advance(self, at: int, activity: Activity) -> Factors | None:
        if not self._carries(at):
            return None
        start = None if self.pre_decay is None else self._sum_input(at, activity, self.pre_decay)
        return Factors(start, self._sum(at, "slope", activity.slope(activity.whole), self.post_decay)[:-1])

    def _learn(self, at: int, activity: Activity, factors: Factors | None, signal: Tensor, steps: slice) -> Tensor:
        if self._feedback and self._delta is not None and at < len(self._feedback):
            signal = self._delta @ self._feedback[at].to(self._delta)
        delta = activity.vjp(signal, steps)
        if at == len(self.net) - 1:
            self._delta = delta
        if factors is None:
            activity.learn(delta.clone(), steps)
            return delta
        non_causal = self.post_scale * signal * factors.slope_trace[steps]
        activity.learn_product(non_causal, activity.inputs(steps))
        add_gradient(activity.layer, "bias", delta.sum(dim=(0, 1)))
        activity.learn_weight(self.pre_scale * delta, steps, self.pre_decay, factors.start)
        return delta
