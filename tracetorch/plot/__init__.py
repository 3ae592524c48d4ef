"""The figures: each function takes numbers and returns a `Figure` of matplotlib, fit for a paper; nothing is shown.

Each loads when it is first used, so that those which need no torch do without.
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tracetorch.plot.accuracy import accuracy_curve
    from tracetorch.plot.choice import accuracy_map, confusion, psychometric, wilson
    from tracetorch.plot.comparison import Curve, Entry, comparison
    from tracetorch.plot.episode import episode
    from tracetorch.plot.gradient import gradient
    from tracetorch.plot.learning import learning, learning_curves
    from tracetorch.plot.lifetime import lifetime, policy, recovery
    from tracetorch.plot.membrane import membrane
    from tracetorch.plot.meter import TraceMeter, running_averages
    from tracetorch.plot.parameters import distributions, receptive_fields
    from tracetorch.plot.raster import raster
    from tracetorch.plot.recall import recall
    from tracetorch.plot.returns import returns
    from tracetorch.plot.search import Axis, Tried, search
    from tracetorch.plot.style import COLORS, STYLE, figure, save

__all__ = [
    "COLORS",
    "STYLE",
    "Axis",
    "Curve",
    "Entry",
    "TraceMeter",
    "Tried",
    "accuracy_curve",
    "accuracy_map",
    "comparison",
    "confusion",
    "distributions",
    "episode",
    "figure",
    "gradient",
    "learning",
    "learning_curves",
    "lifetime",
    "membrane",
    "policy",
    "psychometric",
    "raster",
    "recall",
    "receptive_fields",
    "recovery",
    "returns",
    "running_averages",
    "save",
    "search",
    "wilson",
]

_NAMES = {
    "accuracy": ("accuracy_curve",),
    "choice": ("accuracy_map", "confusion", "psychometric", "wilson"),
    "comparison": ("Curve", "Entry", "comparison"),
    "episode": ("episode",),
    "gradient": ("gradient",),
    "learning": ("learning", "learning_curves"),
    "lifetime": ("lifetime", "policy", "recovery"),
    "membrane": ("membrane",),
    "meter": ("TraceMeter", "running_averages"),
    "parameters": ("distributions", "receptive_fields"),
    "raster": ("raster",),
    "recall": ("recall",),
    "returns": ("returns",),
    "search": ("Axis", "Tried", "search"),
    "style": ("COLORS", "STYLE", "figure", "save"),
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names}


class _Figures(ModuleType):
    """This package: `plot.raster` is the function, though importing the module of that name would put itself there."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _MODULES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


sys.modules[__name__].__class__ = _Figures
