"""Leaky integrators with a softmax: a readout that decides."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from tracetorch import functional as F
from tracetorch.nn.layer import TraceLayer
from tracetorch.nn.parameters import Values


class LIS(TraceLayer):
    """Leaky integrators whose softmax over the neurons is the output: a distribution at every step.

        m ← β·m + W·x + b,    p = softmax(m)
        distribution = softmax((W·ā + b)(1 − βⁿ)/(1 − β))                    (`functional.lis_distribution`)

    Args:
        in_features, out_features, decay, trace_decay, bias, learn, decay_gradient: see `TraceLayer`.
    Returns: probabilities, each row sums to 1, (batch, out_features).
    Gradient: as `LI`: exact for W, b and the decay, for a loss on the present output, if the trace is tied. For a loss
        on the mean over a window it takes the softmax where it stands at the end.
    Memory: as `LI`.
    """

    state_type = F.LIState
    kernel = "lis"
    decays_alone = True

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        decay: Values = 0.9,
        trace_decay: Values | str = "membrane",
        bias: bool = False,
        learn: Iterable[str] = ("weight", "bias", "decay"),
        decay_gradient: str = "exact",
    ):
        super().__init__(
            in_features,
            out_features,
            decay=decay,
            trace_decay=trace_decay,
            bias=bias,
            learn=learn,
            decay_gradient=decay_gradient,
        )
        self._check_learn()

    def step(self, current: Tensor, state: F.LIState) -> tuple[Tensor, F.LIState]:
        membrane = F.li_step(current, state.membrane, self.decay)
        return torch.softmax(membrane, dim=-1), state._replace(membrane=membrane)

    def average_output(self, current: Tensor, steps: Tensor) -> Tensor:
        return F.lis_distribution(current, self.decay, steps)

    def average_logits(self, current: Tensor, steps: Tensor) -> Tensor:
        return F.li_level(current, self.decay, steps)
