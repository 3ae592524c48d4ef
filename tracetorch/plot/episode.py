"""One episode in one panel above the other: what came in, who fired, membranes, the policy and what was done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

from tracetorch.plot.as_arrays import as_array
from tracetorch.plot.clock import MANY, Array, Clock, evenly, rate, time_axis, title
from tracetorch.plot.raster import HUES, draw_raster, spread_by_rate
from tracetorch.plot.style import COLORS, DOUBLE, figure, label_level, legend

_MOST_NAMED = 12  # actions that a legend can name
_MEMBRANES = {"purple": COLORS["purple"], "orange": COLORS["orange"], "light blue": COLORS["sky"]}


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
) -> Figure:
    """An episode over time: a panel for each layer, membranes of the first, and the policy over a strip of actions.

    Args:
        layers: a name for each layer's output from the input up, (time, neurons); spikes are drawn as a raster, and
            other values in shades of grey, from the least to the most.
        membrane: of a layer, after the reset, (time, neurons).
        threshold: its θ, a number or (neurons,); None for a layer without one.
        policy: the probabilities of the actions, (decisions, actions); time is a multiple of decisions.
        action: what was done, (decisions,), whole numbers.
        dt: length of a step in seconds; None to count in steps.
        names: of the actions; their numbers, if None.
        neurons: at most this many of a layer are drawn, and three membranes.
        whole: whether the episode came to its end in this time.
    Raises: ValueError if the lengths do not belong together.
    """
    values = {name: as_array(layer, f"layer {name!r}", "time", "neurons") for name, layer in layers.items()}
    levels, chances = (
        as_array(membrane, "membrane", "time", "neurons"),
        as_array(policy, "policy", "decisions", "actions"),
    )
    lengths = {len(each) for each in values.values()} | {len(levels)}
    steps = max(lengths)
    if len(lengths) > 1 or not len(chances) or steps % len(chances) or len(action) != len(chances):
        raise ValueError(
            f"layers and membrane must be equally long, a multiple of the decisions: got {sorted(lengths)} steps, "
            f"{len(chances)} policies and {len(action)} actions"
        )
    clock, each = Clock.over(steps, dt), steps // len(chances)
    heights = [*(0.45 + 0.012 * min(neurons, layer.shape[1]) for layer in values.values()), 0.9, 0.8, 0.16]
    with figure(DOUBLE, sum(heights) + 0.22 * len(heights) + 0.4) as fig:
        panels = fig.subplots(len(heights), sharex=True, squeeze=False, height_ratios=heights)[:, 0]
        for axes, (name, layer) in zip(panels, values.items(), strict=False):
            _draw_layer(axes, name, layer, clock, most=neurons, dt=dt)
        _draw_membranes(panels[-3], levels, threshold, clock)
        starts = [clock.at(at * each * (dt or 1)) for at in range(len(chances) + 1)]
        hues = [HUES[at % len(HUES)] for at in range(chances.shape[1])]
        for at, hue in enumerate(hues):
            panels[-2].stairs(chances[:, at], starts, baseline=None, color=hue, linewidth=1.0)
        panels[-2].set_ylim(-0.05, 1.05)
        panels[-2].set_ylabel("p(action)")
        for start, stop, done in zip(starts, starts[1:], action.tolist(), strict=False):
            panels[-1].axvspan(start, stop, color=hues[done], linewidth=0)
        panels[-1].set_yticks([])
        panels[-1].set_ylabel("action", rotation=0, ha="right", va="center")
        fig.align_ylabels(panels)
        time_axis(panels[-1], clock)
        rest = "a whole episode" if whole else "the beginning of an episode"
        panels[-1].set_xlabel(f"{clock.label}: {rest}, {len(chances)} actions of {each} steps each")
        said = names or [f"action {at}" for at in range(len(hues))]
        if len(hues) <= _MOST_NAMED:
            legend(fig, [Patch(color=hue, label=name) for hue, name in zip(hues, said, strict=True)])
    return fig


def _draw_membranes(axes: Axes, levels: Array, threshold: Tensor | float | None, clock: Clock) -> None:
    """Three of them; one dashed line where their thresholds are the same, and one in the colour of each where not."""
    shown = evenly(levels.shape[1], len(_MEMBRANES))
    for at, hue in zip(shown, _MEMBRANES.values(), strict=False):
        axes.plot(clock.centres, levels[:, at], color=hue, linewidth=0.7, rasterized=len(levels) > MANY)
    if threshold is not None:
        level = torch.as_tensor(threshold).detach().cpu().double().expand(levels.shape[1])[shown].tolist()
        if max(level) - min(level) < 1e-6:  # closer than a line is wide
            label_level(axes, level[0], "θ")
        else:
            for at, hue in zip(level, _MEMBRANES.values(), strict=False):
                axes.axhline(at, color=hue, linewidth=0.8, dashes=(4, 2), zorder=2.5)
    axes.set_ylabel("membrane\n(a.u.)")
    title(axes, "neurons " + ", ".join(f"{at} ({hue})" for at, hue in zip(shown, _MEMBRANES, strict=False)))


def _draw_layer(axes: Axes, name: str, values: Array, clock: Clock, *, most: int, dt: float | None) -> None:
    """Spikes as ticks, other values as shades."""
    is_spikes = bool(((values == 0) | (values == 1)).all())
    shown = spread_by_rate(values, most) if is_spikes else evenly(values.shape[1], most)
    of = f" ({len(shown)} of {values.shape[1]} neurons)" if len(shown) < values.shape[1] else ""
    if is_spikes:
        draw_raster(axes, values[:, shown], clock)
        title(axes, f"{name}{of}, {rate(values.mean(), dt)}")
    else:
        extent = (clock.at(0), clock.at(clock.end), len(shown) - 0.5, -0.5)
        axes.imshow(values[:, shown].T, aspect="auto", cmap="Greys", extent=extent, interpolation="nearest")
        title(axes, f"{name}{of}, from {values.min():.2g} (white) to {values.max():.2g} (black)")
    axes.set_yticks(sorted({0, len(shown) - 1}), labels=[str(at) for at in sorted({shown[0], shown[-1]})])
    axes.set_ylabel("neuron" if is_spikes else "channel")
