"""Playing held-out episodes, greedily and without learning."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tracetorch.encode import Stream
from tracetorch.nn import Sequential
from tracetorch.nn.network import state_aside
from tracetorch.tasks.environment import Environment
from tracetorch.tasks.task import Trials


@torch.no_grad()
def play(
    net: Sequential, environment: Environment, policy: Callable[[Tensor], Tensor], split: str, window: int | None
) -> Trials:
    """Take the likeliest action at every moment of all episodes of a split.

    Args:
        net: what it remembers of its own lanes is put aside, and taken up again at the end.
        policy: the probabilities of the actions, of the network's mean output.
        split: "validation" or "test".
        window: steps at the end of an observation that are read as the answer; all, if None.
    Returns: as `Environment.test`; nothing if the split is empty.
    """

    def choose(xs: Stream, begins: Tensor) -> Tensor:
        net.reset(None if bool(begins.all()) else begins)
        return policy(net.run(xs, reduce="mean", window=window)).argmax(dim=-1)

    with state_aside(net):
        net.reset()
        return environment.test(choose, split)


@torch.no_grad()
def look_ahead(net: Sequential, xs: Stream, window: int | None) -> Tensor:
    """What the network would give out if it saw this next: (lanes, outputs). It is then back where it was."""
    with state_aside(net):
        return net.run(xs, reduce="mean", window=window)
