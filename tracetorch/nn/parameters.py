"""The parameters of a layer: stored raw, read constrained, each of them learnable or fixed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches

import torch
from torch import Tensor
from torch.nn import Module, Parameter

from tracetorch import constrain
from tracetorch.modes import numbers, whole

Values = float | Sequence[float] | Tensor

MAX_GROUPS = 16
"""A tied trace is kept once for each decay; more than this is surely a decay per neuron, which needs a free trace."""


DECAY_GRADIENTS = ("exact", "stationary")
"""What a trace's decay learns from: how the trace depends on it, or how a steady state would."""


class LayerParameters(Module):
    """Weights, bias and decays of a layer; see `TraceLayer` for what they mean and for the arguments.

    A neuron with further parameters stores them with `_store` and then calls `_check_learn`.
    """

    weight: Parameter
    bias: Parameter | None
    bank: Tensor
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
        decay_gradient: str = "exact",
        bank: Sequence[float] = (),
    ):
        super().__init__()
        in_features, out_features = whole(in_features, "in_features"), whole(out_features, "out_features")
        if in_features < 1 or out_features < 1:
            raise ValueError(f"a layer needs at least 1 input and 1 neuron, got {in_features} and {out_features}")
        if isinstance(trace_decay, str) and trace_decay != "membrane":
            raise ValueError(f'trace_decay must be a number, one for each input, or "membrane", got {trace_decay!r}')
        if decay_gradient not in DECAY_GRADIENTS:
            raise ValueError(f"decay_gradient must be one of {', '.join(DECAY_GRADIENTS)}, got {decay_gradient!r}")
        if not isinstance(bias, bool):
            raise TypeError(f"bias must be True or False, got {bias!r}")
        if not isinstance(learn, Iterable):
            raise TypeError(f"learn is a list of parameters, such as ['weight'] or [], got {learn!r}")
        self.in_features, self.out_features, self.decay_gradient = in_features, out_features, decay_gradient
        self._learn = (learn,) if isinstance(learn, str) else tuple(learn)
        bound = 1 / math.sqrt(in_features)
        weight = torch.empty(out_features, in_features).uniform_(-bound, bound)
        self._store("weight", weight)
        self._store("bias", torch.zeros(out_features) if bias else None)
        if isinstance(trace_decay, str):
            decay = numbers(decay, "decay")
            self.groups = self._count_groups(decay)
            self._store("raw_trace_decay", None)
        else:
            decay = self._per("decay", decay, out_features)
            self.groups = 1
            free = self._per("trace_decay", trace_decay, in_features)
            self._store("raw_trace_decay", constrain.raw_from_decay(free))
        self._store("raw_decay", constrain.raw_from_decay(decay))
        self.register_buffer("bank", self._check_bank(bank), persistent=False)

    @property
    def tied(self) -> bool:
        """Whether the trace decays with the membrane, which is the exact case."""
        return self.raw_trace_decay is None

    @property
    def keeps_slope(self) -> bool:
        """Whether ∂trace/∂decay is kept beside the trace: if a decay that the trace follows learns by it."""
        return self.decay_gradient == "exact" and ("decay" if self.tied else "trace_decay") in self._learn

    @property
    def learns_trace_decay(self) -> bool:
        """Whether the average input moves with a decay that learns."""
        return self.keeps_slope or (self.raw_trace_decay is not None and self.raw_trace_decay.requires_grad)

    @property
    def learns_by_products(self) -> bool:
        """Whether the current is all that a graph is needed for; a weight that is made of others needs one too."""
        plain = not self._modules and "weight" in self._parameters and "bias" in self._parameters
        return plain and self.groups == 1 and not len(self.bank) and not self.learns_trace_decay

    @property
    def seconds(self) -> int:
        """How many traces of the trace there are."""
        return self.groups * (self.keeps_slope + len(self.bank))

    @property
    def second_decay(self) -> Tensor:
        """Their decays, (seconds, 1, in_features): those of the traces, for the slopes; then the bank's."""
        own = self.trace_decay.detach().expand(self.groups, 1, self.in_features)
        bank = self.bank.repeat_interleave(self.groups)[:, None, None].expand(-1, 1, self.in_features)
        return torch.cat([own, bank]) if self.keeps_slope else bank

    @property
    def decay(self) -> Tensor:
        """Decay of the membrane per step, in (0, 1): a number, or (out_features,)."""
        decay = self._read("raw_decay", constrain.decay_from_raw)
        return decay.repeat_interleave(self.out_features // self.groups) if self.groups > 1 else decay

    @property
    def trace_decay(self) -> Tensor:
        """Decay of the input trace per step, in (0, 1): a number, (in_features,), or (groups, 1, 1).

        A tied one is read without a gradient: the average input is what was recorded, and moves nothing.
        """
        decay = self.learnable_trace_decay
        return decay.detach() if self.tied else decay

    @property
    def learnable_trace_decay(self) -> Tensor:
        """`trace_decay`, with a gradient for the membrane's decay too where the two are tied."""
        decay = self._read("raw_decay" if self.tied else "raw_trace_decay", constrain.decay_from_raw)
        return decay[:, None, None] if self.groups > 1 else decay

    def _store(self, name: str, value: Tensor | None) -> None:
        learnable = name.removeprefix("raw_") in self._learn
        self.register_parameter(name, None if value is None else Parameter(value.clone(), requires_grad=learnable))

    def _read(self, name: str, constrained: Callable[[Tensor], Tensor]) -> Tensor:
        raw = self._parameters[name]
        assert raw is not None
        return constrained(raw)

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

    def _check_bank(self, bank: Sequence[float]) -> Tensor:
        if isinstance(bank, str) or not isinstance(bank, Iterable) or any(isinstance(decay, str) for decay in bank):
            raise ValueError(f"bank is a list of decays, such as [0.97], got {bank!r}")
        decays = torch.tensor(sorted(bank), dtype=torch.get_default_dtype())
        if not bool(((decays > 0) & (decays < 1)).all()) or len(decays.unique()) < len(decays):
            raise ValueError(f"bank lists different decays between 0 and 1 (both excluded), got {list(bank)}")
        return decays

    def _per(self, name: str, value: Values, count: int) -> Tensor:
        tensor = numbers(value, name)
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
