"""The trace of a layer's input: how fast it decays, and which further traces follow it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.nn import Module, Parameter

from tracetorch import constrain
from tracetorch import functional as F
from tracetorch.backends import TraceBuffers
from tracetorch.modes import numbers
from tracetorch.nn.neurons import Neuron, Values
from tracetorch.nn.state import LayerState, per_sample

MAX_GROUPS = 16
"""A tied trace is kept once for each decay; more than this is surely a decay per neuron, which needs a free trace."""

DECAY_GRADIENTS = ("exact", "stationary")
"""What a trace's decay learns from: how the trace depends on it, or how a steady state would."""


class InputTrace(Module):
    """Settings of the input trace `t ← d·t + x`; its values are part of the layer's state.

    Args:
        neuron: of the layer; a tied trace takes its decay.
        decay: "membrane" ties the trace to the membrane's decay; a number, or one for each input, sets it free.
        in_features: number of inputs; None if they have several dimensions.
        gradient: "exact" or "stationary"; see `Layer`.
        trace_bank: decays of further traces of the trace, `e ← c·e + t`; see `nn.trace_bank`.
        trainable: whether the decay that the trace follows is trained.
    """

    raw_decay: Parameter | None
    trace_bank: Tensor

    def __init__(
        self,
        neuron: Neuron,
        decay: Values | str,
        in_features: int | None,
        *,
        gradient: str,
        trace_bank: Sequence[float],
        trainable: bool,
    ):
        super().__init__()
        if isinstance(decay, str) and decay != "membrane":
            raise ValueError(f'trace_decay must be a number, one for each input, or "membrane", got {decay!r}')
        if gradient not in DECAY_GRADIENTS:
            raise ValueError(f"decay_gradient must be one of {', '.join(DECAY_GRADIENTS)}, got {gradient!r}")
        self.tied, self.groups, self.gradient = isinstance(decay, str), 1, gradient
        if isinstance(decay, str):
            self.groups = _count_groups(neuron)
            self.register_parameter("raw_decay", None)
        else:
            free = numbers(decay, "trace_decay")
            if in_features is not None and tuple(free.shape) not in ((), (in_features,)):
                raise ValueError(
                    f"trace_decay must be a number or {in_features} of them, got shape {tuple(free.shape)}"
                )
            if neuron.features is not None and neuron.raw_decay.numel() not in (1, neuron.features):
                shape = tuple(neuron.raw_decay.shape)
                raise ValueError(f"decay must be a number or {neuron.features} of them, got shape {shape}")
            self.register_parameter("raw_decay", Parameter(constrain.raw_from_decay(free).clone()))
        self.register_buffer("trace_bank", _check_bank(trace_bank), persistent=False)
        self.keeps_slope = gradient == "exact" and trainable
        """Whether ∂trace/∂decay is kept next to the trace, from which the decay that it follows then learns."""

    @property
    def followers(self) -> int:
        """Number of traces of the trace."""
        return self.groups * (self.keeps_slope + len(self.trace_bank))

    def moves(self, neuron: Neuron) -> bool:
        """Whether the average input depends on a decay that is trained.

        Raises: RuntimeError if that decay is trained now, and was not when the layer was made.
        """
        followed = neuron.raw_decay if self.raw_decay is None else self.raw_decay
        if not followed.requires_grad:
            return False
        if self.gradient == "exact" and not self.keeps_slope:
            name = "decay" if self.tied else "trace_decay"
            raise RuntimeError(
                f"{name} was not trained when the layer was made, so ∂trace/∂{name} was not kept: make it "
                f'with "{name}" in trainable, or with decay_gradient="stationary"'
            )
        return self.keeps_slope or not self.tied

    def decay(self, neuron: Neuron) -> Tensor:
        """Decay of the trace per step: a number, one for each input, or (groups, 1, 1) if tied to several.

        A tied one is read without a gradient: the trace is what was recorded, whatever the decay becomes.
        """
        decay = self.trained_decay(neuron)
        return decay.detach() if self.tied else decay

    def trained_decay(self, neuron: Neuron) -> Tensor:
        """`decay`, with a gradient for the membrane's decay too where the two are tied."""
        raw = neuron.raw_decay if self.raw_decay is None else self.raw_decay
        decay = constrain.decay_from_raw(raw)
        return decay[:, None, None] if self.groups > 1 else decay

    def kept_decay(self, neuron: Neuron) -> Tensor:
        """`decay` without a graph; read-only."""
        return neuron.constants[0] if self.tied and self.groups == 1 and neuron.kernel else self.decay(neuron).detach()

    def for_kernels(self, decay: Tensor, state: LayerState) -> TraceBuffers:
        """The trace as the kernels take it, in the memory of this state, with the inputs as one dimension.

        Args: decay: what `decay` gives, without a gradient.
        """
        values, sensitivity = state.trace, state.trace_sensitivity
        if self.groups == 1 and values.ndim > 2:
            decay = decay.expand(values.shape[1:]).flatten() if decay.ndim else decay
            values, sensitivity = values.flatten(1), sensitivity.flatten(2)
        if not self.followers:
            return TraceBuffers(values, decay)
        return TraceBuffers(values, decay, sensitivity, self._follower_decays(decay, values.shape[-1]))

    def _follower_decays(self, decay: Tensor, inputs: int) -> Tensor:
        """(followers, 1, inputs): that of the trace for its slope; then the bank's."""
        own = decay.expand(self.groups, 1, inputs)
        trace_bank = self.trace_bank.repeat_interleave(self.groups)[:, None, None].expand(-1, 1, inputs)
        return torch.cat([own, trace_bank]) if self.keeps_slope else trace_bank

    def average(self, neuron: Neuron, state: LayerState) -> Tensor:
        """Weighted mean of the input since the last reset, recent steps weighing more: (…, batch, *in_shape).

        If a decay learns from it, it depends on that decay just as the recorded input makes it.
        """
        trace, decay = state.trace, self.kept_decay(neuron) if self.tied else self.decay(neuron)
        if self.keeps_slope:
            decay = self.trained_decay(neuron)
            slope = state.trace_sensitivity[: self.groups] if self.groups > 1 else state.trace_sensitivity[0]
            trace = trace + slope * (decay - decay.detach())
        dims = 1 if self.groups > 1 else trace.ndim - 1
        return F.average_input(trace, decay, per_sample(state.steps, dims))

    def extra_repr(self) -> str:
        return "tied to the membrane" if self.tied else "free"


def _count_groups(neuron: Neuron) -> int:
    groups = neuron.raw_decay.numel()
    if neuron.features is None and groups > 1:
        raise ValueError("a trace tied to the membrane needs one decay there: give trace_decay a number to set it free")
    if groups > MAX_GROUPS:
        raise ValueError(
            f"{groups} decays tied to the trace would need {groups} traces for every input (at most {MAX_GROUPS}); "
            "give trace_decay a number for one free trace, or use fewer groups"
        )
    return groups


def _check_bank(trace_bank: Sequence[float]) -> Tensor:
    if (
        isinstance(trace_bank, str)
        or not isinstance(trace_bank, Iterable)
        or any(isinstance(decay, str) for decay in trace_bank)
    ):
        raise ValueError(f"trace_bank is a list of decays, such as [0.97], got {trace_bank!r}")
    decays = torch.tensor(sorted(trace_bank), dtype=torch.get_default_dtype())
    if not bool(((decays > 0) & (decays < 1)).all()) or len(decays.unique()) < len(decays):
        raise ValueError(f"trace_bank lists different decays between 0 and 1 (both excluded), got {list(trace_bank)}")
    return decays
