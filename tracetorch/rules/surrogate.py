"""Surrogates for the derivative of a spike, for rules that differentiate the steps of a neuron.

The derivative of a spike is 0 almost everywhere. A surrogate keeps the spike and takes the derivative of a smooth
function, `value`, of x = (m − θ)/θ: the distance of the membrane from its threshold, in units of the threshold.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from tracetorch.nn import Layer, Neuron


@dataclass(frozen=True)
class Surrogate(ABC):
    """A spike whose derivative is that of a smooth function.

    Args:
        through_reset: whether the gradient also flows through the reset of the membrane, which usually harms learning.
    Returns: a call with a membrane and a threshold returns spikes, 1 where the membrane exceeds the threshold, else 0.
    Gradient: approximate: `derivative(x)` with respect to x = (m − θ)/θ.
    """

    through_reset: bool = False

    def __post_init__(self) -> None:
        for field in fields(self)[1:]:  # all but through_reset
            if not 0 < getattr(self, field.name) < math.inf:
                raise ValueError(f"{field.name} must be above 0 and finite, got {getattr(self, field.name):g}")

    @property
    def compiled(self) -> tuple[str, float, float] | None:
        """Name, width and height of the compiled derivative, if there is one; see `backends.times_slopes`."""
        return None

    @abstractmethod
    def value(self, x: Tensor) -> Tensor:
        """The smooth function."""

    @abstractmethod
    def derivative(self, x: Tensor) -> Tensor:
        """The derivative of `value`."""

    def __call__(self, membrane: Tensor, threshold: Tensor) -> Tensor:
        return _Spike.apply((membrane - threshold) / threshold, self)


class _Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, surrogate: Surrogate) -> Tensor:
        ctx.save_for_backward(x)
        ctx.surrogate = surrogate
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, signal: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return signal * ctx.surrogate.derivative(x), None


@dataclass(frozen=True)
class FastSigmoid(Surrogate):
    """The derivative of a fast sigmoid: `1 / (1 + k·|x|)²`.

    Args: slope: k > 0; the larger, the narrower.
    Source: Zenke, Ganguli (2018), SuperSpike, doi:10.1162/neco_a_01086.
    """

    slope: float = 10.0

    def value(self, x: Tensor) -> Tensor:
        return x / (1 + self.slope * x.abs())

    def derivative(self, x: Tensor) -> Tensor:
        return (1 + self.slope * x.abs()).pow(-2)

    @property
    def compiled(self) -> tuple[str, float, float]:
        return "fast_sigmoid", self.slope, 1.0


@dataclass(frozen=True)
class Arctan(Surrogate):
    """The derivative of an arctangent: `α/2 / (1 + (π/2·α·x)²)`.

    Args: alpha: α > 0; the larger, the higher and narrower.
    Source: Fang, Yu, Chen, Masquelier, Huang, Tian (2021), doi:10.1109/ICCV48922.2021.00266.
    """

    alpha: float = 2.0

    def value(self, x: Tensor) -> Tensor:
        return torch.arctan(math.pi / 2 * self.alpha * x) / math.pi + 0.5

    def derivative(self, x: Tensor) -> Tensor:
        return self.alpha / 2 / (1 + (math.pi / 2 * self.alpha * x).square())

    @property
    def compiled(self) -> tuple[str, float, float]:
        return "arctan", math.pi / 2 * self.alpha, self.alpha / 2


@dataclass(frozen=True)
class Triangle(Surrogate):
    """A triangle: `γ·max(0, 1 − |x|)`, the pseudo-derivative of e-prop.

    Args: height: γ > 0.
    Source: Bellec, Scherr, Subramoney, Hajek, Salaj, Legenstein, Maass (2020), doi:10.1038/s41467-020-17236-y.
    """

    height: float = 0.3

    def value(self, x: Tensor) -> Tensor:
        inside = x.clamp(-1, 1)
        return self.height * (0.5 + inside - inside * inside.abs() / 2)

    def derivative(self, x: Tensor) -> Tensor:
        return self.height * (1 - x.abs()).clamp(min=0)

    @property
    def compiled(self) -> tuple[str, float, float]:
        return "triangle", 1.0, self.height


SURROGATES: dict[str, Callable[..., Surrogate]] = {"fast_sigmoid": FastSigmoid, "arctan": Arctan, "triangle": Triangle}
"""The surrogates by the name that a rule's `surrogate` takes."""


@contextmanager
def using(layer: Layer, surrogate: Surrogate) -> Iterator[None]:
    """Give a layer's spikes a derivative inside the `with` block."""
    layer.neuron.surrogate = surrogate
    try:
        yield
    finally:
        layer.neuron.surrogate = None


@torch.enable_grad()
def needs_slopes(layer: Layer, *, decays_alone: bool = False) -> str:
    """Return why a neuron's step lacks the derivatives that a rule needs, by trying one step; "" if it has them.

    Args: decays_alone: whether d(next membrane)/d(membrane) must be the decay, as `Neuron.decays_alone` promises.
    """
    neuron = layer.neuron
    shape = shape_of(neuron)
    current = neuron.raw_decay.detach().new_zeros(3, *shape).requires_grad_()
    # Below, at and far above any usual threshold; the same for all neurons.
    levels = current.new_tensor([-1.0, 0.5, 1e3]).view(-1, *[1] * len(shape))
    state = neuron.init_state(current)
    state = type(state)(*(levels.expand_as(value).clone().requires_grad_() for value in state))
    with using(layer, FastSigmoid()):
        output, after = neuron.step(current, state)
    if not output.requires_grad:
        return (
            "its output has no derivative: make spikes by functional.lif_step(…, self.surrogate), or by "
            "self.surrogate(membrane, threshold) unless self.surrogate is None; or choose rule=trace"
        )
    if decays_alone:
        kept = torch.autograd.grad(after[0].sum(), state[0])[0]
        if not torch.allclose(kept, neuron.decay.detach().expand_as(kept), rtol=1e-3):
            return (
                f"{type(neuron).__name__} says `decays_alone = True`, but its step multiplies the membrane by another "
                "factor than its decay, as with a reset to zero; choose rule=trace or rule=bptt"
            )
    return ""


def shape_of(neuron: Neuron) -> tuple[int, ...]:
    """Return the smallest shape of a sample's currents that fits the neurons' constants."""
    if neuron.features is not None:
        return (neuron.features,)
    return torch.broadcast_shapes((1,), *(raw.shape for raw in neuron.parameters()))


def surrogate_of(surrogate: Surrogate | str, *, through_reset: bool = False) -> Surrogate:
    """Return a surrogate, given directly or by name. Raises: ValueError for an unknown name."""
    if isinstance(surrogate, Surrogate):
        return replace(surrogate, through_reset=surrogate.through_reset or through_reset)
    if not isinstance(surrogate, str) or surrogate not in SURROGATES:
        raise ValueError(f"surrogate must be one of {', '.join(SURROGATES)}, got {surrogate!r}")
    return SURROGATES[surrogate](through_reset=through_reset)


def surrogate_of_step(surrogate: Surrogate | str) -> Surrogate:
    """As `surrogate_of`, for rules that differentiate each step alone. Raises: ValueError also for `through_reset`."""
    found = surrogate_of(surrogate)
    if found.through_reset:
        raise ValueError(
            "through_reset=True is for BPTT and truncated BPTT: no other rule goes back through the reset of a membrane"
        )
    return found
