"""Leaky integrators: neurons that never spike."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from tracetorch import functional as F
from tracetorch.nn.layer import TraceLayer
from tracetorch.nn.parameters import Values


class LI(TraceLayer):
    """Leaky integrators; the membrane is the output.

        m ← β·m + W·x + b                                                    (`functional.li_step`)
        level = (W·ā + b)(1 − βⁿ)/(1 − β)                                    (`functional.li_level`)

    Args:
        in_features, out_features, decay, trace_decay, bias, learn, decay_gradient: see `TraceLayer`.
    Returns: membranes, any real number, (batch, out_features).
    Gradient: exact for W, b and the decay, for a loss on the present output, if the trace is tied to the membrane: it
        then equals backpropagation through time. With `decay_gradient="stationary"` it treats the decay as if the
        current were steady.
    Memory: batch × (in_features + out_features), and as many inputs again if the decay learns; independent of time.
    """

    state_type = F.LIState
    kernel = "li"
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
        return membrane, state._replace(membrane=membrane)

    def average_output(self, current: Tensor, steps: Tensor) -> Tensor:
        return F.li_level(current, self.decay, steps)

    average_logits = average_output  # for a loss that takes its softmax
