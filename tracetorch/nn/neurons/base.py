"""Base class of neurons: constants, the dynamics of one step, and a smooth average; no weights and no state."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module, Parameter

from tracetorch import constrain
from tracetorch import functional as F
from tracetorch.modes import numbers, without_graph

_NUMPY_DTYPES = (torch.float32, torch.float64)

Values = float | Sequence[float] | Tensor
"""A constant of neurons: one number for all of them, or one for each."""


class Neuron(Module, ABC):
    """A population of neurons with a leaky membrane.

        output, state = step(current, state)                       at every step
        average output = steady_state(average current, n)          at a learning moment, differentiated

    Layers run `step` without a graph; rules with a surrogate differentiate it.

    A neuron is a subclass with `state_type`, `step` and `steady_state`. The rest has defaults. A concrete neuron
    may be subclassed too. A subclass with another `step` inherits neither `kernel` nor `decays_alone`.

    Args:
        features: number of neurons; None if the connection's output has several dimensions, such as (channels, height,
            width). Constants are then numbers, or have a shape that broadcasts to that, such as (channels, 1, 1).
        decay: β of the membrane per step, in (0, 1): a number, one for each neuron, or one for each of a few equal
            groups of neurons.
    """

    state_type: type[Any] = F.MembraneState
    """A NamedTuple of tensors, (batch, *features) each: all that one step passes on to the next."""
    spiking = False
    """Whether the outputs are spikes, 0 and 1. A layer without any spikes then counts as silent."""
    real_valued = False
    """Whether the average output is any real number, so that it can be logits or a prediction."""
    decays_alone = False
    """Whether the state is only the membrane, and ∂(next membrane)/∂membrane is `decay` for constant spikes: true for
    a reset by subtraction, false for a reset to zero. E-prop and OTTT need it."""
    kernel: str | None = None
    """Name of the compiled neuron that computes `step`, such as "lif". It takes `constants`, which must depend only on
    parameters whose names begin with `raw_`."""
    constant_names: tuple[str, ...] = ("decay",)
    """Names of `constants`, in their order, the decay first."""
    surrogate: F.SpikeFunction | None = None
    """Derivative of a spike for `functional.lif_step`; set by rules that backpropagate through time."""
    raw_decay: Parameter

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "step" in vars(cls):
            for name in ("kernel", "decays_alone"):
                if name not in vars(cls):
                    setattr(cls, name, getattr(Neuron, name))

    def __init__(self, features: int | None = None, *, decay: Values = 0.9):
        super().__init__()
        self.features = features
        value = numbers(decay, "decay")
        if features is not None and (value.ndim > 1 or not value.numel() or features % value.numel()):
            shape = tuple(value.shape)
            raise ValueError(f"decay must be a number, or one for each of equal groups of neurons, got shape {shape}")
        self.store("decay", value, constrain.raw_from_decay)

    @abstractmethod
    def step(self, current: Tensor, state: Any) -> tuple[Tensor, Any]:
        """One step. Args: current: (batch, *features); state: a `state_type`. Returns: output, next state."""

    @abstractmethod
    def steady_state(self, current: Tensor, steps: Tensor) -> Tensor:
        """Average output under a steady current, (batch, *features); smooth in the current and the constants.

        Args: current: (batch, *features). steps: since the last reset, (batch, 1, …), broadcast against `current`.
        """

    def steady_logits(self, current: Tensor, steps: Tensor) -> Tensor:
        """The logits whose softmax is `steady_state`, if the neurons have logits.

        Args, Returns: as `steady_state`. Raises: ValueError without logits.
        """
        raise ValueError(f"{type(self).__name__} has no logits: give it a signal at its output")

    def steady_vjp(
        self, current: Tensor, steps: Tensor, signal: Tensor, at: str, *, risen: Tensor | None = None
    ) -> tuple[Tensor, dict[Parameter, Tensor]] | None:
        """Vector-Jacobian product of `steady_state`, or at="logits" of `steady_logits`, by a formula without a graph:
        autograd takes several times as long for a small layer.

        Args: current, steps: as `steady_state`. signal: dL/d output, (batch, *features). risen: 1 − βⁿ, if known.
        Returns: dL/d current, and the gradients of the trainable parameters; None: autograd computes them.
        """
        del current, steps, signal, at, risen
        return None

    def init_state(self, current: Tensor) -> Any:
        """The state before the first step and after a reset: zeros. Args: current: for shape, dtype and device."""
        return self.state_type(*(torch.zeros_like(current) for _ in self.state_type._fields))

    @property
    def decay(self) -> Tensor:
        """Decay of the membrane per step, in (0, 1): a number, (features,), or broadcastable to the features."""
        decay = constrain.decay_from_raw(self.raw_decay)
        if self.features is None or not 1 < decay.numel() < self.features:
            return decay
        return decay.repeat_interleave(self.features // decay.numel())

    @decay.setter
    def decay(self, value: Values) -> None:
        self.set("decay", value, constrain.raw_from_decay)

    @property
    @without_graph
    def constants(self) -> tuple[Tensor, ...]:
        """The constants of the compiled neuron, without a graph; read-only. On a CPU they are cached."""
        return tuple(map(self.constant, self.constant_names))

    @without_graph
    def constant(self, name: str) -> Tensor:
        """The constant of this name; see `constants`."""
        raw: Tensor = getattr(self, f"raw_{name}")
        if raw.device.type != "cpu" or raw.dtype not in _NUMPY_DTYPES:
            return getattr(self, name)
        values = raw.detach().numpy().tobytes() if raw.ndim else raw.item()
        key, cache = (values, raw.shape, raw.dtype), self.__dict__.setdefault("_constant_cache", {})
        if name not in cache or cache[name][0] != key:
            cache[name] = key, getattr(self, name)
        return cache[name][1]

    def store(self, name: str, value: Values, to_raw: Callable[[Tensor], Tensor]) -> None:
        """Register a constant as the unconstrained parameter `raw_<name>`.

        Args: value: a number, or one for each neuron. to_raw: map to raw values, such as `constrain.raw_from_positive`.
        Raises: ValueError for another number of values, or values outside of the constant's range.
        """
        tensor = numbers(value, name)
        if name != "decay" and self.features is not None and tuple(tensor.shape) not in ((), (self.features,)):
            raise ValueError(f"{name} must be a number or {self.features} of them, got shape {tuple(tensor.shape)}")
        self.register_parameter(f"raw_{name}", Parameter(to_raw(tensor).clone()))

    @torch.no_grad()
    def set(self, name: str, value: Values, to_raw: Callable[[Tensor], Tensor]) -> None:
        """Change a stored constant. Args, Raises: as `store`."""
        raw, given = self.get_parameter(f"raw_{name}"), numbers(value, name)
        if given.shape not in ((), raw.shape):
            shapes = f"{tuple(raw.shape)}, got {tuple(given.shape)}"
            raise ValueError(f"{name} was stored in the shape {shapes}: make new neurons for another shape")
        raw.copy_(to_raw(given))

    def extra_repr(self) -> str:
        return "" if self.features is None else str(self.features)
