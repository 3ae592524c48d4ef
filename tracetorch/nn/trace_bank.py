"""A bank of traces: what came in over several stretches of the past, rather than one average over all of it.

A neuron that fired early acts on the output for as long as the layer above remembers, which may be much longer than the
neuron itself does. Its own trace says what it has heard of late, and a single average says nothing about when. The bank
follows the trace, `e ← c·e + t`, with several decays c₁ < c₂ < … < c_K; what each keeps beyond the one before,

    D_k = e_k − e_{k−1},    window w_k(s) = c_kˢ − c_{k−1}ˢ ≥ 0    of the trace s steps ago, Σ_k w_k(s) = c_Kˢ

is the trace over one stretch of the past, the next further back. Each has an average current of its own, and its own
place on the steady-state map. The signal from above, dL/d Σ_s rˢ·output(s)/Σ_s rˢ for a reader with decay r, falls to a
stretch as its share of what the reader remembers, Σ_s rˢ·w_k(s)/c_Kˢ.

Approximate: within a stretch the input counts as steady, and order is lost there. Memory: batch × inputs for each
decay, independent of time. The construction is ours; docs/how-it-learns.md.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tracetorch import functional as F
from tracetorch.nn.state import LayerState


def average_inputs(trace: Tensor, trace_decay: Tensor, state: LayerState, trace_bank: Tensor) -> Tensor:
    """The average input in each stretch of the past, as the membrane felt it: (bank, batch, in_features).

    With groups of neurons, (bank, groups, batch, in_features).

    Args: trace, trace_decay, state, trace_bank: of the layer; the bank's are the last of `state.trace_sensitivity`.
    """
    decays = trace_bank.view(-1, *[1] * trace.ndim)
    followers = state.trace_sensitivity[len(state.trace_sensitivity) - len(trace_bank) * trace[..., 0, 0].numel() :]
    kept = decays * followers.view(len(trace_bank), *trace.shape) + trace  # the present step too
    length = windows(decays, state.steps)
    return (1 - trace_decay) * _beyond(kept) / length.clamp(min=torch.finfo(trace.dtype).eps)


def shares(reader: Tensor, steps: Tensor, trace_bank: Tensor) -> Tensor:
    """Which share of what a reader remembers falls into each stretch: (bank, batch, 1 or features), 1 in all.

    Args:
        reader: decay of the reader's trace, a number or one for each of its inputs.
        steps: n, (batch, 1).
    """
    lasting = windows(reader * trace_bank[:, None, None] / trace_bank[-1], steps)
    return lasting / lasting.sum(dim=0)


def windows(decays: Tensor, steps: Tensor) -> Tensor:
    """Σ_s of each window over n steps, (bank, batch, …). Args: decays: (bank, 1, …), ascending."""
    return _beyond(F.rise(decays, steps) / (1 - decays))


def _beyond(values: Tensor) -> Tensor:
    """Of each what it has beyond the one before."""
    return torch.cat([values[:1], values[1:] - values[:-1]])
