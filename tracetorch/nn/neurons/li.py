"""Leaky integrators: neurons that never spike."""

from __future__ import annotations

from torch import Tensor
from torch.nn import Parameter

from tracetorch import functional as F
from tracetorch.nn.neurons.base import Neuron


class LI(Neuron):
    """Leaky integrators; the membrane is the output.

        m ← β·m + i                                                          (`functional.li_step`)
        level = i(1 − βⁿ)/(1 − β)                                            (`functional.li_level`)

    Args: features, decay: see `Neuron`.
    Returns: membranes, any real number.
    """

    kernel = "li"
    real_valued = True
    decays_alone = True

    def step(self, current: Tensor, state: F.MembraneState) -> tuple[Tensor, F.MembraneState]:
        membrane = F.li_step(current, state.membrane, self.decay)
        return membrane, F.MembraneState(membrane)

    def steady_state(self, current: Tensor, steps: Tensor) -> Tensor:
        return F.li_level(current, self.decay, steps)

    def steady_vjp(
        self, current: Tensor, steps: Tensor, signal: Tensor, at: str, *, risen: Tensor | None = None
    ) -> tuple[Tensor, dict[Parameter, Tensor]] | None:
        del current, at
        if self.raw_decay.requires_grad or type(self) is not LI:
            return None
        return F.li_level_vjp(signal, self.constants[0], steps, risen=risen), {}

    steady_logits = steady_state  # for a loss that takes its softmax
