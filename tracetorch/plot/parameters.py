"""Figures of parameters: weights, decays and thresholds, and the receptive fields of the first layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from torch import Tensor

from tracetorch import constrain
from tracetorch.nn import Layer, Sequential
from tracetorch.plot.as_arrays import as_array
from tracetorch.plot.labels import legend, remark, round_ticks
from tracetorch.plot.style import COLORS, DOUBLE, SINGLE, Array, figure, is_narrow, small

_BINS = 40
_FINE_DECAYS = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9999)
_COARSE_DECAYS = (0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999)
_FINE_HALF_LIVES = tuple(digit * 10.0**power for power in range(-1, 8) for digit in (1, 2, 5))
_COARSE_HALF_LIVES = tuple(10.0**power for power in range(-1, 8))


def distributions(net: Sequential | Layer) -> Figure:
    """Weights, decays and thresholds, a row for each layer. A parameter with one value is a line with a label.

    Decays are drawn at their half-life on a logarithmic axis, where 0.9, 0.99 and 0.999 are about equally far apart.
    The decay of the input trace is drawn too if it is not tied to the membrane's decay.

    Args: net: a `Sequential`, or a single layer.
    Raises: ValueError if it is neither.
    """
    if not isinstance(net, Sequential | Layer):
        raise ValueError(f"distributions needs a tracetorch.nn.Sequential or a layer, got a {type(net).__name__}")
    layers = [net] if isinstance(net, Layer) else list(net)
    has_free_traces = any(not layer.input_trace.tied for layer in layers)
    has_thresholds = any(hasattr(layer.neuron, "threshold") for layer in layers)
    limits = _limits([_half_lives(decay) for layer in layers for decay in (layer.neuron.decay, layer.trace_decay)])
    with figure(DOUBLE, 0.75 + 1.25 * len(layers)) as fig:
        panels = fig.subplots(len(layers), 3 if has_thresholds else 2, squeeze=False)
        for at, (layer, row) in enumerate(zip(layers, panels, strict=True)):
            weight = getattr(layer.connection, "weight", None)  # a parameter or computed
            of_modules = (value for name, value in layer.connection.named_parameters() if name.endswith("weight"))
            weights = list(map(_values, of_modules if weight is None else [weight]))
            if weights:
                _histogram(row[0], np.concatenate(weights), "blue")
            else:
                _leave_empty(row[0], "no weights")
            kind = f"({type(layer.connection).__name__})"  # for a connection that is not linear
            sizes = kind if layer.in_features is None else f"{layer.in_features} → {layer.out_features}"
            title = f"layer {at}: {type(layer.neuron).__name__} {sizes}"
            row[0].set_title(title.replace(f" {sizes}", f"\n{sizes}") if is_narrow() else title)
            _decays(row[1], layer, limits, top=at == 0)
            threshold = getattr(layer.neuron, "threshold", None)
            if threshold is not None:
                _histogram(row[2], _values(threshold), "green")
            elif has_thresholds:
                _leave_empty(row[2], "no threshold")
        for column, label in enumerate(("weight", "decay (per step)", "threshold θ (a.u.)")[: panels.shape[1]]):
            wrapped = label.replace(" (", "\n(") if is_narrow() else label
            next(axes for axes in panels[::-1, column] if axes.axison).set_xlabel(wrapped)
        fig.align_ylabels(panels)
        if has_free_traces:
            trace = Patch(facecolor="none", edgecolor=COLORS["vermillion"], linestyle="--", label="input trace")
            legend(fig, [Patch(color=COLORS["orange"], label="membrane"), trace])
    return fig


def receptive_fields(weight: Tensor, shape: tuple[int, int], count: int = 25) -> Figure:
    """The weights of the neurons with the largest norms, as images on one colour scale, symmetric about 0.

    Args:
        weight: (neurons, height·width), such as `net[0].weight` of a network whose input is an image.
        shape: (height, width).
        count: largest number of neurons to show, by descending norm.
    Raises: ValueError if the weights do not fill the shape, or if `count` is below 1.
    """
    weights = as_array(weight, "weight", "neurons", "height·width")
    height, width = shape
    if weights.shape[1] != height * width or count < 1:
        raise ValueError(f"{count} fields of {height} by {width} need weights of shape (neurons, {height * width}), "
                         f"got {weights.shape}")  # fmt: skip
    weights = np.where(np.isfinite(weights), weights, np.nan)  # left blank
    strongest = np.argsort(-np.nansum(weights**2, axis=1), kind="stable")[:count]
    columns = math.ceil(math.sqrt(len(strongest)))
    rows = math.ceil(len(strongest) / columns)
    gap = max(1, round(0.06 * max(height, width)))
    mosaic = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap), np.nan)
    for at, neuron in enumerate(strongest):
        y, x = at // columns * (height + gap), at % columns * (width + gap)
        mosaic[y : y + height, x : x + width] = weights[neuron].reshape(height, width)
    magnitudes = np.abs(np.nan_to_num(weights[strongest]))
    limit = float(np.quantile(magnitudes, 0.998)) or float(magnitudes.max()) or 1.0
    with figure(SINGLE, 0.35 + 2.6 * mosaic.shape[0] / mosaic.shape[1]) as fig:
        axes = fig.subplots()
        image = axes.imshow(mosaic, cmap="RdBu_r", vmin=-limit, vmax=limit)
        axes.set_axis_off()
        axes.set_title(f"strongest {len(strongest)} of {len(weights)} neurons")
        extend = "both" if magnitudes.max() > limit else "neither"
        bar = fig.colorbar(image, ax=axes, label="weight", shrink=0.8, extend=extend)
        bar.outline.set_linewidth(0.4)
        bar.locator = round_ticks(5, symmetric=True)
    return fig


def _leave_empty(axes: Axes, text: str) -> None:
    axes.set_axis_off()
    remark(axes, text)


def _values(tensor: Tensor) -> Array:
    return tensor.detach().cpu().double().flatten().numpy()


def _half_lives(decay: Tensor) -> Array:
    """The half-lives of finite decays, in steps. Decays are clamped to [1e-6, 1 − 2⁻²⁴], so half-lives are finite."""
    decay = decay.detach().cpu().double().flatten()
    return constrain.half_life_from_decay(decay[decay.isfinite()].clamp(1e-6, 1 - 2**-24)).numpy()


def _limits(half_lives: list[Array]) -> tuple[float, float]:
    """The limits of the axis for the decays of all layers, with margins; their ratio is at least 8."""
    logs = np.log(np.concatenate(half_lives))
    logs = logs if len(logs) else np.zeros(1)
    middle, half = (logs.min() + logs.max()) / 2, max(math.log(8) / 2, 0.7 * (logs.max() - logs.min()))
    return math.exp(middle - half), math.exp(middle + half)


def _histogram(axes: Axes, values: Array, color: str, *, edges: Array | None = None, outline: bool = False) -> None:
    """Draw a histogram of the values; for equal values, a line with a label. Args: edges: of the bins."""
    finite = values[np.isfinite(values)]
    _note_not_finite(axes, len(values) - len(finite))
    if not len(finite):
        axes.set_yticks([])
        return
    if finite.min() == finite.max():
        axes.set_xlim((min(0, 2 * finite[0]), max(0, 2 * finite[0])) if finite[0] else (-1, 1))
        _line(axes, finite[0], f"{finite[0]:.3g}", color)
        return
    counts, edges = np.histogram(finite, min(_BINS, max(5, math.isqrt(len(finite)))) if edges is None else edges)
    look: dict[str, Any] = {"linewidth": 1.0, "linestyle": "--"} if outline else {"fill": True}
    axes.stairs(100 * counts / len(finite), edges, color=COLORS[color], **look)
    axes.set_ylabel("share (%)")
    axes.spines["left"].set_visible(True)
    axes.yaxis.set_major_locator(round_ticks(4))
    axes.xaxis.set_major_locator(round_ticks(3 if is_narrow() else 5))


def _note_not_finite(axes: Axes, count: int) -> None:
    if count:
        axes.set_title(f"{count:,} not finite", loc="right", fontsize=small(), color=COLORS["vermillion"])


def _line(axes: Axes, at: float, label: str, color: str, *, outline: bool = False, left: bool = False) -> None:
    """Draw one value as a line with a label. Args: left: whether the label is on the left of the line."""
    axes.axvline(at, color=COLORS[color], linewidth=1.5, linestyle="--" if outline else "-")
    axes.annotate(
        label, (at, 0.85), xycoords=axes.get_xaxis_transform(), xytext=(-3 if left else 3, 0),
        textcoords="offset points", va="center", ha="right" if left else "left", fontsize=small(),
    )  # fmt: skip
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)


def _decays(axes: Axes, layer: Layer, limits: tuple[float, float], *, top: bool) -> None:
    """Draw the decays of a layer at their half-lives. Args: top: whether the panel has an axis of half-lives above."""
    edges = np.geomspace(*limits, _BINS + 1)
    axes.set(xscale="log", xlim=limits)
    decays = {"orange": layer.neuron.decay}
    if not layer.input_trace.tied:
        decays["vermillion"] = layer.trace_decay
    half_lives = {color: values for color, decay in decays.items() if len(values := _half_lives(decay))}
    _note_not_finite(axes, sum(decay.numel() for decay in decays.values()) - sum(map(len, half_lives.values())))
    lines = {color: values[0] for color, values in half_lives.items() if values.min() == values.max()}
    for color, half_life in lines.items():  # of two lines, the lower has its label on the left
        left = len(lines) > 1 and color == min(lines, key=lines.__getitem__)
        _line(axes, half_life, _decay_name(half_life), color, outline=color == "vermillion", left=left)
    for color, values in half_lives.items():
        if color not in lines:
            _histogram(axes, values, color, edges=edges, outline=color == "vermillion")
    fine, coarse = (_half_lives(torch.tensor(some)) for some in (_FINE_DECAYS, _COARSE_DECAYS))
    _ticks(axes.xaxis, limits, fine, coarse, lambda half_life: 2 ** (-1 / half_life))
    if top:
        above = axes.secondary_xaxis("top")
        _ticks(above.xaxis, limits, _FINE_HALF_LIVES, _COARSE_HALF_LIVES, lambda half_life: half_life)
        above.set_xlabel("half-life (steps)")


def _decay_name(half_life: float) -> str:
    """The decay as text, with two digits of 1 − decay: 0.90, 0.950, 0.99950."""
    decay = 2 ** (-1 / half_life)
    return f"{decay:.{1 - math.floor(round(math.log10(1 - decay), 4))}f}"


def _ticks(
    axis: Axis, limits: tuple[float, float], fine: Iterable[float], coarse: Iterable[float],
    value_of: Callable[[float], float],
) -> None:  # fmt: skip
    """Place the fine ticks that are within the limits; the coarse ticks if the fine ones are too many.

    Args: value_of: the value that a tick's label shows, as a function of its position.
    """
    fine_ticks, coarse_ticks = (
        [position for position in some if limits[0] <= position <= limits[1]] for some in (fine, coarse)
    )
    most = 2 if is_narrow() else 6
    ticks = fine_ticks if len(fine_ticks) <= most else coarse_ticks
    axis.set_major_locator(FixedLocator(ticks[:: -(-len(ticks) // most) or 1]))
    axis.set_major_formatter(FuncFormatter(lambda position, _: f"{value_of(position):,.6g}"))
    axis.set_minor_locator(NullLocator())
