"""Figures of activity over time: spikes and currents, membranes, readouts, and an episode with policy and actions."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

from tracetorch.plot.as_arrays import as_array
from tracetorch.plot.labels import drawable, legend, name_right, remark, round_ticks, shortened
from tracetorch.plot.style import COLORS, DOUBLE, SINGLE, Array, distinct_colors, figure, small, tint

HUES = tuple(COLORS[name] for name in ("vermillion", "blue", "green", "purple", "orange", "sky", "black"))
_SHADES = tuple(tint(COLORS[name], 0.2) for name in ("sky", "orange", "grey", "green", "purple"))  # of epochs
_MEMBRANES = 3  # of an episode
_MAX_VECTORS = 2_000  # with more spikes in a panel, an SVG stores them as a picture (200 dpi), not one by one
_PANEL_WIDTH = 195  # approximate width of a panel in points; a letter has 4
_LABEL_HEIGHT = 0.16  # of a name at the end of a line, as a fraction of its panel
_MAX_LEGEND_ACTIONS = 12
_MOST_LETTERS = 14  # of a name at the end of a line
_NBSP = "\N{NO-BREAK SPACE}"  # between a number and its unit, which stay in one line
_MAX_SEPARATE = 4  # panels of outputs
_MOST_NAMED = 4  # neurons of a panel that all have a tick; of more, the first and the last
_FREQUENCIES = tuple(digit * 10.0**power for power in range(1, 6) for digit in (1, 3))  # of ticks, in Hz
_MAX_LINES = 3  # of channels that are not spikes; more are an image

Marks = Mapping[str, tuple[float, float]]  # names, starts and stops of epochs, in seconds or, without dt, in steps


def raster(
    layers: Mapping[str, Tensor],
    *,
    dt: float | None = 1.0,
    marks: Marks | None = None,
    neurons: int | Sequence[int] = 50,
    readout: tuple[str, Tensor] | None = None,
    names: Sequence[str] | None = None,
    marked: Sequence[int] = (),
    separate: bool = False,
    frequencies: Sequence[float] | None = None,
) -> Figure:
    """Activity over time, a panel for each layer, from the input (top) to the last; below, the values of a readout.

    Args:
        layers: a name for each layer's output, (time, neurons). Spikes (whole numbers: 0, 1, or counts) have a tick
            each; other values, such as currents, are lines, or shades of grey for more than 3 neurons. The neurons of
            "input" are called channels.
        dt: length of a step in seconds; None to count in steps.
        marks: names of epochs, such as "delay", with their starts and stops, in seconds or in steps. Parts after the
            last step are cut off.
        neurons: largest number of neurons to draw of a layer, evenly spaced by rate, silent ones included (in
            proportion, but at most half if enough others fire); or the numbers of the neurons to draw. The rate and the
            number of silent neurons are those of all neurons.
        readout: a name and real numbers, (time, outputs), such as a layer's probabilities: a line for each output.
        names: of the outputs, written at the ends of their lines; None: their numbers.
        marked: of more than 7 outputs, those that have a colour and a name, such as the answer and the target.
        separate: a panel for each output, of the first 4: for outputs in different units.
        frequencies: of the channels of "input", in Hz, ascending; None: their numbers.
    Raises: ValueError if there is nothing to draw, times differ in length, a layer lacks a neuron, or a mark starts
        before 0 or after it stops.
    """
    values_of = {name: as_array(values, f"layer {name!r}", "time", "neurons") for name, values in layers.items()}
    lines = None if readout is None else as_array(readout[1], f"readout {readout[0]!r}", "time", "outputs")
    lengths = [len(values) for values in [*values_of.values(), *([] if lines is None else [lines])]]
    if not lengths:
        raise ValueError("raster needs at least one layer, got none")
    if len(set(lengths)) > 1:
        raise ValueError(f"all layers must last equally long, got {', '.join(map(str, lengths))} steps")
    clock = Clock.of(lengths[0], dt)
    of_input = {"input": frequencies}
    drawn = {name: _Layer.of(name, values, neurons, of_input.get(name)) for name, values in values_of.items()}
    outputs = [] if lines is None else _outputs(lines, names, None if separate else marked)
    if separate:
        values = value_names(names, len(outputs))
        outputs = [one._replace(name=name, hue=HUES[0]) for one, name in zip(outputs, values, strict=True)]
    groups = [[output] for output in outputs[:_MAX_SEPARATE]] if separate else [outputs] if outputs else []
    heights = [layer.height for layer in drawn.values()] + [0.7] * len(groups)
    shaded = _place_marks(marks or {}, clock)
    rows = 1 + max((mark.row for mark in shaded), default=-1)
    with figure(SINGLE, sum(heights) + 0.25 * len(heights) + 0.35 + 0.14 * rows) as fig:
        panels = fig.subplots(len(heights), sharex=True, squeeze=False, height_ratios=heights)[:, 0]
        for axes, layer in zip(panels, drawn.values(), strict=False):
            _draw_layer(axes, layer, clock, dt)
        for axes, group in zip(panels[len(drawn) :], groups, strict=True):
            _draw_readout(axes, group, clock, separate=separate)
        if readout is not None:
            _title(panels[len(drawn)], readout[0])
        _shade(list(panels), shaded, clock)
        fig.align_ylabels(panels)
        time_axis(panels[-1], clock)
    return fig


class Membrane(NamedTuple):
    """The membranes of one layer, for `membranes`."""

    membrane: Tensor  # after the reset, as a layer stores it, (time, neurons)
    spikes: Tensor | None = None  # 0 or 1, (time, neurons); None for neurons that do not spike
    threshold: Tensor | float | None = None  # θ, a number or (neurons,); None for neurons without one


def membrane(
    membrane: Tensor,
    spikes: Tensor | None,
    threshold: Tensor | float | None,
    *,
    dt: float | None = 1.0,
    neurons: int | Sequence[int] = 4,
    marks: Marks | None = None,
) -> Figure:
    """The membranes of one layer over time. Args: as in `Membrane` and `membranes`. Raises: as `membranes`."""
    return membranes({"": Membrane(membrane, spikes, threshold)}, dt=dt, neurons=neurons, marks=marks)


def membranes(
    layers: Mapping[str, Membrane],
    *,
    dt: float | None = 1.0,
    neurons: int | Sequence[int] = 2,
    marks: Marks | None = None,
) -> Figure:
    """Membranes over time, a panel for each neuron: a dashed line at the threshold, a tick above for every spike.

    Args:
        layers: a name for each layer.
        dt: length of a step in seconds; None to count in steps.
        neurons: largest number of neurons to draw of each layer: those that fire first, evenly spaced by rate, then
            those whose membranes move most; or the numbers of the neurons to draw.
        marks: as in `raster`.
    Raises: ValueError if the shapes do not match, or a layer lacks a neuron.
    """
    drawn = []
    for name, layer in layers.items():
        of_layer = f" of {name}" if name else ""
        values = as_array(layer.membrane, f"membrane{of_layer}", "time", "neurons")
        fired = None if layer.spikes is None else as_array(layer.spikes, f"spikes{of_layer}", "time", "neurons")
        if fired is not None and values.shape != fired.shape:
            raise ValueError(f"membrane and spikes must have the same shape, got {values.shape} and {fired.shape}")
        levels = _levels(layer.threshold, values.shape[1])
        shown = _chosen(neurons, name, values.shape[1], partial(_busiest, values, fired))
        drawn += [(name, at, values[:, at], None if fired is None else fired[:, at], levels[at]) for at in shown]
    lengths = {len(values) for _, _, values, *_ in drawn}
    if len(lengths) != 1:
        raise ValueError(f"membranes must last equally long, got {sorted(lengths)} steps")
    clock = Clock.of(lengths.pop(), dt)
    shaded = _place_marks(marks or {}, clock)
    rows = 1 + max((mark.row for mark in shaded), default=-1)
    with figure(SINGLE, 0.5 + 0.8 * len(drawn) + 0.14 * rows) as fig:
        panels = fig.subplots(len(drawn), sharex=True, squeeze=False)[:, 0]
        for axes, (name, at, values, fired, level) in zip(panels, drawn, strict=True):
            _draw_membrane(axes, values, fired, level, clock)
            _title(axes, f"{name}{', ' if name else ''}neuron {at}{_rate_of(fired, dt)}")
        _shade(list(panels), shaded, clock)
        fig.supylabel("membrane (a.u.)", fontsize=matplotlib.rcParams["axes.labelsize"])
        time_axis(panels[-1], clock)
    return fig


def episode(
    layers: Mapping[str, Tensor],
    membrane: Tensor,
    threshold: Tensor | float | None,
    policy: Tensor,
    action: Tensor,
    *,
    dt: float | None = None,
    names: Sequence[str] | None = None,
    neurons: int = 40,
    whole: bool = True,
    spikes: Tensor | None = None,
) -> Figure:
    """An episode over time: a panel for each layer, three membranes of one layer, the policy, and a strip of actions.

    Args:
        layers: a name for each layer's output from the input up, (time, neurons), drawn as in `raster`.
        membrane: of one layer, after the reset, (time, neurons).
        threshold: θ of this layer, a number or (neurons,); None for a layer without a threshold.
        policy: the probabilities of the actions, (decisions, actions). Each decision has the same number of steps.
        action: the chosen actions, (decisions,), whole numbers.
        dt: length of a step in seconds; None to count in steps.
        names: of the actions; None: their numbers.
        neurons: largest number of neurons to draw of a layer.
        whole: whether the recording includes the end of the episode.
        spikes: of the layer with the membranes, (time, neurons): neurons that fire are drawn, evenly spaced by rate;
            without spikes, those whose membranes move most.
    Raises: ValueError if the lengths do not match.
    """
    values = {name: as_array(layer, f"layer {name!r}", "time", "neurons") for name, layer in layers.items()}
    membranes = as_array(membrane, "membrane", "time", "neurons")
    probabilities = as_array(policy, "policy", "decisions", "actions")
    lengths = {len(layer) for layer in values.values()} | {len(membranes)}
    steps = max(lengths)
    num_decisions = len(probabilities)
    if len(lengths) > 1 or steps % num_decisions or len(action) != num_decisions:
        raise ValueError(
            f"layers and membrane must be equally long, a multiple of the decisions: got {sorted(lengths)} steps, "
            f"{num_decisions} policies and {len(action)} actions"
        )
    clock, steps_per_decision = Clock.of(steps, dt), steps // num_decisions
    drawn = [_Layer.of(name, layer, neurons) for name, layer in values.items()]
    fired = None if spikes is None else as_array(spikes, "spikes", "time", "neurons")
    levels, shown = _levels(threshold, membranes.shape[1]), _busiest(membranes, fired, _MEMBRANES)
    heights = [*(0.1 + layer.height / 1.5 for layer in drawn), *(0.55 for _ in shown), 0.8, 0.16]
    with figure(DOUBLE, sum(heights) + 0.22 * len(heights) + 0.4) as fig:
        panels = fig.subplots(len(heights), sharex=True, squeeze=False, height_ratios=heights)[:, 0]
        for axes, layer in zip(panels, drawn, strict=False):
            _draw_layer(axes, layer, clock, dt)
        for axes, at in zip(panels[len(drawn) :], shown, strict=False):
            spikes_of = None if fired is None else fired[:, at]
            _draw_membrane(axes, membranes[:, at], spikes_of, levels[at], clock)
            axes.set_ylabel("membrane\n(a.u.)")
            _title(axes, f"neuron {at}{_rate_of(spikes_of, dt)}")
        starts = [clock.at(at * steps_per_decision * (dt or 1)) for at in range(num_decisions + 1)]
        hues = distinct_colors(HUES, probabilities.shape[1])
        for at, hue in enumerate(hues):
            panels[-2].stairs(probabilities[:, at], starts, baseline=None, color=hue, linewidth=1.0)
        panels[-2].set(ylim=(-0.05, 1.05), ylabel="p(action)")
        for start, stop, chosen in zip(starts, starts[1:], action.tolist(), strict=False):
            panels[-1].axvspan(start, stop, color=hues[chosen], linewidth=0)
        panels[-1].set_yticks([])
        panels[-1].set_ylabel("action", rotation=0, ha="right", va="center")
        fig.align_ylabels(panels)
        time_axis(panels[-1], clock)
        extent = "a whole episode" if whole else "the beginning of an episode"
        label = f"{clock.label}: {extent}, {num_decisions} actions of {steps_per_decision} steps each"
        panels[-1].set_xlabel(textwrap.fill(label, round(13 * fig.get_figwidth())))
        labels = names or [f"action {at}" for at in range(len(hues))]
        if len(hues) <= _MAX_LEGEND_ACTIONS:
            legend(fig, [Patch(color=hue, label=name) for hue, name in zip(hues, labels, strict=True)])
    return fig


# ── the time axis ───────────────────────────────────────────────────────────────────────────────────────────────────


class Clock(NamedTuple):
    """Converts steps, and times in the caller's unit (seconds or, without dt, steps), to positions on the time axis."""

    centres: Array  # positions of the middle of each step
    factor: float  # position = factor · time + shift
    shift: float
    end: float  # time after the last step
    label: str  # of the axis, with its unit

    @classmethod
    def of(cls, steps: int, dt: float | None) -> Clock:
        """The clock of a recording with so many steps. Raises: ValueError unless dt is above 0 or None."""
        if dt is None:
            return cls(np.arange(steps), 1.0, -0.5, steps, "time (steps)")
        if not dt > 0:
            raise ValueError(f"dt must be above 0 seconds, or None to count in steps, got {dt}")
        factor, unit = (1e3, "ms") if steps * dt < 2 else (1.0, "s")
        return cls((np.arange(steps) + 0.5) * dt * factor, factor, 0.0, steps * dt, f"time ({unit})")

    def at(self, value: float) -> float:
        """The position of a time."""
        return value * self.factor + self.shift


def time_axis(axes: Axes, clock: Clock) -> None:
    axes.set(xlim=(clock.at(0), clock.at(clock.end)), xlabel=clock.label)
    axes.xaxis.set_major_locator(round_ticks(6, integer=clock.label == "time (steps)", min_n_ticks=1))


def value_names(names: Sequence[str] | None, count: int) -> Sequence[str]:
    """The names of predicted values; without names, their numbers."""
    return names or (["output"] if count == 1 else [f"output {at}" for at in range(count)])


def label_value(axes: Axes, name: str) -> None:
    """Write the name of a predicted value next to its axis."""
    axes.set_ylabel(textwrap.fill(drawable(name), 14), parse_math=False)


class _Mark(NamedTuple):
    """An epoch inside the panel, and the position of its name."""

    name: str
    start: float
    stop: float
    middle: float  # of the name, in the caller's unit
    row: int  # above the panel, so that names do not overlap


def _place_marks(marks: Marks, clock: Clock) -> list[_Mark]:
    """The marks, cut at the end of the panel; empty marks are dropped. Raises: ValueError as `raster`."""
    for name, (start, stop) in marks.items():
        if not 0 <= start <= stop:
            raise ValueError(f"mark {name!r} must start at 0 or later and not after it stops, got {start}, {stop}")
    cut = {name: (start, min(stop, clock.end)) for name, (start, stop) in marks.items() if start < min(stop, clock.end)}
    placed: dict[str, _Mark] = {}
    ends: list[float] = []  # of the last name in each row
    for name, (start, stop) in sorted(cut.items(), key=lambda mark: sum(mark[1])):
        half = (2.0 * len(name) + 2) / _PANEL_WIDTH * clock.end
        middle = max(half, min((start + stop) / 2, clock.end - half))
        row = next((row for row, end in enumerate(ends) if middle - half > end), len(ends))
        ends[row : row + 1] = [middle + half]
        placed[name] = _Mark(name, start, stop, middle, row)
    return [placed[name] for name in cut]


def _shade(panels: Sequence[Axes], marks: Sequence[_Mark], clock: Clock) -> None:
    """Shade the marks in all panels, and write their names between the first panel and its title."""
    for at, mark in enumerate(marks):
        shade = _SHADES[at % len(_SHADES)]
        for axes in panels:
            axes.axvspan(clock.at(mark.start), clock.at(mark.stop), color=shade, linewidth=0, zorder=0)
        panels[0].annotate(
            mark.name, (clock.at(mark.middle), 1), xycoords=panels[0].get_xaxis_transform(),
            xytext=(0, 4 + 11 * mark.row), textcoords="offset points", ha="center", fontsize=small(),
            annotation_clip=False, bbox={"facecolor": shade, "linewidth": 0, "pad": 1.2},
        )  # fmt: skip
    rows = 1 + max((mark.row for mark in marks), default=-1)
    panels[0].set_title(panels[0].get_title("left"), fontsize=small(), pad=4 + 11 * rows)


def _evenly(count: int, most: int) -> list[int]:
    """At most `most` of `count` neurons, evenly spaced."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist()


def _chosen(neurons: int | Sequence[int], name: str, count: int, choose: Callable[[int], list[int]]) -> list[int]:
    """The neurons to draw: at most a number of them, as `choose` chooses, or those that are named.

    Raises: ValueError for a number below 1, no neuron, or one that the layer lacks.
    """
    if isinstance(neurons, int):
        if neurons < 1:
            raise ValueError(f"neurons, the most to draw, must be at least 1, got {neurons}")
        return choose(neurons)
    missing = [at for at in neurons if not 0 <= at < count]
    if missing or not neurons:
        got = f"neuron {missing[0]}" if missing else "no neuron"
        raise ValueError(f"{name or 'the layer'} has {count:,} neurons, 0 to {count - 1}, got {got}")
    return list(neurons)


def _spread_by_rate(spikes: Array, most: int) -> list[int]:
    """At most `most` neurons, sorted: evenly spaced by rate, silent ones included in proportion, but at most half."""
    rates = spikes.sum(axis=0)
    ranked = np.argsort(-rates, kind="stable")
    firing, silent = ranked[rates[ranked] > 0], ranked[rates[ranked] == 0]
    count = min(most, len(ranked))
    of_firing = min(len(firing), max(round(count * len(firing) / len(ranked)), -(-count // 2)))
    of_firing = max(of_firing, count - len(silent))
    kept = [*(firing[at] for at in _evenly(len(firing), of_firing)),
            *(silent[at] for at in _evenly(len(silent), count - of_firing))]  # fmt: skip
    return sorted(map(int, kept))


def _busiest(membranes: Array, fired: Array | None, most: int) -> list[int]:
    """At most `most` neurons, sorted: evenly spaced by rate among those that fire; then the largest movements."""
    movement = np.nan_to_num(membranes).std(axis=0)
    rates = np.zeros_like(movement) if fired is None else fired.sum(axis=0)
    ranked = np.lexsort((-movement, -rates))
    firing = ranked[: max(int((rates > 0).sum()), most)]
    return sorted(int(firing[at]) for at in _evenly(len(firing), most))


def _levels(threshold: Tensor | float | None, count: int) -> list[float | None]:
    """The threshold of each neuron. Raises: ValueError for another number of thresholds."""
    if threshold is None:
        return [None] * count
    level = torch.as_tensor(threshold).detach().cpu().double()
    if level.shape not in ((), (1,), (count,)):
        raise ValueError(f"threshold must be a number or one for each of {count} neurons, got {tuple(level.shape)}")
    return level.expand(count).tolist()


class _Layer(NamedTuple):
    """A layer's output, and how it is drawn."""

    name: str
    values: Array  # (time, neurons), of all neurons
    shown: list[int]
    kind: Literal["spikes", "lines", "image"]
    height: float  # in inches
    frequencies: Sequence[float] | None  # of all neurons, in Hz; None: neurons are numbered

    @classmethod
    def of(
        cls, name: str, values: Array, neurons: int | Sequence[int], frequencies: Sequence[float] | None = None
    ) -> _Layer:
        is_spikes = bool(((values >= 0) & (values == np.round(values))).all())

        def choose(most: int) -> list[int]:
            return _spread_by_rate(values, most) if is_spikes else _evenly(values.shape[1], most)

        shown = _chosen(neurons, name, values.shape[1], choose)
        kind: Literal["spikes", "lines", "image"] = "image" if len(shown) > _MAX_LINES else "lines"
        height = 0.35 + 0.018 * max(len(shown), 12)
        return cls(name, values, shown, "spikes" if is_spikes else kind, height, frequencies)


def _title(axes: Axes, text: str) -> None:
    root = axes.get_figure(root=True)
    lines = textwrap.fill(drawable(text), round(17 * (root.get_figwidth() if root else SINGLE)))
    axes.set_title(lines, fontsize=small(), parse_math=False)


def _rate(mean: float, dt: float | None) -> str:
    """A mean number of spikes per step, with its unit."""
    if dt is None:
        return f"{mean:.2g} spike{'s' * (f'{mean:.2g}' != '1')} per step".replace(" ", _NBSP)
    return f"{mean / dt:,.0f}{_NBSP}Hz" if mean / dt >= 100 else f"{mean / dt:.3g}{_NBSP}Hz"


def _rate_of(fired: Array | None, dt: float | None) -> str:
    """The rate of a neuron as a clause; "" without spikes."""
    return "" if fired is None else f", {_rate(fired.mean(), dt)}" if fired.any() else ", silent"


def _draw_raster(axes: Axes, spikes: Array, clock: Clock) -> None:
    """Draw a tick for each spike, (time, neurons)."""
    when, neuron = np.nonzero(spikes)
    width = min(3.0, max(0.4, 0.8 * _PANEL_WIDTH / len(spikes)))
    axes.vlines(
        clock.centres[when], neuron - 0.4, neuron + 0.4, color=COLORS["black"], linewidth=width,
        rasterized=len(when) > _MAX_VECTORS,
    )  # fmt: skip
    axes.set_ylim(-0.9, spikes.shape[1] - 0.1)
    if not len(when):
        remark(axes, "no spikes")


class _Output(NamedTuple):
    """An output over time."""

    name: str
    values: Array
    hue: str | None  # None: grey, without a name


def _outputs(lines: Array, names: Sequence[str] | None, marked: Sequence[int] | None) -> list[_Output]:
    """The outputs, (time, outputs). Args: marked: those that have a colour if there are too many; None: all."""
    count = lines.shape[1]
    few = range(count) if marked is None or count <= len(HUES) else dict.fromkeys(marked)
    hues = dict(zip(few, HUES, strict=False))
    every = [*(names or ()), *map(str, range(len(names or ()), count))]  # a critic's output has no name
    short = shortened(every, lambda name: len(name) <= _MOST_LETTERS)
    return [_Output(name, lines[:, at], hues.get(at)) for at, name in enumerate(short)]


def _draw_readout(axes: Axes, outputs: Sequence[_Output], clock: Clock, *, separate: bool) -> None:
    """Draw a line for each output, the coloured ones in front and named at their ends; a separate one by the axis."""
    for output in sorted(outputs, key=lambda output: (output.hue is not None, output.values[-1])):
        color, width = (output.hue, 1.0) if output.hue else (tint(COLORS["grey"], 0.7), 0.6)
        axes.plot(clock.centres, output.values, color=color, linewidth=width)
    axes.yaxis.set_major_locator(round_ticks(3))
    if separate:
        label_value(axes, outputs[0].name)
        return
    axes.set_ylabel("output")
    low, high = axes.get_ylim()
    named = sorted((output for output in outputs if output.hue), key=lambda output: -output.values[-1])
    gap = min(_LABEL_HEIGHT, 1 / max(1, len(named) - 1)) * (high - low)
    for output, level in zip(named, _apart([output.values[-1] for output in named], gap, low), strict=True):
        name_right(axes, output.name, level, gap=4, color=output.hue or "black")


def _apart(levels: Sequence[float], gap: float, low: float) -> list[float]:
    """Falling levels of names, moved so that they are a gap apart and, as far as there is room, not below `low`."""
    placed = list[float]()
    for level in levels:
        placed.append(min(level, placed[-1] - gap) if placed else level)
    for at in reversed(range(len(placed))):
        placed[at] = max(placed[at], low if at == len(placed) - 1 else placed[at + 1] + gap)
    return placed


def _draw_membrane(axes: Axes, values: Array, fired: Array | None, level: float | None, clock: Clock) -> None:
    finite = values[np.isfinite(values)]
    low, high = min(0.0, finite.min(initial=0.0)), max(level or 0.0, finite.max(initial=0.0))
    look: dict[str, Any] = {"marker": "." if len(values) == 1 else "", "color": COLORS["blue"], "linewidth": 0.8}
    axes.plot(clock.centres, values, **look, rasterized=len(values) > 10 * _MAX_VECTORS)
    room = 0.06
    if level is not None:
        axes.axhline(level, color=COLORS["black"], linewidth=0.8, dashes=(4, 2))
        name_right(axes, "θ", level, gap=3)
    if fired is not None:
        room = 0.35
        when = clock.centres[fired > 0]
        axes.vlines(
            when, 0.84, 0.97, transform=axes.get_xaxis_transform(), color=COLORS["vermillion"], linewidth=0.8,
            rasterized=len(when) > _MAX_VECTORS,
        )  # fmt: skip
    axes.set_ylim(low - 0.06 * (high - low or 1), high + room * (high - low or 1))
    axes.yaxis.set_major_locator(round_ticks(3))


def _draw_layer(axes: Axes, layer: _Layer, clock: Clock, dt: float | None) -> None:
    """Draw a layer: spikes as ticks, other values as lines, or as shades of grey."""
    name, values, shown, kind = layer[:4]
    unit = "channel" if name == "input" else "neuron"
    part = f"{len(shown)} of {values.shape[1]:,} {unit}s" if len(shown) < values.shape[1] else ""
    if kind == "spikes":
        _draw_raster(axes, values[:, shown], clock)
        silent = int((values == 0).all(axis=0).sum())
        parts = ", ".join(filter(None, (part, f"{silent:,} of {values.shape[1]:,} silent" if silent else "")))
        _title(axes, f"{name}{f' ({parts})' if parts else ''}, {_rate(values.mean(), dt)}")
    elif kind == "image":
        extent = (clock.at(0), clock.at(clock.end), -0.5, len(shown) - 0.5)
        look: dict[str, Any] = {"cmap": "Greys", "origin": "lower", "interpolation": "nearest", "zorder": 0.5}
        axes.imshow(values[:, shown].T, aspect="auto", extent=extent, **look)
        low, high = (0.0 if abs(end) < 1e-3 * np.ptp(values) else end for end in (values.min(), values.max()))
        ends = f"{low:.2g} (white) to {high:.2g} (black)".replace("-", "\N{MINUS SIGN}")
        _title(axes, f"{name}{f' ({part})' if part else ''}, {ends}")
    else:
        for at, hue in zip(shown, HUES[1:], strict=False):
            axes.plot(clock.centres, values[:, at], color=hue, linewidth=0.8, rasterized=len(values) > _MAX_VECTORS)
            name_right(axes, str(at), values[-1, at], gap=4, color=hue)
        axes.yaxis.set_major_locator(round_ticks(3))
        axes.set_ylabel("value")
        _title(axes, f"{name}{f' ({part})' if part else ''}")
        return
    if layer.frequencies is None or shown != sorted(shown):
        named = range(len(shown)) if len(shown) <= _MOST_NAMED else (0, len(shown) - 1)
        axes.set_yticks(named, labels=[str(shown[at]) for at in named])
        axes.set_ylabel(unit)
    else:
        centres = [layer.frequencies[at] for at in shown]
        ticks = [tick for tick in _FREQUENCIES if centres[0] <= tick <= centres[-1]] or [centres[0]]
        axes.set_yticks(np.interp(ticks, centres, range(len(centres))), labels=[f"{tick:,.0f}" for tick in ticks])
        axes.set_ylabel("frequency (Hz)")
