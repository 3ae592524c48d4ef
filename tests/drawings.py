"""What the tests of the figures draw, and the letters that they look for."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from matplotlib.collections import Collection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.spines import Spine
from matplotlib.text import Annotation, Text

import tracetorch as tt

WEIGHTS = torch.linspace(-1, 1, 6 * 12).reshape(6, 12)
SPIKES = (torch.arange(40 * 6).reshape(40, 6) % 7 == 0).float()
CLASSES = torch.tensor([0, 0, 1, 2, 2, 2])
EVIDENCE = torch.tensor([-1.0, -1, 1, 1, 2, 2])
RIGHT = torch.tensor([False, True, True, True, True, False])
RECORDS = [{"update": 20 * i, "split": "train", "loss": 1 / i, "accuracy": 1 - 0.5 / i} for i in range(1, 40)]
GRADIENTS = [
    {"update": 20 * i, "split": "gradient", "layers.0.connection.weight.cosine": 1 / i,
     "layers.0.connection.weight.norm_ratio": 0.1 * i, "layers.0.neuron.raw_decay.cosine": (-1) ** i,
     "layers.0.neuron.raw_decay.norm_ratio": 1e9, "layers.1.connection.bias.cosine": None,
     "layers.1.connection.bias.norm_ratio": None}
    for i in range(1, 4)
]  # fmt: skip
HELD_OUT = [{"update": 200 * i, "split": "validation", "loss": 0.5, "accuracy": 0.7} for i in range(1, 4)]


def _lived(update, reward, mebibytes):
    averages = {"average_50": reward, "average_60": reward / 2, "switches": 1, "memory_bytes": mebibytes * 2**20}
    return {"update": update, "split": "train", "loss": None, "reward": reward, "steps": 70 * update} | averages


LIFE = [
    _lived(100, 0.5, 500) | {"last_switch": 0, "taken_0": 1.0, "paid_0": 1.0, "taken_1": 0.0, "paid_1": None},
    _lived(200, 0.9, 510) | {"last_switch": 150, "taken_0": 0.0, "paid_0": None, "taken_1": 1.0, "paid_1": 0.0},
    {"update": 260, "split": "switch", "switch": 1, "at": 150, "before": 0.9, "lowest": 0.3, "forgetting": 0.6,
     "recovery_decisions": 110},
    {"update": 400, "split": "switch", "switch": 2, "at": 300, "before": 0.8, "lowest": 0.2, "forgetting": 0.6,
     "recovery_decisions": None},
]  # fmt: skip


REWARDS = [
    {"update": 10, "split": "train", "loss": 1.0, "return": 0.0, "episodes": 0},  # none has ended yet
    {"update": 20, "split": "train", "loss": 1.0, "return": 10.0, "episodes": 100},
    {"update": 30, "split": "validation", "loss": None, "return": 15.0},
    {"update": 40, "split": "train", "loss": 1.0, "return": 30.0, "episodes": 140},
    {"update": 40, "split": "test", "loss": None, "return": 40.0},
]
POLICY = torch.tensor([[0.2, 0.8], [0.6, 0.4], [0.9, 0.1], [0.3, 0.7]])
ACTION = torch.tensor([1, 0, 0, 1])


def episode(**changes: Any) -> Figure:
    """An episode of 4 decisions in 40 steps."""
    layers = {"input": torch.linspace(0, 2, 40 * 3).reshape(40, 3), "layer 0, LIF": SPIKES}
    given = {"layers": layers, "membrane": SPIKES / 2, "threshold": 1.0, "policy": POLICY, "action": ACTION}
    return tt.plot.episode(**given | changes)


def styled(**changes: Any) -> Figure:
    """An episode that looks otherwise. Args: changes: as of `plot.look`."""
    with tt.plot.look(**changes):
        return episode()


def network() -> tt.nn.Sequential:
    torch.manual_seed(0)
    decay, threshold = tt.constrain.spread(0.5, 0.99, 6), torch.linspace(0.5, 1.5, 6)
    return tt.nn.Sequential(tt.nn.LIF(12, 6, decay=decay, threshold=threshold, trace_decay=0.9), tt.nn.LIS(6, 3))


def texts(fig: Figure) -> list[str]:
    fig.draw_without_rendering()
    return [text.get_text() for text in fig.findobj(Text) if text.get_text()]


def described(fig: Figure) -> str:
    """What a figure shows: a line for each panel, axis and artist, without sizes and places on the page."""
    fig.draw_without_rendering()
    found = []
    for axes in (axes for axes in fig.axes if axes.get_visible()):
        titles = [axes.get_title(place) for place in ("left", "center", "right")]
        sides = [side for side, spine in axes.spines.items() if spine.get_visible()]
        found.append(f"panel {'|'.join(filter(None, titles))}: {' '.join(sides)}")
        for axis in [axes.xaxis, axes.yaxis, *(above.xaxis for above in axes.child_axes)] if axes.axison else []:
            ticks = " ".join(label.get_text() for label in axis.get_ticklabels() if label.get_visible())
            limits = _numbers(axis.get_view_interval(), 3)
            found.append(f"axis {axis.get_label_text()}, {axis.get_scale()}, {limits}: {ticks}")
        artists = () if hasattr(axes, "_colorbar") else axes.get_children()
        found += filter(None, (_shown(artist) for artist in artists if artist is not axes.patch))
    for legend in fig.legends:
        found += ["legend", *(_shown(handle).rpartition(":")[0] for handle in legend.legend_handles)]
    found += map(_shown, fig.texts)
    return "\n".join(" ".join(line.split()) for line in found) + "\n"


def _shown(artist: Any) -> str:
    match artist:
        case Spine():
            return ""
        case Line2D():
            colors = dict.fromkeys(map(to_hex, (artist.get_color(), artist.get_markerfacecolor())))
            look = [*colors, artist.get_linestyle(), artist.get_marker(), artist.get_drawstyle()]
            kept = " ".join(str(part) for part in look if part not in ("", "None", "default"))
            return f"line {kept} {_label(artist)}: {_numbers(artist.get_xydata())}"
        case Patch():
            corners = artist.get_path().transformed(artist.get_patch_transform()).vertices
            color = to_hex(artist.get_facecolor() if artist.get_fill() else artist.get_edgecolor())
            return f"area {color} {artist.get_linestyle()} {_label(artist)}: {_numbers(corners)}"
        case Collection():
            colors = dict.fromkeys(map(to_hex, (*artist.get_facecolor(), *artist.get_edgecolor())))
            values = [] if artist.get_array() is None else artist.get_array()
            corners = [path.vertices for path in artist.get_paths()] or [np.zeros(0)]
            return f"collection {' '.join(colors)}: {_numbers(np.concatenate(corners))}; {_numbers(values)}"
        case AxesImage():
            look = f"{artist.get_cmap().name} {artist.origin} {_numbers([*artist.get_extent(), *artist.get_clim()])}"
            return f"image {look}: {_numbers(artist.get_array())}"
        case Annotation():
            return f"text {artist.get_text()!r} {to_hex(artist.get_color())}: {_numbers(artist.xy)}"
        case Text() if artist.get_text() and artist.get_position()[1] != 1:  # not a title
            return f"text {artist.get_text()!r} {to_hex(artist.get_color())}"
    return ""


def _label(artist: Any) -> str:
    label = str(artist.get_label())
    return "" if label.startswith("_child") else label


def _numbers(values: Any, digits: int = 4) -> str:
    """Numbers; of many the first and last ones, their mean, and one that depends on their order."""
    flat = np.ma.filled(np.ma.asarray(values, dtype=float), np.nan).ravel()
    if len(flat) > 12:
        known = np.nan_to_num(flat)
        flat = [len(flat), *flat[:6], *flat[-2:], known.mean(), known @ np.linspace(-1, 1, len(flat))]
    return " ".join(f"{value:.{digits}g}" for value in flat)
