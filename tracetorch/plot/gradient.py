"""How close a rule's gradient comes to that of backpropagation through time, as learning goes on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from tracetorch.plot.style import COLORS, DOUBLE, figure, label_level, legend, round_ticks

_HUES = tuple(COLORS[name] for name in ("blue", "vermillion", "green", "purple", "orange", "sky", "black"))
_LOOKS: dict[str, tuple[Any, str]] = {
    "weight": ("-", "o"),
    "bias": ((0, (4, 1.5)), "s"),
    "decay": ((0, (1, 1)), "^"),
    "threshold": ((0, (5, 1, 1, 1)), "D"),
    "trace_decay": ((0, (8, 2)), "v"),
}
"""Line and marker of each kind of parameter."""
_OTHER: tuple[Any, str] = ((0, (2, 1)), "P")
_MOST_MARKERS = 20
_FURTHEST = 1e3  # a longer or shorter one is drawn at the edge


def gradient(records: Iterable[Mapping[str, Any]]) -> Figure:
    """Cosine and ratio of norms over the updates, a line for each layer and parameter.

    A colour for each layer, a dash and a marker for each kind of parameter. Where the parameter is a single number, the
    cosine is 1 or −1: the legend says how often it had the right sign. A ratio beyond 1000 or 1/1000 stands there.

    Args: records: as in `metrics.jsonl`; those with the split "gradient" count, with keys such as
        "layers.0.connection.weight.cosine" and "layers.0.connection.weight.norm_ratio". What is None or not finite is
        left out.
    Raises: ValueError if none of them has such a key.
    """
    rows = [row for row in records if row.get("split") == "gradient" and "update" in row]
    names = list(dict.fromkeys(key.removesuffix(".cosine") for row in rows for key in row if key.endswith(".cosine")))
    if not names:
        keys = 'keys such as "layers.0.connection.weight.cosine"'
        raise ValueError(f'gradient needs records with the split "gradient" and {keys}')
    layers = list(dict.fromkeys(_place_of(name)[0] for name in names))
    with figure(DOUBLE, 2.6) as fig:
        left, right = fig.subplots(1, 2)
        handles, cosines, ratios = [], [0.0, 1.0], [0.5, 2.0]
        for name in names:
            layer, kind = _place_of(name)
            dash, marker = _LOOKS.get(kind, _OTHER)
            hue = _HUES[layers.index(layer) % len(_HUES)]
            look: dict[str, Any] = {"color": hue, "marker": marker, "linestyle": dash}
            label = f"{layer.replace('layers.', 'layer ')}, {kind.replace('_', ' ')}"
            x, cosine = _points(rows, f"{name}.cosine")
            if kind not in ("weight", "bias") and cosine and all(abs(value) == 1 for value in cosine):
                label += f" (right sign: {100 * cosine.count(1.0) / len(cosine):.0f} %)"
            else:
                _line(left, x, cosine, **look)
                cosines += cosine
            x, ratio = _points(rows, f"{name}.norm_ratio")
            ratio = [min(max(value, 1 / _FURTHEST), _FURTHEST) for value in ratio]
            _line(right, x, ratio, **look)
            ratios += ratio
            handles.append(Line2D([], [], markersize=3.2, label=label, **look))
        left.set_ylim(min(cosines) - 0.05, 1.05)
        left.yaxis.set_major_locator(round_ticks(6))
        label_level(left, 1.0, "the same direction")
        label_level(left, 0.0, "chance")
        left.set_ylabel("cosine with BPTT's gradient")
        _scale(right, min(ratios) / 1.3, max(ratios) * 1.3)
        label_level(right, 1.0, "the same length")
        right.set_ylabel("norm, relative to BPTT's gradient")
        for axes in (left, right):
            axes.set_xlabel("updates")
            axes.xaxis.set_major_locator(round_ticks(5, integer=True, min_n_ticks=1))
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        legend(fig, handles)
    return fig


def _place_of(name: str) -> tuple[str, str]:
    """The layer and the kind of a parameter: "layers.0.neuron.raw_decay" is the "decay" of "layers.0".

    Records of earlier versions name it without the part of the layer: "layers.0.raw_decay".
    """
    at, _, rest = name.removeprefix("layers.").partition(".")
    kind = rest.replace("input_trace.raw_decay", "trace_decay").rpartition(".")[2]
    return f"layers.{at}", kind.removeprefix("raw_")


def _points(rows: list[Mapping[str, Any]], key: str) -> tuple[list[float], list[float]]:
    """Updates and values, as far as they are finite numbers."""
    values = [(row["update"], row.get(key)) for row in rows]
    kept = [(float(update), float(value)) for update, value in values if value is not None and math.isfinite(value)]
    return [update for update, _ in kept], [value for _, value in kept]


def _line(axes: Axes, x: list[float], y: list[float], **look: Any) -> None:
    if not x:
        return
    every = max(1, -(-len(x) // _MOST_MARKERS))
    axes.plot(
        x, y, markevery=every, markersize=3.2, markeredgecolor="white", markeredgewidth=0.4, clip_on=False, zorder=3,
        **look,
    )  # fmt: skip


def _scale(axes: Axes, low: float, high: float) -> None:
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 200 else (1,)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
