"""Is the network still alive? A dead or exploded one is told apart from one that merely learns slowly."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tracetorch.nn import Sequential


class TrainingError(RuntimeError):
    """A run that cannot go on; its message says which layer, and what to try."""


class DeadNetworkError(TrainingError):
    """Nothing comes out of a layer, or nothing is learnt in it."""


class HealthWatch:
    """Looks at a network now and then, and gives a dead one some time to wake up: a silent neuron still has a gradient.

    Args: patience: how many times in a row it must be found dead.
    """

    def __init__(self, patience: int = 3):
        self.patience, self._found = patience, 0

    def look(self, net: Sequential, output: Tensor, update: int, *, last: bool) -> None:
        """`check_health`, forgiving the first few times; not at the last update. Raises: TrainingError."""
        try:
            check_health(net, output, update)
            self._found = 0
        except DeadNetworkError:
            self._found += 1
            if last or self._found >= self.patience:
                raise

    def state_dict(self) -> dict[str, int]:
        """Plain numbers, for a checkpoint."""
        return {"found": self._found}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from there."""
        self._found = state["found"]


def check_loss(loss: float, update: int, net: Sequential) -> None:
    """Raises: TrainingError if the loss is no finite number, naming the first parameter that is none either."""
    if math.isfinite(loss):
        return
    for at, layer in enumerate(net):
        for name, parameter in layer.named_parameters():
            if not bool(torch.isfinite(parameter).all()):
                where = f"{name} of layer {at} ({layer}) is no longer finite"
                raise TrainingError(f"update {update}: the loss is {loss}: {where}; lower optimizer.lr")
    raise TrainingError(f"update {update}: the loss is {loss}, although all weights are finite; look at the input")


def check_health(net: Sequential, output: Tensor, update: int) -> None:
    """Look for a layer that nothing comes out of, or that nothing is learnt in, after a learning moment.

    Args:
        output: the network's mean output of the last batch, (batch, out_features).
        update: the number of the update, for the message. Call it before gradients are cleared.
    Raises: DeadNetworkError that names the first such layer, from the input up, and what to try; TrainingError for a
        gradient that is not finite.
    """
    if not bool((net[0].average_input() != 0).any()):
        raise DeadNetworkError(
            f"update {update}: the input is silent: no spike reaches layer 0; look at the task's rates"
        )
    above = [layer.average_input() for layer in list(net)[1:]] + [output]
    for at, (layer, gives) in enumerate(zip(net, above, strict=True)):
        if layer.spiking and not bool((gives != 0).any()):
            advice = "lower its threshold, raise its decay, or give it a bias"
            raise DeadNetworkError(
                f"update {update}: layer {at} ({layer}) is silent: not one spike in the batch; {advice}"
            )
    for at, layer in enumerate(net):
        gradients = [p.grad for p in layer.parameters() if p.requires_grad and p.grad is not None]
        if any(not bool(torch.isfinite(gradient).all()) for gradient in gradients):
            raise TrainingError(
                f"update {update}: the gradient of layer {at} ({layer}) is not finite; lower optimizer.lr"
            )
        if gradients and not any(bool((gradient != 0).any()) for gradient in gradients):
            advice = "its neurons are all far below or far above threshold; change its threshold, or lower optimizer.lr"
            raise DeadNetworkError(f"update {update}: layer {at} ({layer}) gets no gradient; {advice}")
