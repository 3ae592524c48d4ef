"""What the library's maths asks of its caller: tensors; and what it does not depend on: the modes of torch."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
T = TypeVar("T")

_AUTOCAST = ("cpu", "cuda", "mps")


def unaffected(function: Callable[P, T]) -> Callable[P, T]:
    """Let a function compute outside of `torch.autocast` and of `torch.inference_mode`.

    Autocast would round the factors of products that kernels then take for float32; `precision` of a layer is the way
    to ask for that. A state that is made in inference mode could neither be updated nor be learnt from afterwards: it
    is an ordinary tensor, and no graph is built.
    """

    @wraps(function)
    def outside(*args: P.args, **kwargs: P.kwargs) -> T:
        kinds = [kind for kind in _AUTOCAST if torch.is_autocast_enabled(kind)]
        infers = torch.is_inference_mode_enabled()
        if not kinds and not infers:
            return function(*args, **kwargs)
        with ExitStack() as modes:
            for kind in kinds:
                modes.enter_context(torch.autocast(kind, enabled=False))
            if infers:
                modes.enter_context(torch.inference_mode(False))
                modes.enter_context(torch.no_grad())
            return function(*args, **kwargs)

    return outside


def check_tensor(value: Any, name: str) -> None:
    """Raises: TypeError for an array or a list where a tensor is meant."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: expected a torch tensor, got {kind_of(value)}; torch.as_tensor(value) makes one")


def kind_of(value: Any) -> str:
    """What something is, for a message: "numpy.ndarray", "list", "the class LIF"."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return f"{type(value).__module__.partition('.')[0]}.{type(value).__name__}".removeprefix("builtins.")
