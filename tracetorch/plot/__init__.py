"""The figures: each function takes tensors and returns a matplotlib `Figure`, fit for a paper; nothing is shown."""

from tracetorch.plot.choice import accuracy_map, confusion, psychometric, wilson
from tracetorch.plot.learning import learning, learning_curves
from tracetorch.plot.membrane import membrane
from tracetorch.plot.meter import TraceMeter, running_averages
from tracetorch.plot.parameters import distributions, receptive_fields
from tracetorch.plot.raster import raster
from tracetorch.plot.recall import recall
from tracetorch.plot.style import COLORS, STYLE, figure, save

__all__ = [
    "COLORS",
    "STYLE",
    "TraceMeter",
    "accuracy_map",
    "confusion",
    "distributions",
    "figure",
    "learning",
    "learning_curves",
    "membrane",
    "psychometric",
    "raster",
    "recall",
    "receptive_fields",
    "running_averages",
    "save",
    "wilson",
]
