"""What the neurons of all layers did: spikes over time, and the values of a readout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from tracetorch.plot.as_arrays import as_array
from tracetorch.plot.clock import MANY, Array, Clock, evenly, rate, time_axis, title
from tracetorch.plot.marks import WIDTH, Marks, name_marks, rows_of, shade, visible_marks
from tracetorch.plot.style import COLORS, SINGLE, figure, remark, round_ticks

HUES = tuple(COLORS[name] for name in ("vermillion", "blue", "green", "purple", "orange", "sky", "black"))
LABEL_SPACE = 0.16
"""Height of a name at the end of a line, as a part of its panel; names that would cover another are left out."""


def raster(
    layers: Mapping[str, Tensor],
    *,
    dt: float | None = 1.0,
    marks: Marks | None = None,
    neurons: int = 50,
    readout: tuple[str, Tensor] | None = None,
    names: Sequence[str] | None = None,
) -> Figure:
    """Spikes over time, a panel for each layer, from the input (top) to the last; below, the values of a readout.

    Args:
        layers: a name for each layer's spikes, (time, neurons), whole numbers: 0, 1, or counts.
        dt: length of a step in seconds; None to count in steps.
        marks: names of epochs, such as "delay", and where they start and stop: in seconds, or in steps. What lies
            after the last step is cut off.
        neurons: at most this many neurons of a layer are drawn, evenly from the quietest that fires to the busiest; the
            rate is that of all.
        readout: a name and real numbers, (time, outputs), such as a layer's probabilities: a line each.
        names: of the outputs, at the ends of their lines where there is room; their numbers, if None.
    Raises: ValueError if a layer is not spikes, times differ in length, or a mark starts before 0 or after it stops.
    """
    spikes = {name: as_array(values, f"layer {name!r}", "time", "neurons") for name, values in layers.items()}
    if not spikes:
        raise ValueError("raster needs at least one layer, got none")
    lines = None if readout is None else as_array(readout[1], f"readout {readout[0]!r}", "time", "outputs")
    lengths = [len(values) for values in [*spikes.values(), *([] if lines is None else [lines])]]
    if len(set(lengths)) > 1:
        raise ValueError(f"all layers must last equally long, got {', '.join(map(str, lengths))} steps")
    for name, values in spikes.items():
        if not ((values >= 0) & (values == np.round(values))).all():
            raise ValueError(f"layer {name!r} must hold spikes, whole numbers from 0 on, got other values")
    clock = Clock.over(lengths[0], dt)
    heights = [0.35 + 0.018 * min(neurons, values.shape[1]) for values in spikes.values()]
    heights += [] if lines is None else [0.7]
    shaded = visible_marks(marks or {}, clock)
    rows = rows_of(shaded, clock)
    with figure(SINGLE, sum(heights) + 0.25 * len(heights) + 0.35 + 0.14 * (1 + max(rows.values(), default=-1))) as fig:
        panels = fig.subplots(len(heights), sharex=True, squeeze=False, height_ratios=heights)[:, 0]
        for axes, (name, values) in zip(panels, spikes.items(), strict=False):
            shown = spread_by_rate(values, neurons)
            draw_raster(axes, values[:, shown], clock)
            axes.set_yticks([0, len(shown) - 1] if len(shown) > 1 else [0])
            axes.set_yticklabels([f"{shown[int(at)]}" for at in axes.get_yticks()])
            axes.set_ylabel("neuron")
            of = f" ({len(shown)} of {values.shape[1]} neurons)" if len(shown) < values.shape[1] else ""
            title(axes, f"{name}{of}, {rate(values.mean(), dt)}")
        if lines is not None and readout is not None:
            _draw_lines(panels[-1], lines, clock, names or [str(at) for at in range(lines.shape[1])])
            title(panels[-1], readout[0])
        for axes in panels:
            shade(axes, shaded, clock)
        name_marks(panels[0], shaded, rows, clock)
        fig.align_ylabels(panels)
        time_axis(panels[-1], clock)
    return fig


def spread_by_rate(spikes: Array, most: int) -> list[int]:
    """At most so many neurons, in their order, taken evenly over the ranks of those that fire (of all, if few do)."""
    rates = spikes.sum(axis=0)
    ranked = np.argsort(rates, kind="stable")
    firing = ranked[rates[ranked] > 0]
    pool = firing if len(firing) >= most else ranked[-max(most, len(firing)) :]
    return sorted(int(pool[at]) for at in evenly(len(pool), most))


def draw_raster(axes: Axes, spikes: Array, clock: Clock) -> None:
    """A tick for each spike, (time, neurons)."""
    when, neuron = np.nonzero(spikes)
    width = min(3.0, max(0.4, 0.8 * WIDTH / len(spikes)))
    axes.vlines(
        clock.centres[when],
        neuron - 0.4,
        neuron + 0.4,
        color=COLORS["black"],
        linewidth=width,
        rasterized=len(when) > MANY,
    )
    axes.set_ylim(-0.9, spikes.shape[1] - 0.1)
    if not len(when):
        remark(axes, "no spikes")


def _draw_lines(axes: Axes, values: Array, clock: Clock, names: Sequence[str]) -> None:
    few = values.shape[1] <= len(HUES)
    for at in range(values.shape[1]):
        color = HUES[at] if few else COLORS["blue"]
        axes.plot(clock.centres, values[:, at], color=color, linewidth=1.0 if few else 0.6, alpha=1.0 if few else 0.7)
    axes.set_ylabel("output")
    axes.yaxis.set_major_locator(round_ticks(3))
    low, high = axes.get_ylim()
    free = np.inf
    for at in np.argsort(-values[-1]):
        if free - values[-1, at] < LABEL_SPACE * (high - low):
            break  # its name would cover the one above, and those below say less
        free = values[-1, at]
        axes.annotate(
            names[at], (1, free), xycoords=axes.get_yaxis_transform(), xytext=(4, 0), textcoords="offset points",
            va="center", fontsize=7, color=HUES[at] if few else COLORS["black"], annotation_clip=False,
        )  # fmt: skip
