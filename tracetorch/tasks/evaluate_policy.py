"""Playing held-out episodes, greedily and without learning."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from tracetorch.encode import Stream
from tracetorch.modes import without_graph
from tracetorch.nn import Sequential
from tracetorch.nn.network import state_aside
from tracetorch.tasks.environment import Environment
from tracetorch.tasks.task import Trials


@without_graph
def evaluate_policy(
    net: Sequential, environment: Environment, policy: Callable[[Tensor], Tensor], split: str, window: int | None
) -> Trials:
    """Take the likeliest action at every moment of all episodes of a split.

    Args:
        net: its state is put aside, and restored at the end.
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


@without_graph
def look_ahead(net: Sequential, xs: Stream, window: int | None) -> Tensor:
    """The output that the network would have for this observation, (num_envs, outputs). Its state is restored."""
    with state_aside(net):
        return net.run(xs, reduce="mean", window=window)
