"""Leaky integrate-and-fire neurons."""

import torch
from torch import Tensor
from torch.nn import Parameter

from tracetorch import constrain
from tracetorch import functional as F
from tracetorch.nn.neurons.base import Neuron, Values
from tracetorch.renamed import takes_former_names


class LIF(Neuron):
    """Leaky integrate-and-fire neurons.

        m ← β·m + i,    s = 1 if m > θ else 0
        reset="subtract":    m ← m − θ·s                                     (`functional.lif_step`)
                             rate ≈ a line in i with rounded corners         (`functional.lif_rate`)
        reset="zero":        m ← m·(1 − s)                                   (`functional.lif_zero_step`)
                             rate ≈ 1/(½ + steps from 0 to θ), rounded       (`functional.lif_zero_rate`)

    Args:
        features, decay: see `Neuron`.
        threshold: θ > 0, a number or one for each neuron.
        rate_map: the steady-state map: "line", as above; or, with subtractive reset, "logistic"
            (`functional.lif_rate_logistic`).
        reset: of the membrane after a spike: "subtract" or "zero". Rules for which a membrane only decays, such as
            e-prop, need "subtract".
    Returns: spikes, 0 or 1.
    Source: docs/how-it-learns.md derives the maps.
    """

    kernel: str | None = "lif"
    spiking = True
    decays_alone = True
    constant_names = ("decay", "threshold")
    raw_threshold: Parameter

    @takes_former_names
    def __init__(
        self,
        features: int | None = None,
        *,
        decay: Values = 0.9,
        threshold: Values = 1.0,
        rate_map: str = "line",
        reset: str = "subtract",
    ):
        super().__init__(features, decay=decay)
        self.store("threshold", threshold, constrain.raw_from_positive)
        if rate_map not in F.RATE_MAPS:
            raise ValueError(f"rate_map must be one of {', '.join(F.RATE_MAPS)}, got {rate_map!r}")
        if reset not in F.LIF_STEPS:
            raise ValueError(f"reset must be one of {', '.join(F.LIF_STEPS)}, got {reset!r}")
        if reset == "zero" and rate_map != "line":
            raise ValueError(f"with reset='zero' the only rate_map is line, got {rate_map!r}")
        self.rate_map, self.reset = rate_map, reset
        if reset != "subtract":
            self.kernel, self.decays_alone = self.kernel and "lif_zero", False  # None: a subclass with its own step

    @property
    def threshold(self) -> Tensor:
        """The level that a membrane must exceed to fire: a number, (features,), or broadcastable to the features."""
        return constrain.positive_from_raw(self.raw_threshold)

    @threshold.setter
    def threshold(self, value: Values) -> None:
        self.set("threshold", value, constrain.raw_from_positive)

    def step(self, current: Tensor, state: F.MembraneState) -> tuple[Tensor, F.MembraneState]:
        step = F.LIF_STEPS[self.reset]
        spikes, membrane = step(current, state.membrane, self.decay, self.threshold, self.surrogate)
        return spikes, F.MembraneState(membrane)

    def steady_state(self, current: Tensor, steps: Tensor) -> Tensor:
        rate = F.lif_zero_rate if self.reset == "zero" else F.RATE_MAPS[self.rate_map]
        return rate(current, self.decay, self.threshold, steps)

    def steady_vjp(
        self, current: Tensor, steps: Tensor, signal: Tensor, at: str, *, risen: Tensor | None = None
    ) -> tuple[Tensor, dict[Parameter, Tensor]] | None:
        is_line = self.rate_map == "line" and self.reset == "subtract" and type(self) is LIF
        if not is_line or at != "output" or self.raw_decay.requires_grad:
            return None
        decay, threshold = self.constants
        grad_z, current_over_threshold = F.lif_rate_vjp(signal, current, decay, threshold, steps, risen=risen)
        if not self.raw_threshold.requires_grad:
            return grad_z / threshold, {}
        threshold_grad = -(grad_z * (current_over_threshold / threshold)).sum_to_size(threshold.shape)
        raw_grad = torch.ops.aten.softplus_backward(threshold_grad, self.raw_threshold, 1, 20)
        return grad_z / threshold, {self.raw_threshold: raw_grad}
