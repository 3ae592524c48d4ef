"""How learning went: every value faint, running averages over several time scales, what was held out as markers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import StrMethodFormatter

from tracetorch.plot.meter import HALF_LIVES, running_averages
from tracetorch.plot.style import COLORS, DOUBLE, SINGLE, figure, label_level, legend, remark, round_ticks, tint

Points = tuple[Sequence[int], Sequence[float]]
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (3, 1, 1, 1)), (0, (1, 1)))
HUES = tuple(COLORS[name] for name in ("blue", "orange", "green", "purple", "sky", "black"))
MARKERS = {"validation": "o", "test": "D"}
LABELS = {"accuracy": "accuracy (fraction correct)"}


def learning_curves(
    steps: Sequence[int],
    values: Mapping[str, Sequence[float]],
    *,
    half_lives: Sequence[float] = HALF_LIVES,
    xlabel: str = "updates",
    ylabel: str = "accuracy (fraction correct)",
    reference: float | None = None,
    reference_label: str = "ideal observer",
    validation: Points | None = None,
) -> Figure:
    """One or more quantities over the course of learning.

    Args:
        steps: where on the x axis each value stands, (n,).
        values: a name for each series of n values. Those that are not finite, or None, are left out.
        half_lives: of the running averages (`TraceMeter`), in values; drawn from thin to thick. One that is longer than
            the series is left out: it would only be the mean.
        xlabel, ylabel: what the axes show, with units.
        reference: a level to compare with, such as what an ideal observer would reach.
        reference_label: its name.
        validation: the steps and the values of held-out evaluations, of equal length.
    Raises: ValueError for no series, or lengths that differ.
    """
    if not values:
        raise ValueError("learning_curves needs at least one series of values, got none")
    series = {name: _points(name, steps, some) for name, some in values.items()}
    held_out = {} if validation is None else {"validation": _points("validation", *validation)}
    with figure(SINGLE, 2.6) as fig:
        axes = fig.subplots()
        names, scales = _draw(axes, series, held_out, half_lives)
        if reference is not None:
            label_level(axes, reference, reference_label)
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
        _legends(fig, names, scales)
    return fig


def learning(
    records: Iterable[Mapping[str, Any]],
    *,
    metric: str = "accuracy",
    half_lives: Sequence[float] = HALF_LIVES,
    reference: float | None = None,
    reference_label: str = "ideal observer",
) -> Figure:
    """A run's loss and one metric over its updates, from records as in `metrics.jsonl`.

    Args:
        records: dicts such as {"update": 20, "split": "train", "loss": 0.5, "accuracy": 0.8}; "validation" and "test"
            become markers. A record without an "update" or a "split", or with neither number, is passed over.
        metric: which key the right panel shows.
        half_lives: as `learning_curves`, but in updates; one that is shorter than the gap between records is left out.
        reference, reference_label: a level of the metric to compare with, and its name.
    """
    rows = [row for row in records if "update" in row and "split" in row and ("loss" in row or metric in row)]
    with figure(DOUBLE, 2.5) as fig:
        names: dict[str, Line2D] = {}
        scales: dict[float, Line2D] = {}
        for axes, key in zip(fig.subplots(1, 2), ("loss", metric), strict=True):
            points = {}
            for split in dict.fromkeys(row["split"] for row in rows):  # all, so that each has its colour in both panels
                these = [row for row in rows if row["split"] == split]
                points[split] = _points(split, [row["update"] for row in these], [row.get(key) for row in these])
            held_out = {split: points.pop(split) for split in list(points) if split in MARKERS}
            gap = max(((x[-1] - x[0]) / (len(x) - 1) for x, _ in points.values() if len(x) > 1), default=1.0)
            new_names, new_scales = _draw(axes, points, held_out, half_lives, gap)
            names |= new_names
            scales |= new_scales
            axes.set_xlabel("updates")
            axes.set_ylabel(LABELS.get(key, key.replace("_", " ")))
            if key == metric and reference is not None:
                label_level(axes, reference, reference_label)
        _legends(fig, names, scales, "updates")
    return fig


def _legends(fig: Figure, names: dict[str, Line2D], scales: dict[float, Line2D], unit: str = "values") -> None:
    """Above, what was measured; below, over how long it was averaged."""
    if names:
        legend(fig, list(names.values()))
    if scales:
        title = Line2D([], [], linestyle="none", label=f"half-life ({unit})")
        legend(fig, [title, *(scales[half_life] for half_life in sorted(scales))], where="lower")


def _points(name: str, steps: Sequence[int], values: Sequence[float | None]) -> tuple[np.ndarray, np.ndarray]:
    """The finite ones, in the order given."""
    if len(steps) != len(values):
        raise ValueError(f"{name!r} must have one value for each step, got {len(values)} values for {len(steps)} steps")
    x = np.asarray(steps, dtype=np.float64)
    y = np.array([math.nan if value is None else float(value) for value in values], dtype=np.float64)
    if x.ndim != 1:
        raise ValueError(f"the steps of {name!r} must have shape (n,), got {x.shape}")
    return x[np.isfinite(y)], y[np.isfinite(y)]


def _draw(
    axes: Axes,
    series: Mapping[str, tuple[np.ndarray, np.ndarray]],
    held_out: Mapping[str, tuple[np.ndarray, np.ndarray]],
    half_lives: Sequence[float],
    gap: float = 1.0,
) -> tuple[dict[str, Line2D], dict[float, Line2D]]:
    """Draw into one panel.

    Args: gap: between two values, in the unit of the half-lives.
    Returns: what the legends should name, the series and the half-lives.
    """
    names: dict[str, Line2D] = {}
    scales: dict[float, Line2D] = {}
    for at, (name, (x, y)) in enumerate(series.items()):
        if not len(x):
            continue
        hue, dashes = HUES[at % len(HUES)], DASHES[at % len(DASHES)]
        kept = sorted(half_life for half_life in half_lives if 1 <= half_life / gap <= len(x))
        few = not kept and len(x) <= 50
        faintness = 1 if not kept else 0.35 if len(series) == 1 else 0.2
        faint = Line2D(
            x, y, color=tint(hue, faintness), linewidth=0.5, linestyle="-", marker="s" if few else "",
            markersize=3, zorder=1, rasterized=len(x) > 20_000, label=name,
        )  # fmt: skip
        axes.add_line(faint)
        averages = running_averages(torch.from_numpy(y), [h / gap for h in kept] or HALF_LIVES).numpy()[: len(kept)]
        for order, (half_life, average) in enumerate(zip(kept, averages, strict=True)):
            depth = (order + 1) / len(kept)
            look: dict[str, Any] = {"linewidth": 0.5 + 1.2 * depth, "color": tint(hue, 0.4 + 0.6 * depth)}
            axes.plot(x, average, **look, linestyle=dashes, zorder=2 + 0.1 * order, label=f"_{name} {half_life:g}")
            if len(series) > 1:
                look["color"] = tint(COLORS["grey"], 0.4 + 0.6 * depth)
            scales[half_life] = Line2D([], [], **look, label=f"{half_life:,g}")
        thick = Line2D([], [], color=hue, linewidth=1.7, linestyle=dashes, label=name)
        names[name] = thick if kept and len(series) > 1 else faint
    for name, (x, y) in held_out.items():
        if not len(x):
            continue
        (names[name],) = axes.plot(
            x, y, MARKERS.get(name, "o"), color=COLORS["vermillion"], markersize=4, markeredgecolor="white",
            markeredgewidth=0.5, zorder=4, label=name,
        )  # fmt: skip
    axes.autoscale_view()
    axes.xaxis.set_major_locator(round_ticks(5, integer=True, min_n_ticks=1))
    axes.yaxis.set_major_locator(round_ticks(6))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    if not names:
        remark(axes, "nothing recorded")
        axes.set_xticks([])
        axes.set_yticks([])
    return names, scales
