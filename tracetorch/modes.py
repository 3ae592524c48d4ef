"""Checks of arguments, and decorators that make functions independent of torch's modes."""

import math
import operator
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
T = TypeVar("T")

_AUTOCAST_DEVICES = ("cpu", "cuda", "mps")


def unaffected(function: Callable[P, T]) -> Callable[P, T]:
    """Decorator: the function runs outside of `torch.autocast` and of `torch.inference_mode`.

    Autocast would round factors that kernels expect in float32; a layer's `precision` rounds them where that is wanted.
    A state made in inference mode could be neither updated nor used in a backward pass afterwards.
    """

    @wraps(function)
    def outside(*args: P.args, **kwargs: P.kwargs) -> T:
        devices = [device for device in _AUTOCAST_DEVICES if torch.is_autocast_enabled(device)]
        is_inference = torch.is_inference_mode_enabled()
        if not devices and not is_inference:
            return function(*args, **kwargs)
        with ExitStack() as modes:
            for device in devices:
                modes.enter_context(torch.autocast(device, enabled=False))
            if is_inference:
                modes.enter_context(torch.inference_mode(False))
                modes.enter_context(torch.no_grad())
            return function(*args, **kwargs)

    return outside


def without_graph(function: Callable[P, T]) -> Callable[P, T]:
    """`torch.no_grad()` as a decorator that takes no time if gradients are disabled already."""

    @wraps(function)
    def inside(*args: P.args, **kwargs: P.kwargs) -> T:
        if not torch.is_grad_enabled():
            return function(*args, **kwargs)
        with torch.no_grad():
            return function(*args, **kwargs)

    return inside


def check_tensor(value: Any, name: str) -> None:
    """Raises: TypeError unless the value is a dense tensor of real numbers."""
    if not isinstance(value, Tensor):
        advice = _ADVICE.get(type(value).__name__, "")
        raise TypeError(f"{name}: expected a torch tensor, got {kind_of(value)}{advice}")
    if value.is_complex() or value.layout != torch.strided:
        kind = f"{value.dtype} in the layout {value.layout}"
        raise TypeError(f"{name}: expected a dense tensor of real numbers, got {kind}; see .real and .to_dense()")


_ADVICE = {
    **dict.fromkeys(("ndarray", "list", "int", "float", "bool"), "; torch.as_tensor(value) makes one"),
    "tuple": "; a loss returns (loss, signal): pass one of them",
    "Stream": "; net.run takes a stream",
}
"""Advice by the type of the value."""


def all_finite(values: Tensor) -> bool:
    """Whether all values are finite. Their sum is checked first, which takes a third of the time for few values."""
    return math.isfinite(values.detach().sum()) or bool(values.isfinite().all())


def whole(value: Any, name: str) -> int:
    """A whole number of Python, NumPy or torch as an int. Raises: TypeError for anything else."""
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be a whole number, got {value!r}") from None


def numbers(value: Any, name: str) -> Tensor:
    """One or several numbers as a tensor in the default dtype. Raises: TypeError for anything else, such as text."""
    try:
        return torch.as_tensor(value, dtype=torch.get_default_dtype())
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"{name} must be a number, or a list of numbers, got {value!r}") from None


def check_number(value: Any, name: str) -> None:
    """Raises: TypeError unless the value is a single real number."""
    with suppress(TypeError, ValueError, RuntimeError):
        if not isinstance(value, str):
            float(value)
            return
    raise TypeError(f"{name} must be a number, got {value!r}")


def kind_of(value: Any) -> str:
    """The type of a value, for a message: "numpy.ndarray", "list", "the class LIF"."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return f"{type(value).__module__.partition('.')[0]}.{type(value).__name__}".removeprefix("builtins.")
