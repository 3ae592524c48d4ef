"""Leaky integrators: neurons that never spike."""

import torch
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


class LIS(Neuron):
    """Leaky integrators whose softmax over the neurons is the output: a distribution at every step.

        m ← β·m + i,    p = softmax(m)
        distribution = softmax(i(1 − βⁿ)/(1 − β))                            (`functional.lis_distribution`)

    Args: features, decay: see `Neuron`.
    Returns: probabilities, each row sums to 1.
    """

    kernel = "lis"
    decays_alone = True

    def step(self, current: Tensor, state: F.MembraneState) -> tuple[Tensor, F.MembraneState]:
        membrane = F.li_step(current, state.membrane, self.decay)
        return torch.softmax(membrane, dim=-1), F.MembraneState(membrane)

    def steady_state(self, current: Tensor, steps: Tensor) -> Tensor:
        return F.lis_distribution(current, self.decay, steps)

    def steady_logits(self, current: Tensor, steps: Tensor) -> Tensor:
        return F.li_level(current, self.decay, steps)

    def steady_vjp(
        self, current: Tensor, steps: Tensor, signal: Tensor, at: str, *, risen: Tensor | None = None
    ) -> tuple[Tensor, dict[Parameter, Tensor]] | None:
        if self.raw_decay.requires_grad or type(self) is not LIS:
            return None
        (decay,) = self.constants
        if at == "output":
            p = F.lis_distribution(current, decay, steps)
            signal = torch.ops.aten._softmax_backward_data(signal, p, -1, p.dtype)  # as autograd, bit for bit
        return F.li_level_vjp(signal, decay, steps, risen=risen), {}
