"""The parameters of a layer: stored raw, read constrained, each of them learnable or fixed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

import torch
from torch import Tensor
from torch.nn import Module, Parameter

from tracetorch import constrain

Values = float | Sequence[float] | Tensor

MAX_GROUPS = 16
"""A tied trace is kept once for each decay; more than this is surely a decay per neuron, which needs a free trace."""


class LayerParameters(Module):
    """Weights, bias and decays of a layer; see `TraceLayer` for what they mean and for the arguments.

    A neuron with further parameters stores them with `_store` and then calls `_check_learn`.
    """

    weight: Parameter
    bias: Parameter | None
    raw_decay: Parameter
    raw_trace_decay: Parameter | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        decay: Values,
        trace_decay: Values | str,
        bias: bool,
        learn: Iterable[str],
    ):
        super().__init__()
        if in_features < 1 or out_features < 1:
            raise ValueError(f"a layer needs at least 1 input and 1 neuron, got {in_features} and {out_features}")
        if isinstance(trace_decay, str) and trace_decay != "membrane":
            raise ValueError(f'trace_decay must be a number, one for each input, or "membrane", got {trace_decay!r}')
        self.in_features, self.out_features = in_features, out_features
        self._learn = (learn,) if isinstance(learn, str) else tuple(learn)
        bound = 1 / math.sqrt(in_features)
        weight = torch.empty(out_features, in_features).uniform_(-bound, bound)
        # Kept input by input, though its shape is the usual one: the weights that a spike touches lie side by side.
        self._store("weight", weight.t().contiguous().t())
        self._store("bias", torch.zeros(out_features) if bias else None)
        if isinstance(trace_decay, str):
            decay = torch.as_tensor(decay, dtype=torch.get_default_dtype())
            self.groups = self._count_groups(decay)
            self._store("raw_trace_decay", None)
        else:
            decay = self._per("decay", decay, out_features)
            self.groups = 1
            free = self._per("trace_decay", trace_decay, in_features)
            self._store("raw_trace_decay", constrain.raw_from_decay(free))
        self._store("raw_decay", constrain.raw_from_decay(decay))

    @property
    def tied(self) -> bool:
        """Whether the trace decays with the membrane, which is the exact case."""
        return self.raw_trace_decay is None

    @property
    def decay(self) -> Tensor:
        """Decay of the membrane per step, in (0, 1): a number, or (out_features,)."""
        decay = constrain.decay_from_raw(self.raw_decay)
        return decay.repeat_interleave(self.out_features // self.groups) if self.groups > 1 else decay

    @property
    def trace_decay(self) -> Tensor:
        """Decay of the input trace per step, in (0, 1): a number, (in_features,), or (groups, 1, 1).

        A tied one is read without a gradient: the average input is what was recorded, and moves nothing.
        """
        if self.raw_trace_decay is not None:
            return constrain.decay_from_raw(self.raw_trace_decay)
        decay = constrain.decay_from_raw(self.raw_decay.detach())
        return decay[:, None, None] if self.groups > 1 else decay

    def _store(self, name: str, value: Tensor | None) -> None:
        learnable = name.removeprefix("raw_") in self._learn
        self.register_parameter(name, None if value is None else Parameter(value.clone(), requires_grad=learnable))

    def _check_learn(self) -> None:
        """Raises: ValueError if `learn` names what there is not; called once all parameters are stored."""
        names = [name.removeprefix("raw_") for name in self._parameters]
        for name in self._learn:
            if name not in names:
                close = get_close_matches(name, names, 1)
                hint = f"did you mean {close[0]!r}? " if close else ""
                raise ValueError(f"learn: a {type(self).__name__} has no {name!r}; {hint}it has {', '.join(names)}")
        if self.tied and "trace_decay" in self._learn:
            raise ValueError("learn: a tied trace_decay follows the membrane's; give trace_decay a number to learn it")

    def _per(self, name: str, value: Values, count: int) -> Tensor:
        tensor = torch.as_tensor(value, dtype=torch.get_default_dtype())
        if tensor.ndim > 1 or (tensor.ndim == 1 and len(tensor) != count):
            raise ValueError(f"{name} must be a number or {count} of them, got shape {tuple(tensor.shape)}")
        return tensor

    def _count_groups(self, decay: Tensor) -> int:
        groups = decay.numel()
        if decay.ndim > 1 or not groups or self.out_features % groups:
            shape = tuple(decay.shape)
            raise ValueError(f"decay must be a number, or one for each of equal groups of neurons, got shape {shape}")
        if groups > MAX_GROUPS:
            raise ValueError(
                f"{groups} decays tied to the trace would need {groups} traces for every input (at most {MAX_GROUPS}); "
                "give trace_decay a number for one free trace, or use fewer groups"
            )
        return groups

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}"
