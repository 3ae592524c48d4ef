"""What all rules have in common, so that a time loop need not know which one it is given."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from tracetorch.encode import Stream
from tracetorch.modes import kind_of
from tracetorch.nn import Sequential


class Rule(Protocol):
    """A way to learn. Made from a network; the same layers, weights and spikes whichever it is."""

    net: Sequential

    def begin(self, lanes: Tensor | None = None) -> None:
        """Start a new sequence: forget the state; of some samples alone, if `lanes`, bool (batch,), says which."""

    def forward(self, xs: Tensor | Stream, *, reduce: str | None = None, window: int | None = None) -> Tensor:
        """Run over a stretch of time; see `Sequential.run`. Returns: what came out, without a graph."""

    def backward(self, signal: Tensor) -> Any:
        """Learn: add to the gradient of every learnable parameter.

        Args: signal: dL/d the mean that `forward` gave, (batch, out_features); if it gave every step's output, dL/d the
            last of them. Rules that go back through time take one for every step, too: (time, batch, out_features).
        """


def network_of(net: Any) -> Sequential:
    """Raises: TypeError for what is not a network of `tt.nn`, which no rule could train."""
    if not isinstance(net, Sequential):
        raise TypeError(f"a rule takes a network of tt.nn, got {kind_of(net)}: tt.nn.Sequential makes one of layers")
    return net
