"""Own part: the trace rule with learning signals of limited size.

A rule is a subclass of `Rule` with `backward`, which adds to the gradients; the training loop steps the optimizer. A
rule that needs more of the past than the network keeps also overrides `forward`.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from tracetorch.nn import Layer, Sequential
from tracetorch.nn.local_gradient import At
from tracetorch.rules import Rule


class OwnPart(Rule):
    """Divides each learning signal by the recent peak of its norm, which decays from one learning moment to the next.

    Args: decay: of the peak, per learning moment, in [0, 1).
    Raises: ValueError for another decay.
    Gradient: that of `tracetorch.rules.Trace`, up to a positive factor.
    """

    takes_logits = True  # whether `backward` takes signals at the logits
    is_online = True  # whether it learns at any time of an endless stream (train=lifetime)

    def __init__(self, net: Sequential, *, decay: float = 0.9):
        super().__init__(net)
        if not 0 <= decay < 1:
            raise ValueError(f"decay must lie in [0, 1), got {decay:g}")
        self.decay, self.peak = decay, 0.0

    def supports(self, layer: Layer) -> str:
        """Return why the rule would train a layer wrongly, and so refuses the network; "" if it trains it correctly."""
        del layer
        return ""

    def backward(self, signal: Tensor, *, at: At = "output") -> None:
        """Add to `.grad`. Args: signal: dL/d output, (batch, outputs), or dL/d logits as `at` says."""
        self.peak = max(self.decay * self.peak, float(signal.norm()))
        self.net.backward(signal / max(self.peak, 1e-9), at=at, return_input_grad=False)

    def state_dict(self) -> dict[str, Any]:
        """The state for a checkpoint, from which a run continues exactly."""
        return {"peak": self.peak}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the result of `state_dict`."""
        self.peak = state["peak"]
