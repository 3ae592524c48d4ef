"""torch's compiler and some of its packages, loaded when something uses them.

Every optimizer imports `torch._dynamo`, only to say that it is not to be compiled, and every `torch.autograd.grad`
imports `symbolic_shapes`, only to compare two sizes: together two seconds. torch itself imports packages that it does
not use: a tenth of a second.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

_UNUSED = ("torch.distributions", "torch.export", "torch.masked", "torch.quantization")


class _Deferred(ModuleType):
    """Stands for a module that is not loaded: gives some of its functions, and loads it for anything else."""

    def __init__(self, name: str, is_package: bool, **functions: Callable[..., Any]):
        super().__init__(name)
        self._is_package = is_package
        self.__dict__.update(functions)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and not (name == "__path__" and self._is_package):
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)


def defer_compiler() -> None:
    """Let torch, its optimizers and gradients do without these modules. To be called before torch is loaded."""
    for stand_in in (
        _Deferred("torch._dynamo", True, disable=lambda function, *_, **__: function, graph_break=lambda: None),
        _Deferred("torch.fx.experimental.symbolic_shapes", False, sym_eq=lambda x, y: x == y, expect_true=bool),
        *(_Deferred(name, True) for name in _UNUSED),
    ):
        sys.modules.setdefault(stand_in.__name__, stand_in)


def skip_docstrings() -> None:
    """Let matplotlib's classes load without the docstrings of their `set`: writing them takes a third of that time."""
    from matplotlib.artist import Artist

    Artist._update_set_signature_and_docstring = classmethod(lambda _: None)  # type: ignore[attr-defined]
