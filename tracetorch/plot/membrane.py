"""Membranes of a few neurons over time."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from tracetorch.plot.as_arrays import as_array
from tracetorch.plot.clock import MANY, Clock, evenly, rate, time_axis, title
from tracetorch.plot.style import COLORS, SINGLE, figure, round_ticks


def membrane(
    membrane: Tensor, spikes: Tensor, threshold: Tensor | float, *, dt: float | None = 1.0, neurons: int = 4
) -> Figure:
    """Membranes of a few neurons over time, with the threshold dashed and a tick above for every spike.

    Args:
        membrane: after the reset, as a layer keeps it, (time, neurons).
        spikes: 0 or 1, (time, neurons).
        threshold: θ, a number or (neurons,).
        dt: length of a step in seconds; None to count in steps.
        neurons: at most this many are drawn, evenly spaced.
    Raises: ValueError if the shapes do not belong together.
    """
    values, fired = (as_array(v, n, "time", "neurons") for v, n in ((membrane, "membrane"), (spikes, "spikes")))
    if values.shape != fired.shape:
        raise ValueError(f"membrane and spikes must have the same shape, got {values.shape} and {fired.shape}")
    level = torch.as_tensor(threshold).detach().cpu().double()
    if level.shape not in ((), (1,), values.shape[1:]):
        count = values.shape[1]
        raise ValueError(f"threshold must be a number or one for each of {count} neurons, got {tuple(level.shape)}")
    levels = level.expand(values.shape[1]).numpy()
    clock = Clock.over(len(values), dt)
    shown = evenly(values.shape[1], neurons)
    with figure(SINGLE, 0.5 + 0.8 * len(shown)) as fig:
        panels = fig.subplots(len(shown), sharex=True, squeeze=False)[:, 0]
        for axes, at in zip(panels, shown, strict=True):
            finite = values[np.isfinite(values[:, at]), at]
            low, high = min(0.0, finite.min(initial=0.0)), max(levels[at], finite.max(initial=0.0))
            many = len(values) > 10 * MANY
            marker = "." if len(values) == 1 else ""
            axes.plot(clock.centres, values[:, at], marker=marker, color=COLORS["blue"], linewidth=0.8, rasterized=many)
            axes.axhline(levels[at], color=COLORS["black"], linewidth=0.8, dashes=(4, 2))
            axes.annotate(
                "θ", (1, levels[at]), xycoords=axes.get_yaxis_transform(), xytext=(3, 0), textcoords="offset points",
                va="center", annotation_clip=False,
            )  # fmt: skip
            axes.set_ylim(low - 0.06 * (high - low), high + 0.35 * (high - low))
            when = clock.centres[fired[:, at] > 0]
            axes.vlines(
                when, 0.84, 0.97, transform=axes.get_xaxis_transform(), color=COLORS["vermillion"], linewidth=0.8,
                rasterized=len(when) > MANY,
            )  # fmt: skip
            axes.yaxis.set_major_locator(round_ticks(3))
            title(axes, f"neuron {at}, {rate(fired[:, at].mean(), dt)}")
        fig.supylabel("membrane (a.u.)", fontsize=8)
        time_axis(panels[-1], clock)
    return fig
