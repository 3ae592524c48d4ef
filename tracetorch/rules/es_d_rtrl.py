"""ES-D-RTRL: the error of each step, times an eligibility that is the product of two traces."""

from typing import NamedTuple

import torch
from torch import Tensor

from tracetorch.modes import check_number
from tracetorch.nn import Sequential
from tracetorch.rules.carried import CarriedRule
from tracetorch.rules.stepwise import Activity, add_gradient
from tracetorch.rules.surrogate import Surrogate


class Factors(NamedTuple):
    """The factors of a chunk's eligibilities."""

    start: Tensor  # ε_x before the chunk, (batch, in_features)
    neuron_trace: Tensor  # ε_f/(1 − αᵗ), (time, batch, 1 or out_features)


class ESDRTRL(CarriedRule):
    """Learn from the error of each step and the product of a trace of the inputs and one of the membranes' derivatives.

        ε_x(t) = α·ε_x(t−1) + x(t)
        ε_f(t) = α·D(t)·ε_f(t−1) + (1 − α),    D = ∂u(t)/∂u(t−1)
        dL/dW = Σ_t (δ(t)·ε_f(t)/(1 − αᵗ))·ε_x(t)ᵀ,    dL/db the same without ε_x
        δ of the last layer: dL/du through that step; below: δ ← (δ·W) through the surrogate of that step
        symbols: input x, membrane u before its reset, weights W, steps t since the beginning of the sequence

    D is the membrane's decay β; with `through_reset`, β·(1 − θ·ψ(t−1)), threshold θ, surrogate derivative ψ.

    Args:
        net: any network of `tt.nn`; with `through_reset`, of LIF, LI and LIS layers.
        decay: α, per step, above 0 and below 1: of both traces.
        through_reset: whether D contains the reset, as in the authors' own neuron.
        surrogate: as in `BPTT`, without `through_reset`.
    Raises: ValueError for a decay outside (0, 1), or other neurons with `through_reset`; TypeError for no number.
    Gradient: approximate: it drops the effect of a spike on later outputs, as `OTTT` does, and replaces the sum
        Σ_s β^(t − s)·x(s) by a product of two traces, also in readouts. Without `through_reset`, ε_f depends on the
        step alone: with α = β and a tied trace, the gradient of the weights at step t is that of `OTTT` times
        (1 + βᵗ)/(1 + β).
        Decays and thresholds get the gradient of each step alone.
    Memory: batch × (inputs + neurons) of every layer, and their activity in two chunks of at most 128 steps;
        independent of time.
    Time: O(time × batch × weights). The last 128 steps, and those before the window, run once; counted steps before
        them run again, because the signal is known only at the end.
    Source: Wang, Dong, Ji, Xiao, Jiang, Liu, Huan, Wu (2026), doi:10.1038/s41467-026-68453-w (BrainTrace).
    """

    def __init__(
        self,
        net: Sequential,
        *,
        decay: float = 0.9,
        through_reset: bool = False,
        surrogate: Surrogate | str = "fast_sigmoid",
    ):
        check_number(decay, "decay")
        if not 0 < decay < 1:
            raise ValueError(f"decay must be above 0 and below 1, got {decay:g}")
        super().__init__(net, surrogate)
        if through_reset and (others := [layer for layer in net if layer.neuron.kernel not in ("lif", "li", "lis")]):
            raise ValueError(f"through_reset=True needs layers of LIF, LI and LIS neurons, got {others[0]}")
        self.decay, self.through_reset = decay, through_reset

    def _carries(self, at: int) -> bool:
        del at
        return True

    def _advance(self, at: int, activity: Activity) -> Factors:
        start = self._sum_input(at, activity, self.decay)
        age = self._sum(at, "steps", start.new_ones(len(activity), len(start), 1), 1.0)[1:]
        kept = self.decay * activity.layer.neuron.decay  # α·β
        if self.through_reset and activity.layer.neuron.spiking:
            neuron_trace = self._through_resets(at, activity, kept)
        else:
            neuron_trace = (1 - self.decay) * (1 - kept**age) / (1 - kept)
        return Factors(start, neuron_trace / (1 - self.decay**age))

    def _through_resets(self, at: int, activity: Activity, kept: Tensor) -> Tensor:
        """Return ε_f after each step, (time, batch, out_features)."""
        passed = 1 - activity.layer.neuron.constants[1] * activity.slope(activity.whole)
        last, found = self._sums[at].get("neuron_trace", torch.zeros_like(passed[0])), torch.empty_like(passed)
        for step, through in enumerate(passed):
            found[step] = kept * last + (1 - self.decay)
            last = through * found[step]
        self._sums[at]["neuron_trace"] = last
        return found

    def _learn(self, at: int, activity: Activity, factors: Factors, signal: Tensor, steps: slice) -> Tensor:
        del at
        delta = activity.vjp(signal, steps)
        scaled = delta * factors.neuron_trace[steps]
        add_gradient(activity.layer, "bias", scaled.sum(dim=(0, 1)))
        activity.learn_weight(scaled, steps, self.decay, factors.start)
        return delta
