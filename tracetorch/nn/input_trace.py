"""The trace of a layer's input, and the bank of traces that follow it.

Bank: averages of the input over several stretches of the past, instead of one average over all of it. An early spike
acts on the output as long as it is in the trace of the layer above (the reader), which may decay much more slowly than
the neuron's membrane; a single average does not contain the time of the input. The traces of the bank follow the input
trace, `e ← c·e + t`, with several decays c₁ < c₂ < … < c_K. The difference between neighbours,

    D_k = e_k − e_{k−1},    window w_k(s) = c_kˢ − c_{k−1}ˢ ≥ 0    of the trace s steps ago, Σ_k w_k(s) = c_Kˢ

(D₁ = e₁, w₁(s) = c₁ˢ) is the trace over one stretch of the past; a larger k reaches further back. Each stretch has its
own average current and its own point on the steady-state map. The signal from above, dL/d Σ_s rˢ·output(s)/Σ_s rˢ for a
reader with decay r, is split over the stretches in proportion to their weight in the reader's trace,
Σ_s rˢ·w_k(s)/c_Kˢ.

Approximate: within a stretch the input counts as steady, and its order is lost. Memory: batch × inputs for each decay,
independent of time. The construction is ours: docs/how-it-learns.md.
"""

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
"""Largest number of decays of a tied trace, which is one trace for each decay. More decays need a free trace."""


class InputTrace(Module):
    """Settings of the input trace `t ← d·t + x`; its values are part of the layer's state.

    Args:
        neuron: the layer's neurons; a tied trace has their decay.
        decay: "membrane" ties the trace to the membrane's decay; a number, or one for each input, sets it free.
        in_features: number of inputs; None if they have several dimensions.
        gradient, trace_bank: `decay_gradient` and `trace_bank` of `Layer`.
        trainable: whether the trace's decay is trained (the membrane's, if tied).
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
        if gradient not in ("exact", "stationary"):
            raise ValueError(f"decay_gradient must be one of exact, stationary, got {gradient!r}")
        self.tied, self.groups, self.gradient = isinstance(decay, str), 1, gradient
        if isinstance(decay, str):
            self.groups = _count_groups(neuron)
            self.register_parameter("raw_decay", None)
        else:
            values = numbers(decay, "trace_decay")
            if in_features is not None and tuple(values.shape) not in ((), (in_features,)):
                shape = tuple(values.shape)
                raise ValueError(f"trace_decay must be a number or {in_features} of them, got shape {shape}")
            if neuron.features is not None and neuron.raw_decay.numel() not in (1, neuron.features):
                shape = tuple(neuron.raw_decay.shape)
                raise ValueError(f"decay must be a number or {neuron.features} of them, got shape {shape}")
            self.register_parameter("raw_decay", Parameter(constrain.raw_from_decay(values).clone()))
        self.register_buffer("trace_bank", _check_bank(trace_bank), persistent=False)
        self.keeps_sensitivity = gradient == "exact" and trainable  # keeps ∂trace/∂decay

    @property
    def num_followers(self) -> int:
        """Number of traces that follow the input trace, `e ← c·e + t`."""
        return self.groups * (self.keeps_sensitivity + len(self.trace_bank))

    def has_trained_decay(self, neuron: Neuron) -> bool:
        """Whether the average input depends on a decay that is trained.

        Raises: RuntimeError if that decay is trained now, and was not when the layer was made.
        """
        raw = neuron.raw_decay if self.raw_decay is None else self.raw_decay
        if not raw.requires_grad:
            return False
        if self.gradient == "exact" and not self.keeps_sensitivity:
            name = "decay" if self.tied else "trace_decay"
            raise RuntimeError(
                f"{name} was not trained when the layer was made, so ∂trace/∂{name} was not kept: make it "
                f'with "{name}" in trainable, or with decay_gradient="stationary"'
            )
        return self.keeps_sensitivity or not self.tied

    def decay(self, neuron: Neuron) -> Tensor:
        """Decay of the trace per step: a number, one for each input, or (groups, 1, 1); detached if it is tied."""
        decay = self.trained_decay(neuron)
        return decay.detach() if self.tied else decay

    def trained_decay(self, neuron: Neuron) -> Tensor:
        """`decay`, not detached: with a tied trace, its gradient reaches the membrane's decay."""
        raw = neuron.raw_decay if self.raw_decay is None else self.raw_decay
        decay = constrain.decay_from_raw(raw)
        return decay[:, None, None] if self.groups > 1 else decay

    def constant_decay(self, neuron: Neuron) -> Tensor:
        """`decay` without a graph; read-only."""
        is_cached = self.tied and self.groups == 1 and neuron.kernel
        return neuron.constant("decay") if is_cached else self.decay(neuron).detach()

    def for_kernels(self, decay: Tensor, state: LayerState) -> TraceBuffers:
        """The trace as the kernels take it, in the memory of this state, with the inputs as one dimension."""
        values, sensitivity = state.trace, state.trace_sensitivity
        if self.groups == 1 and values.ndim > 2:
            decay = decay.expand(values.shape[1:]).flatten() if decay.ndim else decay
            values, sensitivity = values.flatten(1), sensitivity.flatten(2)
        if not self.num_followers:
            return TraceBuffers(values, decay)
        inputs = values.shape[-1]
        decays = self.trace_bank.repeat_interleave(self.groups)[:, None, None].expand(-1, 1, inputs)
        if self.keeps_sensitivity:
            decays = torch.cat([decay.expand(self.groups, 1, inputs), decays])
        return TraceBuffers(values, decay, sensitivity, decays)

    def average(self, neuron: Neuron, state: LayerState) -> Tensor:
        """Weighted mean of the input since the last reset, recent steps weighing more: (…, batch, *in_shape).

        With `keeps_sensitivity`, its derivative with respect to the decay includes that of the trace.
        """
        trace, decay = state.trace, self.constant_decay(neuron) if self.tied else self.decay(neuron)
        if self.keeps_sensitivity:
            decay = self.trained_decay(neuron)
            sensitivity = state.trace_sensitivity[: self.groups] if self.groups > 1 else state.trace_sensitivity[0]
            trace = trace + sensitivity * (decay - decay.detach())
        dims = 1 if self.groups > 1 else trace.ndim - 1
        return F.average_input(trace, decay, per_sample(state.steps, dims))

    def extra_repr(self) -> str:
        return "tied to the membrane" if self.tied else "free"


def _count_groups(neuron: Neuron) -> int:
    groups = neuron.raw_decay.numel()
    if neuron.features is None and groups > 1:
        raise ValueError(
            "with neurons of several dimensions, a tied trace has one decay: give trace_decay a number to set it free"
        )
    if groups > MAX_GROUPS:
        raise ValueError(
            f"a trace tied to {groups} decays would need {groups} traces for every input (at most {MAX_GROUPS}); "
            "give trace_decay a number for one free trace, or use fewer groups"
        )
    return groups


def _check_bank(trace_bank: Sequence[float]) -> Tensor:
    is_list = isinstance(trace_bank, Iterable) and not isinstance(trace_bank, str)
    if not is_list or any(isinstance(decay, str) for decay in trace_bank):
        raise ValueError(f"trace_bank is a list of decays, such as [0.97], got {trace_bank!r}")
    decays = torch.tensor(sorted(trace_bank), dtype=torch.get_default_dtype())
    if not bool(((decays > 0) & (decays < 1)).all()) or len(decays.unique()) < len(decays):
        raise ValueError(f"trace_bank lists different decays between 0 and 1 (both excluded), got {list(trace_bank)}")
    return decays


# ── the bank ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def average_inputs(trace: Tensor, trace_decay: Tensor, state: LayerState, trace_bank: Tensor) -> Tensor:
    """The average input in each stretch of the past, weighted as in the trace: (bank, …, batch, in_features).

    Args: trace, trace_decay, state, trace_bank: of the layer. The bank's traces come last in `state.trace_sensitivity`.
    """
    decays = trace_bank.view(-1, *[1] * trace.ndim)
    of_bank = state.trace_sensitivity[len(state.trace_sensitivity) - len(trace_bank) * trace[..., 0, 0].numel() :]
    sums = decays * of_bank.view(len(trace_bank), *trace.shape) + trace  # includes the present trace
    length = windows(decays, state.steps)
    return (1 - trace_decay) * _differences(sums) / length.clamp(min=torch.finfo(trace.dtype).eps)


def shares(reader: Tensor, steps: Tensor, trace_bank: Tensor) -> Tensor:
    """The share of each stretch in the trace of the layer above, (bank, batch, 1 or features); the shares add up to 1.

    Args: reader: decay of the reader's trace, a number or one for each of its inputs. steps: n, (batch, 1).
    """
    weights = windows(reader * trace_bank[:, None, None] / trace_bank[-1], steps)
    return weights / weights.sum(dim=0)


def windows(decays: Tensor, steps: Tensor) -> Tensor:
    """Sum of each window over n steps, Σ_s w_k(s), (bank, batch, …), for ascending decays, (bank, 1, …)."""
    return _differences(F.rise(decays, steps) / (1 - decays))


def _differences(values: Tensor) -> Tensor:
    """Differences between neighbours along the first dimension, after the first value."""
    return torch.cat([values[:1], values[1:] - values[:-1]])
