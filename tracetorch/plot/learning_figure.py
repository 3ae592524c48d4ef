"""Figures of a run from its records: loss, metrics and returns during learning; gradients compared with BPTT's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from tracetorch.plot.labels import Records, count_axis, label_level, legend, points_of, remark, round_ticks, value_axis
from tracetorch.plot.smoothing import default_width, fits, smoothed
from tracetorch.plot.style import COLORS, DOUBLE, RIM, SINGLE, Array, distinct_colors, figure, is_narrow, tint

Points = tuple[Sequence[int], Sequence[float]]

_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (3, 1, 1, 1)), (0, (1, 1)))
_HUES = tuple(COLORS[name] for name in ("blue", "green", "purple", "sky", "black"))
_MARKERS = {"validation": ("o", COLORS["orange"]), "test": ("D", COLORS["vermillion"])}
_LABELS = {"accuracy": "accuracy (fraction correct)", "r2": "R²", "mse": "mean squared error"}

_LAYER_HUES = tuple(COLORS[name] for name in ("blue", "vermillion", "green", "purple", "orange", "sky", "black"))
_LOOKS: dict[str, tuple[Any, str]] = {
    "weight": ("-", "o"),
    "bias": ((0, (4, 1.5)), "s"),
    "decay": ((0, (1, 1)), "^"),
    "threshold": ((0, (5, 1, 1, 1)), "D"),
    "trace_decay": ((0, (8, 2)), "v"),
}
"""Line and marker of each kind of parameter."""
_OTHER_LOOK: tuple[Any, str] = ((0, (2, 1)), "P")
_MAX_MARKERS = 20
_MAX_RATIO = 1e3  # ratios of norms are clipped to 1/1000 … 1000


def learning_curves(
    steps: Sequence[int],
    values: Mapping[str, Sequence[float]],
    *,
    widths: Sequence[float] | None = None,
    xlabel: str = "updates",
    ylabel: str = "accuracy (fraction correct)",
    reference: float | None = None,
    reference_label: str = "ideal observer",
    validation: Points | None = None,
) -> Figure:
    """One or more quantities over the course of learning.

    Args:
        steps: the x of each value, (n,).
        values: a name for each series of n values. Values that are None or not finite are left out.
        widths: of the centred averages (`smoothed`), in the unit of `steps`; wider ones are thicker lines. Widths below
            the mean gap between steps, or above a third of the series, are left out. None: one average, with a width of
            about a twentieth of the series.
        xlabel, ylabel: what the axes show, with units.
        reference, reference_label: a level to compare with, such as an ideal observer's accuracy, and its name.
        validation: the steps and the values of held-out evaluations, of equal length.
    Raises: ValueError for no series, or lengths that differ.
    """
    if not values:
        raise ValueError("learning_curves needs at least one series of values, got none")
    series = {name: _series(name, steps, some) for name, some in values.items()}
    evaluations = {} if validation is None else {"validation": _series("validation", *validation)}
    with figure(SINGLE, 2.6) as fig:
        axes = fig.subplots()
        names, scales = _draw(axes, series, evaluations, widths)
        if reference is not None:
            label_level(axes, reference, reference_label)
        axes.set(xlabel=xlabel, ylabel=ylabel)
        _legends(fig, names, scales, xlabel)
    return fig


def learning(
    records: Records,
    *,
    metric: str = "accuracy",
    widths: Sequence[float] | None = None,
    reference: float | None = None,
    reference_label: str = "ideal observer",
) -> Figure:
    """A run's loss and one metric over its updates, from records as in `metrics.jsonl`.

    Args:
        records: dicts such as {"update": 20, "split": "train", "loss": 0.5, "accuracy": 0.8}; "validation" and "test"
            become markers. A record without an "update" or a "split", or with neither number, is ignored.
        metric: key of the right panel.
        widths: as in `learning_curves`, in updates.
        reference, reference_label: a level of the metric to compare with, and its name.
    """
    rows = [row for row in records if "update" in row and "split" in row and ("loss" in row or metric in row)]
    with figure(DOUBLE, 2.5) as fig:
        names: dict[str, Line2D] = {}
        scales: dict[float, Line2D] = {}
        splits = list(dict.fromkeys(row["split"] for row in rows))  # of both panels, so that their colours are the same
        for axes, key in zip(fig.subplots(1, 2), ("loss", metric), strict=True):
            points = {}
            for split in splits:
                of_split = [row for row in rows if row["split"] == split]
                updates, values = [row["update"] for row in of_split], [row.get(key) for row in of_split]
                points[split] = _series(split, updates, values)
            evaluations = {split: points.pop(split) for split in list(points) if split in _MARKERS}
            new_names, new_scales = _draw(axes, points, evaluations, widths)
            names |= new_names
            scales |= new_scales
            axes.set(xlabel="updates", ylabel=_LABELS.get(key, key.replace("_", " ")))
            low, high = axes.get_ylim()
            if key.endswith("accuracy") and axes.dataLim.ymax <= 1 < high:  # no ticks where no accuracy can be
                axes.set_ylim(top=1 + 0.03 * (1 - low))
            if key == metric and reference is not None:
                label_level(axes, reference, reference_label)
        _legends(fig, names, scales, "updates")
    return fig


def returns(records: Records) -> Figure:
    """Return over episodes: the mean of the episodes that ended between two records, its average, and evaluations.

    Args: records: as in `metrics.jsonl`. Records of the split "train" have "update", "return" (the mean over the
        episodes since the last record) and "episodes" (finished so far, in all environments). Records of "validation"
        and "test" are drawn at their update.
    Raises: ValueError if no episode ended.
    """
    records = list(records)
    rows = [row for row in records if row.get("split") == "train" and row.get("episodes")]
    if not rows:
        raise ValueError('returns needs records with the split "train" and episodes that ended')
    episodes = [float(row["episodes"]) for row in rows]
    mean_returns = [float(row["return"]) for row in rows]
    updates = [0.0, *(float(row["update"]) for row in rows)]
    with figure(SINGLE, 2.6) as fig:
        axes = fig.subplots()
        blue = COLORS["blue"]
        span = updates[-1] - updates[1]
        width = default_width(span, len(rows))
        is_long = fits(width, span, len(rows))
        thin: dict[str, Any] = {"color": tint(blue, 0.45), "linewidth": 0.7} if is_long else {"color": blue}
        thin["marker"] = "." if len(rows) == 1 else ""
        axes.plot(episodes, mean_returns, **thin)
        handles = [Line2D([], [], **thin, label="during training")]
        if is_long:
            average = smoothed(np.array(updates[1:]), np.array(mean_returns), width)
            axes.plot(episodes, average, color=blue, linewidth=1.6)
            label = f"average over ±{width:,g} actions"
            handles.append(Line2D([], [], color=blue, linewidth=1.6, label=label))
        for split, (marker, hue) in _MARKERS.items():
            evaluations = [row for row in records if row.get("split") == split and row.get("return") is not None]
            if evaluations:
                at = np.interp([row["update"] for row in evaluations], updates, [0.0, *episodes])
                look: dict[str, Any] = {"color": hue, "marker": marker, "markersize": 3.5, "linestyle": "none"}
                axes.plot(at, [row["return"] for row in evaluations], **look, clip_on=False)
                handles.append(Line2D([], [], **look, label=f"{split}, greedy"))
        axes.set(xlim=(0, max(episodes)), ylabel="return (mean over episodes)")
        axes.set_xlabel(f"episodes, in {updates[-1]:,.0f} actions per environment")
        for axis in (axes.xaxis, axes.yaxis):
            value_axis(axis, 5)
        legend(fig, handles)
    return fig


def gradient(records: Records) -> Figure:
    """How close a rule's gradient is to BPTT's: cosine and ratio of norms, a line for each layer and parameter.

    Each layer has a colour, and each kind of parameter a dash and a marker. The cosine of a scalar is 1 or −1: instead
    of a line, the legend gives the percentage of correct signs. Ratios are clipped to 1/1000 … 1000.

    Args: records: as in `metrics.jsonl`, with the split "gradient" and keys such as "layers.0.connection.weight.cosine"
        and "layers.0.connection.weight.norm_ratio". Values that are None or not finite are left out.
    Raises: ValueError if no record has such a key.
    """
    rows = [row for row in records if row.get("split") == "gradient" and "update" in row]
    names = list(dict.fromkeys(key.removesuffix(".cosine") for row in rows for key in row if key.endswith(".cosine")))
    if not names:
        keys = 'keys such as "layers.0.connection.weight.cosine"'
        raise ValueError(f'gradient needs records with the split "gradient" and {keys}')
    layers = list(dict.fromkeys(_layer_and_kind(name)[0] for name in names))
    with figure(DOUBLE, 4.6 if is_narrow() else 2.6) as fig:
        left, right = fig.subplots(*(2, 1) if is_narrow() else (1, 2))
        handles, cosines, ratios = [], [0.0, 1.0], [0.5, 2.0]
        hues = distinct_colors(_LAYER_HUES, len(layers))
        for name in names:
            layer, kind = _layer_and_kind(name)
            dash, marker = _LOOKS.get(kind, _OTHER_LOOK)
            hue = hues[layers.index(layer)]
            look: dict[str, Any] = {"color": hue, "marker": marker, "linestyle": dash}
            label = f"{layer.replace('layers.', 'layer ')}, {kind.replace('_', ' ')}"
            x, cosine = points_of(rows, f"{name}.cosine")
            if kind not in ("weight", "bias") and cosine and all(abs(value) == 1 for value in cosine):
                label += f" (correct sign: {100 * cosine.count(1.0) / len(cosine):.0f} %)"
            else:
                _draw_line(left, x, cosine, **look)
                cosines += cosine
            x, ratio = points_of(rows, f"{name}.norm_ratio")
            ratio = [min(max(value, 1 / _MAX_RATIO), _MAX_RATIO) for value in ratio]
            _draw_line(right, x, ratio, **look)
            ratios += ratio
            handles.append(Line2D([], [], markersize=3.2, label=label, **look))
        left.set(ylim=(min(cosines) - 0.05, 1.05), ylabel="cosine with BPTT's gradient")
        left.yaxis.set_major_locator(round_ticks(6))
        label_level(left, 1.0, "the same direction")
        label_level(left, 0.0, "chance")
        low, high = min(ratios) / 1.3, max(ratios) * 1.3
        right.set(yscale="log", ylim=(low, high), ylabel="norm, relative to BPTT's gradient")
        right.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 200 else (1,)))
        right.yaxis.set_major_formatter("{x:g}")
        right.yaxis.set_minor_formatter(NullFormatter())
        label_level(right, 1.0, "the same length")
        for axes in (left, right):
            axes.set_xlabel("updates")
            count_axis(axes.xaxis, 5)
        legend(fig, handles)
    return fig


def _legends(fig: Figure, names: dict[str, Line2D], scales: dict[float, Line2D], unit: str) -> None:
    """Add a legend of the series above the panels and, if there are several widths, a legend of the widths below."""
    handles = list(names.values())
    if len(scales) == 1:
        ((width, average),) = scales.items()
        average.set_label(f"average over ±{width:,g} {unit}")
        handles.append(average)
    if handles:
        legend(fig, handles)
    if len(scales) > 1:
        title = Line2D([], [], linestyle="none", label=f"average over ± ({unit})")
        legend(fig, [title, *(scales[width] for width in sorted(scales))], where="lower")


def _series(name: str, steps: Sequence[int], values: Sequence[float | None]) -> tuple[Array, Array]:
    """Steps and values, where the values are finite, in ascending order. Raises: ValueError for other shapes."""
    if len(steps) != len(values):
        raise ValueError(f"{name!r} must have one value for each step, got {len(values)} values for {len(steps)} steps")
    x = np.asarray(steps, dtype=np.float64)
    y = np.array([math.nan if value is None else float(value) for value in values], dtype=np.float64)
    if x.ndim != 1:
        raise ValueError(f"the steps of {name!r} must have shape (n,), got {x.shape}")
    kept = np.isfinite(y)
    order = np.argsort(x[kept], kind="stable")
    return x[kept][order], y[kept][order]


def _draw(
    axes: Axes,
    series: Mapping[str, tuple[Array, Array]],
    evaluations: Mapping[str, tuple[Array, Array]],
    widths: Sequence[float] | None,
) -> tuple[dict[str, Line2D], dict[float, Line2D]]:
    """Draw one panel. Returns: legend handles of the series and of the widths."""
    names: dict[str, Line2D] = {}
    scales: dict[float, Line2D] = {}
    for at, (name, (x, y)) in enumerate(series.items()):
        if not len(x):
            continue
        hue, dashes = _HUES[at % len(_HUES)], _DASHES[at % len(_DASHES)]
        span = x[-1] - x[0]
        wanted = [default_width(span, len(x))] if widths is None else widths
        kept = sorted(width for width in wanted if fits(width, span, len(x)))
        has_markers = not kept and len(x) <= 50
        strength = 1 if not kept else 0.45 if len(series) == 1 else 0.2
        raw = Line2D(
            x, y, color=tint(hue, strength), linewidth=0.7, linestyle="-", marker="s" if has_markers else "",
            markersize=3, zorder=1, rasterized=len(x) > 20_000, label=name,
        )  # fmt: skip
        axes.add_line(raw)
        for order, width in enumerate(kept):
            rank = (order + 1) / len(kept)
            look: dict[str, Any] = {"linewidth": 0.5 + 1.2 * rank, "color": tint(hue, 0.4 + 0.6 * rank)}
            axes.plot(
                x, smoothed(x, y, width), **look, linestyle=dashes, zorder=2 + 0.1 * order, label=f"_{name} {width:g}"
            )
            if len(series) > 1:
                look["color"] = tint(COLORS["grey"], 0.4 + 0.6 * rank)
            scales[width] = Line2D([], [], **look, label=f"{width:,g}")
        average_handle = Line2D([], [], color=hue, linewidth=1.7, linestyle=dashes, label=name)
        faint = Line2D([], [], color=tint(hue, 0.5), linewidth=1.2, label=name)  # as visible as the other entries
        names[name] = raw if not kept else average_handle if len(series) > 1 else faint
    for name, (x, y) in evaluations.items():
        if not len(x):
            continue
        marker, hue = _MARKERS[name]
        look = {"color": hue, "marker": marker, "linestyle": "none", "markersize": 4, **RIM}
        (names[name],) = axes.plot(x, y, **look, zorder=4, label=name, clip_on=False)
    axes.autoscale_view()
    count_axis(axes.xaxis, 5)
    axes.yaxis.set_major_locator(round_ticks(6))
    if not names:
        remark(axes, "nothing recorded")
        axes.set(xticks=[], yticks=[])
    return names, scales


def _layer_and_kind(name: str) -> tuple[str, str]:
    """The layer and the kind of a parameter: "layers.0.neuron.raw_decay" is the "decay" of "layers.0".

    Earlier versions omitted the part of the layer ("neuron"): "layers.0.raw_decay".
    """
    index, _, rest = name.removeprefix("layers.").partition(".")
    kind = rest.replace("input_trace.raw_decay", "trace_decay").rpartition(".")[2]
    return f"layers.{index}", kind.removeprefix("raw_")


def _draw_line(axes: Axes, x: list[float], y: list[float], **look: Any) -> None:
    if not x:
        return
    every = max(1, -(-len(x) // _MAX_MARKERS))
    axes.plot(
        x, y, markevery=every, markersize=3.2, markeredgecolor="white", markeredgewidth=0.4, clip_on=False, zorder=3,
        **look,
    )  # fmt: skip
