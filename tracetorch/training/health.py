"""Checks of a network in training: silent layers, missing gradients, and numbers that are not finite."""

from __future__ import annotations

import logging
import math
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from tracetorch.nn import Layer, Sequential
from tracetorch.training.progress import Stateful


class TrainingError(RuntimeError):
    """A run cannot continue; the message names the cause and a remedy."""


class DeadNetworkError(TrainingError):
    """A layer is silent or gets no gradient."""


class HealthWatch(Stateful):
    """Checks a network regularly. A dead network gets time to recover, because a silent neuron still has a gradient.

    Args:
        patience: number of consecutive checks that must find it dead.
        rewarded: whether it learns from rewards; see `check_health`. A learning moment may then be a single
            observation, so a healthy network may be silent at the last update.
    """

    kept = ("found", "was_well", "loss", "same")

    def __init__(self, patience: int = 3, *, rewarded: bool = False):
        self.patience, self.rewarded = patience, rewarded
        self._found, self._was_well = 0, False  # consecutive checks that found it dead; whether a check found it alive
        self._is_checked = False  # for parameters without a gradient
        self._loss, self._same = math.nan, 0  # the last evaluation's loss, and how many consecutive evaluations had it

    def look(self, net: Sequential, output: Tensor | None, update: int, *, last: bool) -> None:
        """Run `check_health`; a dead network is an error after `patience` consecutive checks, or at the last update.

        Args: output, update: as in `check_health`. last: whether this is the last update.
        Raises: DeadNetworkError as above; at the last update not for a rewarded network that an earlier check found
            alive; TrainingError as `check_health`.
        """
        self._name_untrained(net)
        try:
            check_health(net, output, update, rewarded=self.rewarded)
            self._found, self._was_well = 0, True
        except DeadNetworkError:
            self._found += 1
            if self._found >= self.patience or (last and not (self.rewarded and self._was_well)):
                raise

    def _name_untrained(self, net: Sequential) -> None:
        """Warn once of trainable parameters that get no gradient from the rule, if others get one."""
        named = [(name, p) for name, p in net.named_parameters() if p.requires_grad]
        if self._is_checked or all(p.grad is None for _, p in named):
            return
        self._is_checked = True
        if untrained := [name for name, p in named if p.grad is None]:
            message = "trainable, but without a gradient under this rule: %s"
            logging.getLogger("tracetorch").warning(message, ", ".join(untrained))

    def compare(self, net: Sequential, loss: float, update: int) -> None:
        """Warn when `patience` consecutive evaluations have exactly the same loss, so nothing is learned.

        Call it before gradients are cleared. Args: loss: of an evaluation. update: for the message.
        """
        self._loss, self._same = loss, self._same + 1 if loss == self._loss else 1
        if self._same == self.patience:
            message = "update %d: the loss was %.6g at each of the last %d evaluations: %s"
            logging.getLogger("tracetorch").warning(message, update, loss, self._same, _why_nothing_is_learned(net))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(self.state_dict() | state)  # earlier versions wrote "found" only


def check_loss(loss: float, update: int, net: Sequential) -> None:
    """Check, after each update, that the loss and the input are finite.

    The loss may stay finite although an input is not: a membrane that is NaN never fires. Such an input reaches every
    neuron of a dense first layer, so one neuron is checked.

    Raises: TrainingError that names the input or the first parameter that is not finite; only the loss, if all are.
    """
    state, is_finite = net[0].live_state, math.isfinite(loss)
    if is_finite and state is not None:
        membrane = state.neuron[0] if net[0].in_features is None else state.neuron[0][:, 0]
        is_finite = math.isfinite(float(membrane.sum()))
    if is_finite:
        return
    check_input(net, update)
    for at, layer in enumerate(net):
        for name, parameter in layer.named_parameters():
            if not bool(torch.isfinite(parameter).all()):
                why = f"{name} of layer {at} ({layer}) is no longer finite"
                raise TrainingError(f"update {update}: the loss is {loss}: {why}; lower optimizer.lr")
    if not math.isfinite(loss):
        why = "although the input and all weights are finite; look at the targets and at the neurons' output"
        raise TrainingError(f"update {update}: the loss is {loss}, {why}")


def check_input(net: Sequential, update: int) -> None:
    """Raises: TrainingError that names an input that was not finite at some step since the last reset."""
    state = net[0].live_state
    if state is None or not bool(torch.isfinite(net[0].trace_decay).all()):  # a decay that is NaN makes a trace NaN
        return
    trace = state.trace.flatten(1) if net[0].in_features is None else state.trace.flatten(0, -2)
    if bool(torch.isfinite(trace).all()):
        return
    row, channel = (~torch.isfinite(trace)).nonzero()[0].tolist()
    source = f"input {channel} of sample {row % len(state.steps)}"
    raise TrainingError(f"update {update}: the input is not finite: {source} is or was; look at the task's data")


def check_health(net: Sequential, output: Tensor | None, update: int, *, rewarded: bool = False) -> None:
    """Check, after a learning moment, for a layer that is silent or gets no gradient.

    Call it before gradients are cleared and the network is reset.

    Args:
        output: the network's mean output of the last batch, (batch, out_features); None leaves out the last layer.
        update: for the message.
        rewarded: whether the network learns from rewards. Expected or absent rewards give no gradient, so a layer
            without a gradient then counts only if another layer has one.
    Raises: DeadNetworkError that names a silent input or the first such layer, from the input up, and a remedy;
        TrainingError for an input or a gradient that is not finite.
    """
    check_input(net, update)
    if not _any_nonzero(net[0].average_input()):
        raise DeadNetworkError(
            f"update {update}: the input is silent: no spike reaches layer 0; look at the task's rates"
        )
    mean_outputs = [*(layer.average_input() for layer in list(net)[1:]), output]
    for at, (layer, mean_output) in enumerate(zip(net, mean_outputs, strict=True)):
        if layer.neuron.spiking and mean_output is not None and not _any_nonzero(mean_output):
            part = "readout" if at == len(net) - 1 else "neuron"
            advice = f"{_lower_threshold(layer, part)}, raise its decay, or give it a bias"
            raise DeadNetworkError(
                f"update {update}: layer {at} ({layer}) is silent: not one spike in the batch; {advice}"
            )
    by_layer = [_gradients(layer) for layer in net]
    has_gradient = any(_any_nonzero(gradient) for gradients in by_layer for gradient in gradients)
    for at, (layer, gradients) in enumerate(zip(net, by_layer, strict=True)):
        if any(not bool(torch.isfinite(gradient).all()) for gradient in gradients):
            raise TrainingError(
                f"update {update}: the gradient of layer {at} ({layer}) is not finite; lower optimizer.lr"
            )
        is_idle = bool(gradients) and not any(map(_any_nonzero, gradients))
        if is_idle and (has_gradient or not rewarded):
            advice = "its neurons are all far below or far above threshold; change its threshold, or lower optimizer.lr"
            raise DeadNetworkError(f"update {update}: layer {at} ({layer}) gets no gradient; {advice}")


def _lower_threshold(layer: Layer, part: str) -> str:
    """The advice to lower a threshold, with what to type. Args: part: of the config, "neuron" or "readout"."""
    threshold = getattr(layer.neuron, "threshold", None)
    typed = (
        f" (network.{part}.threshold={float(threshold.detach().mean()) / 2:.4g})"
        if isinstance(threshold, Tensor)
        else ""
    )
    return f"lower its threshold{typed}"


def _gradients(layer: Layer) -> list[Tensor]:
    return [p.grad for p in layer.parameters() if p.requires_grad and p.grad is not None]


def _any_nonzero(values: Tensor) -> bool:
    return bool((values != 0).any())


def _why_nothing_is_learned(net: Sequential) -> str:
    """Return which layers are silent, and which gradients are zero or too small for any optimizer."""
    silent = [
        f"layer {at} ({below}) is silent"
        for at, (below, above) in enumerate(pairwise(net))
        if above.live_state is not None and not _any_nonzero(above.live_state.trace)
    ]
    idle = []
    for at, layer in enumerate(net):
        largest = max((float(gradient.abs().max()) for gradient in _gradients(layer)), default=math.nan)
        if largest < math.sqrt(torch.finfo(layer._like.dtype).tiny):
            idle.append(f"the gradient of layer {at} ({layer}) is {'zero' if largest == 0 else f'{largest:.1g}'}")
    if not silent + idle:
        return "no layer is silent and no gradient is zero; raise optimizer.lr"
    return f"{', '.join(silent + idle)}; change the scale of its inputs or weights, or its threshold"
