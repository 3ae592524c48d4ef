"""Own part: sparse connections.

A connection is any `torch.nn.Module` that is linear in its input: it maps (batch, in_features) to currents (batch,
out_features). A layer checks at its first step that it is linear. The YAML file names a function that makes the layer.
"""

from typing import Any

import torch
from torch import Tensor

from tracetorch.nn import LIF


class OwnPart(torch.nn.Module):
    """Each synapse exists with a probability; the others stay absent.

    Args: in_features, out_features: sizes. probability: in (0, 1].
    """

    present: Tensor

    def __init__(self, in_features: int, out_features: int, probability: float = 0.5):
        super().__init__()
        bound = (in_features * probability) ** -0.5
        self.weight = torch.nn.Parameter(torch.empty(out_features, in_features).uniform_(-bound, bound))
        self.register_buffer("present", torch.rand(out_features, in_features) < probability)  # saved in checkpoints

    def forward(self, x: Tensor) -> Tensor:
        return torch.nn.functional.linear(x, self.weight * self.present)


def layer(in_features: int, out_features: int, *, probability: float = 0.5, **options: Any) -> LIF:
    """A layer of LIF neurons with these connections. Args: options: those of `LIF`, such as `decay`."""
    return LIF(OwnPart(in_features, out_features, probability), **options)
