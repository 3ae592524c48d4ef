from .activity import Membrane, episode, membrane, membranes, raster
from .comparison_figure import Curve, Entry, Mark, Panel, Series, comparison, scatter
from .learning_figure import gradient, learning, learning_curves, returns
from .lifetime_figure import lifetime, policy, recovery
from .meter import TraceMeter, running_averages
from .parameters import distributions, receptive_fields
from .search_figure import Axis, Tried, search
from .style import COLORS, STYLE, figure, look, save
from .trials import accuracy_curve, accuracy_map, confusion, psychometric, recall, wilson
from .values import prediction, traces

__all__ = [
    "COLORS",
    "STYLE",
    "Axis",
    "Curve",
    "Entry",
    "Mark",
    "Membrane",
    "Panel",
    "Series",
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
    "look",
    "membrane",
    "membranes",
    "policy",
    "prediction",
    "psychometric",
    "raster",
    "recall",
    "receptive_fields",
    "recovery",
    "returns",
    "running_averages",
    "save",
    "scatter",
    "search",
    "traces",
    "wilson",
]
