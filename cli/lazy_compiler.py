"""Shortens start-up: torch's compiler and unused packages of torch load at their first use, and matplotlib writes fewer
docstrings.

Every optimizer imports `torch._dynamo` only to exclude itself from compilation, and every `torch.autograd.grad` with
`grad_outputs` imports `symbolic_shapes` only to compare two sizes. Both imports take 1.4 s, those of the unused
packages 0.1 s.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

_UNUSED = ("torch.distributions", "torch.export", "torch.masked", "torch.quantization")


class _Deferred(ModuleType):
    """A stand-in for a module: has some of its functions, and imports the module when another attribute is used."""

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
    """Put stand-ins for torch's compiler and unused packages into `sys.modules`. Call this before torch is imported."""
    for stand_in in (
        _Deferred("torch._dynamo", True, disable=lambda function, *_, **__: function, graph_break=lambda: None),
        _Deferred("torch.fx.experimental.symbolic_shapes", False, sym_eq=lambda x, y: x == y, expect_true=bool),
        *(_Deferred(name, True) for name in _UNUSED),
    ):
        sys.modules.setdefault(stand_in.__name__, stand_in)


def skip_docstrings() -> None:
    """Keep matplotlib from writing docstrings for the `set` methods of its classes, a third of its import time."""
    from matplotlib.artist import Artist

    Artist._update_set_signature_and_docstring = classmethod(lambda _: None)  # type: ignore[attr-defined]
