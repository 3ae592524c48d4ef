"""Figures of predicted values: against the target, and over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from tracetorch.plot.activity import Clock, label_value, time_axis, value_names
from tracetorch.plot.as_arrays import as_array, as_trials
from tracetorch.plot.labels import drawable, legend, round_ticks
from tracetorch.plot.style import COLORS, DOUBLE, SINGLE, figure, is_narrow, tint

_MOST_PANELS = 4
_MOST_POINTS = 2000


def prediction(pairs: Sequence[tuple[Tensor, Tensor]], names: Sequence[str] | None = None) -> Figure:
    """Predicted values against their targets, one panel for each output, at most 4; a line marks equality.

    Args:
        pairs: target and prediction of each output, (trials,) each. The first 2,000 trials are drawn; R² is of all.
        names: of the outputs; None: their numbers.
    Raises: ValueError for no output, other shapes or lengths, or values that are not finite.
    """
    if not pairs:
        raise ValueError("prediction needs at least one output, got none")
    shown = [as_trials(target=target, prediction=found) for target, found in pairs[:_MOST_PANELS]]
    columns = 1 if is_narrow() else min(2, len(shown))
    rows = -(-len(shown) // columns)
    size = SINGLE if columns == 1 else DOUBLE
    with figure(size, rows * (size / columns - 0.1)) as fig:
        grid = fig.subplots(rows, columns, squeeze=False).flat
        for at, (axes, (target, found)) in enumerate(zip(grid, shown, strict=False)):
            low, high = min(target.min(), found.min()), max(target.max(), found.max())
            margin = 0.04 * (high - low) or 1
            ends = (low - margin, high + margin)
            axes.plot(ends, ends, color=tint(COLORS["grey"], 0.6), linewidth=0.6, zorder=0)
            few = slice(_MOST_POINTS)
            axes.scatter(target[few], found[few], s=5, color=COLORS["blue"], alpha=0.5, linewidths=0, rasterized=True)
            spread = ((target - target.mean()) ** 2).sum()
            share = 1 - ((found - target) ** 2).sum() / spread if spread else np.nan
            name = f"{value_names(names, len(shown))[at]}: " if names or len(shown) > 1 else ""
            share_text = f"{share:.3f}".replace("-", "\N{MINUS SIGN}")
            axes.set(xlim=ends, ylim=ends, xlabel="target", ylabel="prediction", aspect="equal")
            title = f"{drawable(name)}R² = {share_text} (n = {len(target):,})"
            axes.set_title(title, parse_math=False)
        for axes in list(grid)[len(shown) :]:
            axes.remove()
    return fig


def traces(
    output: Tensor, target: Tensor, counted: Tensor, *, dt: float | None = None, names: Sequence[str] | None = None
) -> Figure:
    """Output and target of one trial over time, one panel for each output, at most 4.

    Args:
        output: (steps, outputs).
        target: values, (steps, outputs), or class indices, (steps,), drawn as 0 and 1 for each class.
        counted: whether a step has a target, bool, (steps,); at other steps no target is drawn.
        dt: length of a step in seconds; None to count in steps.
        names: of the outputs; None: their numbers.
    Raises: ValueError for other shapes or lengths.
    """
    found, given = as_array(output, "output", "time", "outputs"), as_array(counted, "counted", "time").astype(bool)
    has_classes = target.ndim == 1
    goal = as_array(target, "target", *("time", "outputs")[: target.ndim])
    if not len(found) == len(goal) == len(given):
        lengths = f"{len(found)}, {len(goal)} and {len(given)}"
        raise ValueError(f"output, target and counted must last equally long, got {lengths} steps")
    if has_classes:
        goal = (goal[:, None] == np.arange(found.shape[1])).astype(float)
    goal = np.where(given[:, None], goal, np.nan)
    clock = Clock.of(len(found), dt)
    labels = value_names(names, found.shape[1])
    look: dict[str, Any] = {"color": COLORS["black"], "label": "target", "linewidth": 0.8}
    if has_classes:
        labels = [f"class {name}" for name in (names or range(len(found[0])))]
        look["drawstyle"] = "steps-mid"
    panels = min(_MOST_PANELS, found.shape[1])
    with figure(DOUBLE, 0.5 + 1.1 * panels) as fig:
        grid = fig.subplots(panels, 1, sharex=True, squeeze=False)[:, 0]
        for at, axes in enumerate(grid):
            lines = axes.plot(clock.centres, goal[:, at], **look)
            lines += axes.plot(clock.centres, found[:, at], color=COLORS["vermillion"], label="network")
            label_value(axes, labels[at])
            axes.yaxis.set_major_locator(round_ticks(4))
        fig.align_ylabels(grid)
        time_axis(grid[-1], clock)
        legend(fig, lines)
    return fig
