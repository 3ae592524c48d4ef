from .accuracy import accuracy_curve
from .choice import accuracy_map, confusion, psychometric, wilson
from .comparison_figure import Curve, Entry, comparison
from .episode import episode
from .gradient import gradient
from .learning import learning, learning_curves
from .lifetime_figure import lifetime, policy, recovery
from .membrane import membrane
from .meter import TraceMeter, running_averages
from .parameters import distributions, receptive_fields
from .raster import raster
from .recall import recall
from .returns import returns
from .search_figure import Axis, Tried, search
from .style import COLORS, STYLE, figure, save

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
