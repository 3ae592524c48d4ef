"""Leaky integrate-and-fire neurons."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor
from torch.nn import Parameter

from tracetorch import constrain
from tracetorch import functional as F
from tracetorch.nn.layer import TraceLayer
from tracetorch.nn.parameters import Values


class LIF(TraceLayer):
    """Leaky integrate-and-fire neurons with subtractive reset.

        m ← β·m + W·x + b,    s = 1 if m > θ else 0,    m ← m − θ·s          (`functional.lif_step`)
        rate = a line in i = W·ā + b, its corners rounded                    (`functional.lif_rate`)

    Args:
        in_features, out_features, decay, trace_decay, bias, learn, decay_gradient, bank: see `TraceLayer`.
        threshold: θ > 0, a number or one for each neuron.
        rate: the steady-state map, "line" or "logistic".
    Returns: spikes, 0 or 1, (batch, out_features).
    Gradient: approximate: the spikes of a stretch of time are replaced by their average rate, so order within it is
        lost; closest when the input is steady and the trace is tied to the membrane.
    Memory: batch × (in_features + out_features), and as many inputs again if the decay learns, and for each decay in
        the bank; independent of time.
    Source: docs/how-it-learns.md derives the map.
    Example:
        >>> layer = LIF(3, 2)
        >>> layer(torch.ones(1, 3)).shape
        torch.Size([1, 2])
    """

    state_type = F.LIFState
    kernel = "lif"
    spiking = True
    decays_alone = True
    raw_threshold: Parameter

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        decay: Values = 0.9,
        threshold: Values = 1.0,
        trace_decay: Values | str = "membrane",
        bias: bool = False,
        learn: Iterable[str] = ("weight", "bias", "decay", "threshold"),
        decay_gradient: str = "exact",
        bank: Sequence[float] = (),
        rate: str = "line",
    ):
        super().__init__(
            in_features,
            out_features,
            decay=decay,
            trace_decay=trace_decay,
            bias=bias,
            learn=learn,
            decay_gradient=decay_gradient,
            bank=bank,
        )
        self._store("raw_threshold", constrain.raw_from_positive(self._per("threshold", threshold, out_features)))
        if rate not in F.RATE_MAPS:
            raise ValueError(f"rate must be one of {', '.join(F.RATE_MAPS)}, got {rate!r}")
        self.rate = rate
        self._check_learn()

    @property
    def threshold(self) -> Tensor:
        """The level that a membrane must surpass to fire: a number, or (out_features,)."""
        return self._read("raw_threshold", constrain.positive_from_raw)

    @property
    def constants(self) -> tuple[Tensor, ...]:
        return self.decay, self.threshold

    def step(self, current: Tensor, state: F.LIFState) -> tuple[Tensor, F.LIFState]:
        spikes, membrane = F.lif_step(current, state.membrane, self.decay, self.threshold, self.surrogate)
        return spikes, state._replace(membrane=membrane)

    def average_output(self, current: Tensor, steps: Tensor) -> Tensor:
        return F.RATE_MAPS[self.rate](current, self.decay, self.threshold, steps)
