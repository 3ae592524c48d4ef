"""What the neurons did: spikes and membranes over time."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from tracetorch.plot.check import as_array
from tracetorch.plot.style import COLORS, SINGLE, figure, remark, round_ticks, tint

MANY = 2_000
"""From this many spikes in a panel on, an SVG holds them as a picture (200 dpi) and not one by one."""

SHADES = tuple(tint(COLORS[name], 0.2) for name in ("sky", "orange", "grey", "green", "purple"))
WIDTH = 195
"""Points that a panel is wide, about: what a step and a letter (4 points) are measured by."""

Array = np.ndarray[Any, np.dtype[Any]]


def raster(
    layers: Mapping[str, Tensor],
    *,
    dt: float | None = 1.0,
    marks: Mapping[str, tuple[float, float]] | None = None,
    neurons: int = 50,
) -> Figure:
    """Spikes over time, a panel for each layer, from the input (top) to the last (bottom).

    Args:
        layers: a name for each layer's spikes, (time, neurons), whole numbers: 0, 1, or counts.
        dt: length of a step in seconds; None to count in steps.
        marks: names of epochs, such as "delay", and where they start and stop: in seconds, or in steps. What lies
            after the last step is cut off.
        neurons: at most this many neurons of a layer are drawn, evenly spaced; the rate is that of all.
    Raises: ValueError if a layer is not spikes, times differ in length, or a mark starts before 0 or after it stops.
    """
    spikes = {name: as_array(values, f"layer {name!r}", "time", "neurons") for name, values in layers.items()}
    if not spikes:
        raise ValueError("raster needs at least one layer, got none")
    if len({len(values) for values in spikes.values()}) > 1:
        raise ValueError(
            f"all layers must last equally long, got {', '.join(str(len(v)) for v in spikes.values())} steps"
        )
    for name, values in spikes.items():
        if not ((values >= 0) & (values == np.round(values))).all():
            raise ValueError(f"layer {name!r} must hold spikes, whole numbers from 0 on, got other values")
    steps = len(next(iter(spikes.values())))
    clock = _Clock.over(steps, dt)
    heights = [0.35 + 0.018 * min(neurons, values.shape[1]) for values in spikes.values()]
    shaded = _visible(marks or {}, clock)
    rows = _rows(shaded, clock)
    with figure(SINGLE, sum(heights) + 0.25 * len(heights) + 0.35 + 0.14 * (1 + max(rows.values(), default=-1))) as fig:
        panels = fig.subplots(len(spikes), sharex=True, squeeze=False, height_ratios=heights)[:, 0]
        for axes, (name, values) in zip(panels, spikes.items(), strict=True):
            shown = _evenly(values.shape[1], neurons)
            _draw_spikes(axes, values[:, shown], clock)
            axes.set_yticks([0, len(shown) - 1] if len(shown) > 1 else [0])
            axes.set_yticklabels([f"{shown[int(at)]}" for at in axes.get_yticks()])
            axes.set_ylabel("neuron")
            of = f" ({len(shown)} of {values.shape[1]} neurons)" if len(shown) < values.shape[1] else ""
            _title(axes, f"{name}{of}, {_rate(values.mean(), dt)}")
            _shade(axes, shaded, clock)
        _name_marks(panels[0], shaded, rows, clock)
        fig.align_ylabels(panels)
        _time_axis(panels[-1], clock)
    return fig


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
    clock = _Clock.over(len(values), dt)
    shown = _evenly(values.shape[1], neurons)
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
            _title(axes, f"neuron {at}, {_rate(fired[:, at].mean(), dt)}")
        fig.supylabel("membrane (a.u.)", fontsize=8)
        _time_axis(panels[-1], clock)
    return fig


class _Clock(NamedTuple):
    """From steps, and from the unit of dt, to positions on the time axis."""

    centres: Array  # where the middle of each step lies
    factor: float  # from the caller's unit to the axis'
    shift: float
    end: float  # in the caller's unit
    label: str

    @classmethod
    def over(cls, steps: int, dt: float | None) -> _Clock:
        if dt is None:
            return cls(np.arange(steps), 1.0, -0.5, steps, "time (steps)")
        if not dt > 0:
            raise ValueError(f"dt must be above 0 seconds, or None to count in steps, got {dt}")
        factor, unit = (1e3, "ms") if steps * dt < 2 else (1.0, "s")
        return cls((np.arange(steps) + 0.5) * dt * factor, factor, 0.0, steps * dt, f"time ({unit})")

    def at(self, value: float) -> float:
        return value * self.factor + self.shift


def _evenly(count: int, most: int) -> list[int]:
    if most < 1:
        raise ValueError(f"neurons, the most to draw, must be at least 1, got {most}")
    return np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist()


def _rate(mean: float, dt: float | None) -> str:
    if dt is None:
        return f"{mean:.2g} spikes per step"
    return f"{mean / dt:,.0f} Hz" if mean / dt >= 100 else f"{mean / dt:.3g} Hz"


def _title(axes: Axes, text: str) -> None:
    axes.set_title(textwrap.fill(text, 58), fontsize=7)


def _draw_spikes(axes: Axes, spikes: Array, clock: _Clock) -> None:
    when, who = np.nonzero(spikes)
    width = min(3.0, max(0.4, 0.8 * WIDTH / len(spikes)))
    axes.vlines(
        clock.centres[when], who - 0.4, who + 0.4, color=COLORS["black"], linewidth=width, rasterized=len(when) > MANY
    )
    axes.set_ylim(-0.9, spikes.shape[1] - 0.1)
    if not len(when):
        remark(axes, "no spikes")


def _time_axis(axes: Axes, clock: _Clock) -> None:
    axes.set_xlim(clock.at(0), clock.at(clock.end))
    axes.xaxis.set_major_locator(round_ticks(6, integer=clock.label == "time (steps)", min_n_ticks=1))
    axes.set_xlabel(clock.label)


def _visible(marks: Mapping[str, tuple[float, float]], clock: _Clock) -> dict[str, tuple[float, float]]:
    """The marks as far as the panel reaches; what is empty or later is left out."""
    for name, (start, stop) in marks.items():
        if not 0 <= start <= stop:
            raise ValueError(f"mark {name!r} must start at 0 or later and not after it stops, got {start}, {stop}")
    cut = {name: (start, min(stop, clock.end)) for name, (start, stop) in marks.items()}
    return {name: (start, stop) for name, (start, stop) in cut.items() if start < stop}


def _rows(marks: Mapping[str, tuple[float, float]], clock: _Clock) -> dict[str, int]:
    """The row above the panel in which each name stands, so that none runs into another."""
    rows: dict[str, int] = {}
    ends: list[float] = []
    for name, (start, stop) in sorted(marks.items(), key=lambda mark: sum(mark[1])):
        middle, half = _middle(name, start, stop, clock)
        row = next((row for row, end in enumerate(ends) if middle - half > end), len(ends))
        ends[row : row + 1] = [middle + half]
        rows[name] = row
    return rows


def _middle(name: str, start: float, stop: float, clock: _Clock) -> tuple[float, float]:
    """Where to put a name, moved inwards if it would stick out, and half its width: in the caller's unit."""
    half = (2.0 * len(name) + 2) / WIDTH * clock.end
    return max(half, min((start + stop) / 2, clock.end - half)), half


def _shade(axes: Axes, marks: Mapping[str, tuple[float, float]], clock: _Clock) -> None:
    for at, (start, stop) in enumerate(marks.values()):
        axes.axvspan(clock.at(start), clock.at(stop), color=SHADES[at % len(SHADES)], linewidth=0, zorder=0)


def _name_marks(axes: Axes, marks: Mapping[str, tuple[float, float]], rows: dict[str, int], clock: _Clock) -> None:
    for at, (name, (start, stop)) in enumerate(marks.items()):
        axes.annotate(
            name, (clock.at(_middle(name, start, stop, clock)[0]), 1), xycoords=axes.get_xaxis_transform(),
            xytext=(0, 4 + 11 * rows[name]), textcoords="offset points", ha="center", fontsize=7, annotation_clip=False,
            bbox={"facecolor": SHADES[at % len(SHADES)], "linewidth": 0, "pad": 1.2},
        )  # fmt: skip
    axes.set_title(axes.get_title("left"), fontsize=7, pad=4 + 11 * (1 + max(rows.values(), default=-1)))
