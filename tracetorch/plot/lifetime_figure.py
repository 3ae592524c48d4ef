"""A lifetime: its reward, what was done for it, and how soon it was good again each time the world had changed."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import StrMethodFormatter

from tracetorch.plot.style import COLORS, DOUBLE, figure, legend, round_ticks, tint

_HUES = tuple(COLORS[name] for name in ("sky", "blue", "black", "green", "purple"))
_MIB = 2**20
_MOST_COLUMNS = 1000  # of a policy: as many as a figure can show
_MOST_LINES = 200  # more would be a grey field

Records = Iterable[Mapping[str, Any]]


def lifetime(records: Records) -> Figure:
    """The reward or accuracy over a life, a line for each time scale, and the memory in use; with marks of changes.

    Args: records: as in `metrics.jsonl`; those of the split "train" count, with keys such as "average_200", and those
        of the split "switch". What is None or not finite is left out; without a known memory there is no panel of it.
    Raises: ValueError if none of them has such a key.
    """
    records = list(records)
    rows = _of(records, "train")
    scales = sorted(
        {int(key.removeprefix("average_")) for row in rows for key in row if re.fullmatch(r"average_\d+", key)}
    )
    if not scales:
        raise ValueError('lifetime needs records with the split "train" and keys such as "average_200"')
    used = _points(rows, "memory_bytes")
    with figure(DOUBLE, 3.3 if used[0] else 2.4) as fig:
        heights = [3, 1] if used[0] else [1]
        panels = list(fig.subplots(len(heights), sharex=True, squeeze=False, height_ratios=heights)[:, 0])
        handles = []
        for at, scale in enumerate(scales):
            look: dict[str, Any] = {"color": _HUES[at % len(_HUES)], "linewidth": 0.6 + 0.5 * at}
            panels[0].plot(*_points(rows, f"average_{scale}"), **look, zorder=2 + 0.1 * at)
            handles.append(Line2D([], [], **look, label=f"half-life {scale:,} decisions"))
        panels[0].set_ylabel(f"{_score_name(rows)} (running average)")
        if used[0]:
            panels[1].plot(used[0], [value / _MIB for value in used[1]], color=COLORS["vermillion"])
            panels[1].set_ylim(0, 1.15 * max(used[1]) / _MIB)
            panels[1].set_ylabel("memory (MiB)")
            panels[1].yaxis.set_major_locator(round_ticks(3))
        handles += _mark_switches(panels, _switches(records))
        _over_decisions(panels[-1], rows)
        fig.align_ylabels(panels)
        legend(fig, handles)
    return fig


def recovery(records: Records) -> Figure:
    """For each change of the world: how long it took to be good again, and how far the reward or accuracy fell.

    Args: records: as in `metrics.jsonl`; those with the split "switch" count. Where it had fallen and was not back
        before the next reversal, a hollow marker stands at how long there was.
    Raises: ValueError if there is none of them.
    """
    records = list(records)
    rows = _of(records, "switch")
    if not rows:
        raise ValueError('recovery needs records with the split "switch"')
    number = [row["switch"] for row in rows]
    taken = [row["recovery_decisions"] for row in rows]
    lasted = [row["update"] - row["at"] for row in rows]
    with figure(DOUBLE, 2.3) as fig:
        left, right = fig.subplots(1, 2)
        known = [(n, t) for n, t in zip(number, taken, strict=True) if t is not None]
        fell = [row.get("fell", True) for row in rows]
        never = [(n, t) for n, t, took, lost in zip(number, lasted, taken, fell, strict=True) if lost and took is None]
        size, fall = 3.5 if len(rows) <= 60 else 1.5, COLORS["vermillion"]
        left.plot([n for n, _ in known], [t for _, t in known], "o", color=COLORS["blue"], markersize=size)
        left.plot([n for n, _ in never], [t for _, t in never], "o", color=COLORS["blue"], mfc="white", markersize=size)
        left.set_ylabel("time to recover (decisions)")
        left.set_ylim(0, 1.1 * max([*(t for _, t in known), *(t for _, t in never), 1]))
        before, lowest = ([row[name] for row in rows] for name in ("before", "lowest"))
        right.vlines(number, lowest, before, color=tint(fall, 0.5), linewidth=0.8)
        right.plot(number, before, "o", color=COLORS["black"], markersize=size)
        right.plot(number, lowest, "v", color=fall, markersize=size)
        right.set_ylabel(f"{_score_name(_of(records, 'train'))} (fastest average)")
        for axes in (left, right):
            axes.set_xlabel("reversal (number)")
            axes.xaxis.set_major_locator(round_ticks(6, integer=True, min_n_ticks=1))
            axes.yaxis.set_major_locator(round_ticks(6))
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
            axes.set_xlim(min(number) - 0.7, max(number) + 0.7)
        marker: dict[str, Any] = {"linestyle": "none", "markersize": 3.5}
        handles = [Line2D([], [], marker="o", color=COLORS["blue"], label="recovered", **marker)]
        if never:
            label = "not before the next reversal"
            handles.append(Line2D([], [], marker="o", color=COLORS["blue"], mfc="white", label=label, **marker))
        handles.append(Line2D([], [], marker="o", color=COLORS["black"], label="before the reversal", **marker))
        handles.append(Line2D([], [], marker="v", color=fall, label="minimum after it", **marker))
        legend(fig, handles)
    return fig


def policy(records: Records, *, names: Sequence[str] | None = None) -> Figure:
    """Which actions were taken over a life, a row each: the more often the stronger, blue where it paid, red where not.

    Args:
        records: as in `metrics.jsonl`; those with keys "taken_0", "paid_0" and so on count: how often each action was
            taken since the last record, as a share of all, and its mean score.
        names: what the actions are called; their numbers, if None.
    Raises: ValueError if there is none of them.
    """
    records = list(records)
    rows = [row for row in _of(records, "train") if "taken_0" in row]
    if not rows:
        raise ValueError('policy needs records with the split "train" and keys such as "taken_0"')
    actions = sum(re.fullmatch(r"taken_\d+", key) is not None for key in rows[0])
    taken, paid = (_table(rows, name, actions) for name in ("taken", "paid"))
    every = -(-len(rows) // _MOST_COLUMNS)
    groups = [slice(start, start + every) for start in range(0, len(rows), every)]
    share = np.stack([taken[group].mean(axis=0) for group in groups])
    worth = np.stack([(taken[group] * paid[group]).sum(axis=0) for group in groups])
    worth = worth / np.maximum(np.stack([taken[group].sum(axis=0) for group in groups]), 1e-12)
    used = taken > 0
    low, high = float(paid[used].min(initial=0.0)), float(paid[used].max(initial=1.0))
    right = ((worth - low) / max(high - low, 1e-12))[..., None]
    hue = right * np.array(to_rgb(COLORS["blue"])) + (1 - right) * np.array(to_rgb(COLORS["vermillion"]))
    strength = (share / max(float(share.max()), 1e-12))[..., None]
    edges = [0.0, *(float(rows[min(group.stop, len(rows)) - 1]["update"]) for group in groups)]
    with figure(DOUBLE, 0.9 + 0.22 * actions) as fig:
        axes = fig.subplots()
        mesh = axes.pcolormesh(edges, np.arange(actions + 1) - 0.5, (1 - strength * (1 - hue)).transpose(1, 0, 2))
        mesh.set_rasterized(True)
        axes.set_ylim(actions - 0.5, -0.5)
        axes.set_yticks(range(actions), labels=names)
        axes.set_ylabel("action")
        lines, score = _mark_switches([axes], _switches(records)), _score_name(rows)
        _over_decisions(axes, rows)
        shades = {high: to_rgb(COLORS["blue"]), low: to_rgb(COLORS["vermillion"])}
        shades[(low + high) / 2] = tuple(np.mean(list(shades.values()), axis=0))
        levels = [Patch(color=shades[level], label=f"{score} {level:g}") for level in sorted(shades, reverse=True)]
        legend(fig, [*levels, Patch(color=tint(COLORS["blue"], 0.2), label="rarely chosen"), *lines])
    return fig


def _of(records: Records, split: str) -> list[Mapping[str, Any]]:
    return [row for row in records if row.get("split") == split and "update" in row]


def _score_name(rows: Sequence[Mapping[str, Any]]) -> str:
    """What a decision is judged by: "reward", or the metric of a task with labels."""
    known = [key for key in (rows[0] if rows else {}) if key not in ("update", "split", "loss")]
    return known[0] if known else "score"


def _points(rows: Sequence[Mapping[str, Any]], key: str) -> tuple[list[float], list[float]]:
    """Updates and values, as far as they are finite numbers."""
    kept = [row for row in rows if row.get(key) is not None and math.isfinite(row[key])]
    return [float(row["update"]) for row in kept], [float(row[key]) for row in kept]


def _table(rows: Sequence[Mapping[str, Any]], name: str, actions: int) -> np.ndarray:
    """(records, actions); 0 where there is no number."""
    values = [[row.get(f"{name}_{at}") for at in range(actions)] for row in rows]
    return np.array([[0.0 if value is None else value for value in row] for row in values])


def _switches(records: Records) -> list[int]:
    """After which decisions the world changed, as far as a record tells."""
    recorded = {row["at"] for row in _of(records, "switch")}
    return sorted(recorded | {row["last_switch"] for row in _of(records, "train") if row.get("last_switch")})


def _mark_switches(panels: Sequence[Axes], switches: Sequence[int]) -> list[Line2D]:
    """Vertical lines, in all panels. Returns: what the legend should name."""
    if not 0 < len(switches) <= _MOST_LINES:
        return []
    look: dict[str, Any] = {"color": COLORS["grey"], "linewidth": 0.6, "linestyle": (0, (3, 2))}
    for axes in panels:
        for at in switches:
            axes.axvline(at, **look, zorder=1.5)
    return [Line2D([], [], **look, label="reversal")]


def _over_decisions(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    """The axis of time, in decisions; how many time steps each took, where that is known."""
    last = rows[-1]
    each = last["steps"] / last["update"] if "steps" in last else 0
    axes.set_xlabel(f"decisions, of {each:g} time steps each" if each else "decisions")
    axes.set_xlim(0, last["update"])
    axes.xaxis.set_major_locator(round_ticks(6, integer=True, min_n_ticks=1))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
