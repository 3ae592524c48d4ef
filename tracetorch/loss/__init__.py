"""What a network is told: each loss maps `(output, target)` to `(loss, signal)`, the signal being dL/d output."""

from tracetorch.loss.cross_entropy import cross_entropy, cross_entropy_with_logits
from tracetorch.loss.mse import mse

__all__ = ["cross_entropy", "cross_entropy_with_logits", "mse"]
