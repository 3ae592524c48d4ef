"""The figure of a search for better settings: the value of each trial, in order and against each parameter."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from tracetorch.plot.labels import legend, remark, round_ticks
from tracetorch.plot.style import COLORS, DOUBLE, RIM, figure

_LOOKS: dict[str, dict[str, Any]] = {
    "completed": {"marker": "o", "color": COLORS["blue"], "markersize": 4, **RIM},
    "pruned": {"marker": "v", "color": COLORS["orange"], "markersize": 4.4, **RIM},
    "failed": {"marker": "x", "color": COLORS["black"], "markersize": 3.6, "markeredgewidth": 0.7},
}
_BEST: dict[str, Any] = {"marker": "D", "color": COLORS["vermillion"], "markersize": 5, **RIM}
_MAX_COLUMNS = 4
_GOLDEN_RATIO = 0.618034  # its multiples modulo 1 are spread evenly
_LETTERS = 12  # in a line of a choice's name, below its tick


class Tried(NamedTuple):
    """One trial."""

    number: int
    value: float | None  # of a pruned trial, its last value
    status: str  # "completed", "pruned" or "failed"
    places: Sequence[float | None]  # its position on the axis of each parameter


class Axis(NamedTuple):
    """One parameter."""

    name: str
    limits: tuple[float, float]
    log: bool = False
    whole: bool = False  # whole numbers only
    names: Sequence[str] = ()  # of choices, at the positions 0, 1, 2, …


def search(tried: Sequence[Tried], axes: Sequence[Axis], *, metric: str, maximize: bool = True) -> Figure:
    """The values of the trials: in order, with the best so far as a line, and below against each parameter.

    Failed trials are at the lower edge. Trials with the same choice are spread sideways.

    Args:
        tried: the trials, in order. A trial whose value is not finite counts as failed.
        axes: the parameters, in the order of each trial's `places`.
        metric: name of the value, with units.
        maximize: whether larger is better.
    Raises: ValueError for no trial.
    """
    if not tried:
        raise ValueError("search needs at least one trial, got none")
    rows = -(-len(axes) // _MAX_COLUMNS)
    columns = min(_MAX_COLUMNS, max(1, len(axes)))
    best = _best_so_far(tried, maximize)
    with figure(DOUBLE, 1.9 + 1.55 * rows) as fig:
        grid = fig.add_gridspec(1 + rows, columns, height_ratios=[1.15, *[1.0] * rows])
        top = fig.add_subplot(grid[0, :])
        _draw(top, tried, [float(trial.number) for trial in tried], best)
        if best:
            line = [(number, value) for number, value, _ in best] + [(tried[-1].number, best[-1][1])]
            top.plot(*zip(*line, strict=True), color=COLORS["vermillion"], drawstyle="steps-post", zorder=2)
        top.margins(y=0.12 if any(_status(trial) == "failed" for trial in tried) else 0.06)
        top.set(xlabel="trial", xlim=(tried[0].number - 0.6, tried[-1].number + 0.6))
        top.xaxis.set_major_locator(round_ticks(10, integer=True, min_n_ticks=1))
        for at, axis in enumerate(axes):
            panel = fig.add_subplot(grid[1 + at // _MAX_COLUMNS, at % _MAX_COLUMNS], sharey=top)
            _draw(panel, tried, [_position(trial, at, axis) for trial in tried], best)
            _scale(panel, axis)
            panel.tick_params(labelleft=at % _MAX_COLUMNS == 0)
            if at % _MAX_COLUMNS == 0:
                panel.set_ylabel(metric, parse_math=False)
        top.set_ylabel(metric, parse_math=False)
        top.yaxis.set_major_locator(round_ticks(5))
        if not best and not any(_status(trial) == "pruned" for trial in tried):
            remark(top, "no trial has a value")
            top.set_yticks([])
        kinds = [status for status in _LOOKS if any(_status(trial) == status for trial in tried)]
        handles = [Line2D([], [], linestyle="", label=status, **_LOOKS[status]) for status in kinds]
        legend(fig, handles + [Line2D([], [], label="best so far", **_BEST)] * bool(best))
    return fig


def _best_so_far(tried: Sequence[Tried], maximize: bool) -> list[tuple[int, float, int]]:
    """Each improvement: the trial's number, its value, and its index in `tried`."""
    improvements: list[tuple[int, float, int]] = []
    for at, trial in enumerate(tried):
        if _status(trial) != "completed" or trial.value is None:
            continue
        if not improvements or (trial.value > improvements[-1][1] if maximize else trial.value < improvements[-1][1]):
            improvements.append((trial.number, trial.value, at))
    return improvements


def _position(trial: Tried, at: int, axis: Axis) -> float | None:
    """The position of a trial on an axis; shifted a little for choices, so that trials do not overlap."""
    position = trial.places[at]
    return position if position is None or not axis.names else position + 0.4 * (trial.number * _GOLDEN_RATIO % 1 - 0.5)


def _status(trial: Tried) -> str:
    return trial.status if trial.value is not None and math.isfinite(trial.value) else "failed"


def _draw(panel: Axes, tried: Sequence[Tried], x: Sequence[float | None], best: list[tuple[int, float, int]]) -> None:
    """Draw the trials as points; failed trials at the lower edge."""
    for status, look in _LOOKS.items():
        kind = [(at, trial) for at, trial in zip(x, tried, strict=True) if _status(trial) == status]
        points = [(at, trial) for at, trial in kind if at is not None]
        transform = panel.get_xaxis_transform() if status == "failed" else panel.transData
        y = [0.03 if status == "failed" else trial.value or 0.0 for _, trial in points]
        panel.plot([at for at, _ in points], y, linestyle="", zorder=3, transform=transform, **look)
    if best and (at := x[best[-1][2]]) is not None:
        panel.plot([at], [best[-1][1]], linestyle="", zorder=4, **_BEST)


def _scale(panel: Axes, axis: Axis) -> None:
    panel.set_xlabel(_plain(axis.name), parse_math=False)
    low, high = axis.limits
    if axis.names:
        names = ["\n".join(textwrap.wrap(_plain(name), _LETTERS)[:2]) for name in axis.names]
        rotation: dict[str, Any] = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if len(names) > 3 else {}
        panel.set_xticks(np.arange(len(names)), names, parse_math=False, **rotation)
        panel.set_xlim(-0.5, len(names) - 0.5)
        return
    if axis.log:
        panel.set_xscale("log")
        margin = (high / low) ** 0.05 if high > low else 1.1
        panel.set_xlim(low / margin, high * margin)
        if high / low < 100:
            panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            panel.xaxis.set_major_formatter("{x:g}")
        else:
            panel.xaxis.set_major_locator(LogLocator(numticks=5))
        panel.xaxis.set_minor_formatter(NullFormatter())
        return
    margin = 0.05 * (high - low) or 0.5
    panel.set_xlim(low - margin, high + margin)
    panel.xaxis.set_major_locator(round_ticks(4, integer=axis.whole))


def _plain(text: str) -> str:
    """Replace each character that the font may lack by a question mark; matplotlib would warn of each."""
    return "".join(letter if letter.isprintable() and ord(letter) < 0x250 else "?" for letter in text) or " "
