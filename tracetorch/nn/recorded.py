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

_updates = [0]  # of all optimizers: torch's fused ones change weights without telling their `_version`


@register_optimizer_step_post_hook
def _updated(*_: Any) -> None:
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
        if _is_worth_it(below) and _remembers_alike(below, above):
            below.record = Record(above, (below.present, above.present), steps, _versions(below, above))


def current(layer: TraceLayer, above: TraceLayer | None) -> tuple[Tensor, float] | None:
    """The average current.

    Returns: what `learning.average_current` gives, up to rounding, (batch, out_features), and by what to multiply a
        trace to have its average; None if it is not on record.
    """
    record = layer.record
    if record is None or above is None or above is not record.above:
        return None
    state, state_above = record.states
    if layer.present is not state or above.present is not state_above or _versions(layer, above) != record.versions:
        return None
    if not int(state.steps[0]) == int(state_above.steps[0]) == record.steps:
        return None
    decay, threshold = (constant.detach() for constant in layer.constants)
    scale = (1 - float(decay)) / -math.expm1(record.steps * math.log(float(decay)))
    return (state.membrane + threshold * state_above.trace).mul_(scale), scale


def _is_worth_it(layer: TraceLayer) -> bool:
    weight = layer.weight
    if weight.numel() < MANY or weight.device.type != "cpu" or layer.product_dtype != weight.dtype:
        return False
    # Tensors of an inference have no version; and where the trace's decay learns, the graph needs the product.
    return not layer.present.membrane.is_inference() and not layer.learns_trace_decay and not len(layer.bank)


def _remembers_alike(below: TraceLayer, above: TraceLayer) -> bool:
    """Whether input, membrane and spikes of a layer are remembered with one and the same decay."""
    alone = below.kernel == "lif" and below.scans_as_usual and below.groups == above.groups == 1
    return alone and below.tied and above.tied and torch.equal(below.raw_decay, above.raw_decay)


def _versions(below: TraceLayer, above: TraceLayer) -> tuple[int, ...]:
    """Numbers of which one at least is another as soon as a parameter, or what the record is in, was written to."""
    values = [value for layer in (below, above) for value in layer._parameters.values() if value is not None]
    values += [below.present.membrane, above.present.trace]
    return (_updates[0], *(number for value in values for number in (value._version, value.data_ptr())))
