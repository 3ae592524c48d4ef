"""Average currents that need no product with the weights, because membranes and spikes are a record of them.

What flowed into a neuron either is still there or was spent on spikes, and both are remembered, in the membrane and in
the trace of the layer above, if that decays as fast and has seen all of them:

    W·trace(x) = m + θ·trace(s)          (exact fact 1 of docs/how-it-learns.md)
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook

if TYPE_CHECKING:
    from tracetorch.nn.layer import TraceLayer

MANY = 1 << 17
"""With fewer weights than this a product takes little longer than to see whether it may be left out."""

_updates = [0]


@register_optimizer_step_post_hook
def _updated(*_: Any) -> None:
    """After each step of any optimizer in this process: torch's fused ones leave the `_version` of a weight alone."""
    _updates[0] += 1


class Record(NamedTuple):
    """Two layers as a run from rest left them. Once anything has changed it is void."""

    above: TraceLayer
    states: tuple[Any, Any]  # of both
    steps: int
    versions: tuple[int, ...]


def put(layers: Iterable[TraceLayer], steps: int) -> None:
    """On record, after a run from rest in which the outputs of each layer, and no others, went to the next."""
    for below, above in pairwise(layers):
        versions = _versions(below, above) if _is_worth_it(below) and _remember_alike(below, above) else None
        if versions:
            below.record = Record(above, (below.present, above.present), steps, versions)


def current(layer: TraceLayer, above: TraceLayer | None) -> tuple[Tensor, float] | None:
    """The average current; once: whoever writes to weights past torch's back does it after a learning moment.

    Returns: what `learning.average_current` gives, up to rounding, (batch, out_features), and by what to multiply the
        trace of the layer's input to have its average; None if they are not on record.
    """
    record = layer.take_record()
    if record is None or above is not record.above or above is None:
        return None
    state, state_above = record.states
    if layer.present is not state or above.present is not state_above or _versions(layer, above) != record.versions:
        return None
    if not int(state.steps[0]) == int(state_above.steps[0]) == record.steps:  # kernels leave versions alone
        return None
    decay, threshold = (constant.detach() for constant in layer.constants)
    scale = (1 - float(decay)) / -math.expm1(record.steps * math.log(float(decay)))
    return (state.membrane + threshold * state_above.trace).mul_(scale), scale


def _is_worth_it(layer: TraceLayer) -> bool:
    weight = layer.weight
    return weight.numel() >= MANY and weight.device.type == "cpu" and layer.product_dtype == weight.dtype


def _remember_alike(below: TraceLayer, above: TraceLayer) -> bool:
    """Whether input, membrane and spikes of a layer are remembered with one and the same decay, which is a fact."""
    fires = below.kernel == "lif" and below.scans_as_usual and below.learns_by_products
    return fires and below.tied and above.tied and above.groups == 1 and torch.equal(below.raw_decay, above.raw_decay)


def _versions(below: TraceLayer, above: TraceLayer) -> tuple[int, ...] | None:
    """Numbers of which one at least is another once a parameter or a state was written to; None if there are none."""
    if below.present is None or above.present is None or not below.present.steps.numel():
        return None
    values: list[Tensor] = [below.present.membrane]
    for layer in (below, above):
        values += [layer.present.trace, layer.present.steps]
        values += [parameter for parameter in layer._parameters.values() if parameter is not None]
    if any(value.is_inference() for value in values):
        return None
    return (_updates[0], *(number for value in values for number in (value._version, value.data_ptr())))
