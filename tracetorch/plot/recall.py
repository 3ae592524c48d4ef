"""How well each memorised pattern is remembered."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from torch import Tensor

from tracetorch.plot.as_arrays import as_array
from tracetorch.plot.style import COLORS, SINGLE, figure, label_level, round_ticks


def recall(accuracy: Tensor, *, chance: float = 0.5) -> Figure:
    """The share of bits that are right, pattern by pattern (sorted by score).

    Args:
        accuracy: of each pattern, 0 to 1, (patterns,).
        chance: what guessing reaches; a dashed line.
    Raises: ValueError for another shape, or values outside 0 to 1.
    """
    values = as_array(accuracy, "accuracy", "patterns")
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"accuracy must lie between 0 and 1, got {values.min():g} to {values.max():g}")
    with figure(SINGLE, 2.2) as fig:
        axes = fig.subplots()
        axes.plot(range(1, len(values) + 1), sorted(values), "o", color=COLORS["blue"], markersize=3)
        label_level(axes, chance, "chance")
        axes.set_ylim(min(chance, values.min()) - 0.05, 1.03)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=None))
        axes.xaxis.set_major_locator(round_ticks(6, integer=True, min_n_ticks=1))
        axes.set_xlabel("pattern (sorted by score)")
        axes.set_ylabel("correct bits (%)")
    return fig
