"""Figures of a lifetime: reward or accuracy, actions, and recovery from each reversal of the task."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tracetorch.plot.labels import Records, count_axis, legend, named_ticks, points_of, round_ticks, value_axis
from tracetorch.plot.style import COLORS, DOUBLE, Array, figure, tint

_HUES = tuple(COLORS[name] for name in ("sky", "blue", "black", "green", "purple"))
_MIB = 2**20
_MAX_COLUMNS = 150  # of `policy`; narrower columns are hard to see, and means of few decisions
_MAX_REVERSALS = 200  # more lines would fill the panel


def lifetime(records: Records) -> Figure:
    """Running averages of reward or accuracy, a line for each half-life, above memory in use; reversals are dashed.

    Half-lives longer than a third of the lifetime are left out, except the shortest.

    Args: records: as in `metrics.jsonl`, with the splits "train" (with keys such as "average_200") and "switch".
        Values that are None or not finite are left out; if the memory is unknown, its panel is left out.
    Raises: ValueError if no record has such a key.
    """
    records = list(records)
    rows = _rows_of(records, "train")
    matches = (re.fullmatch(r"average_(\d+)", key) for row in rows for key in row)
    half_lives = sorted({int(match[1]) for match in matches if match})
    if not half_lives:
        raise ValueError('lifetime needs records with the split "train" and keys such as "average_200"')
    half_lives = half_lives[:1] + [half_life for half_life in half_lives[1:] if 3 * half_life <= rows[-1]["update"]]
    updates, memory = points_of(rows, "memory_bytes")
    with figure(DOUBLE, 3.3 if memory else 2.4) as fig:
        heights = [3, 1] if memory else [1]
        panels = list(fig.subplots(len(heights), sharex=True, squeeze=False, height_ratios=heights)[:, 0])
        handles = []
        for at, half_life in enumerate(half_lives):
            look: dict[str, Any] = {"color": _HUES[at % len(_HUES)], "linewidth": 0.6 + 0.5 * at}
            panels[0].plot(*points_of(rows, f"average_{half_life}"), **look, zorder=2 + 0.1 * at)
            handles.append(Line2D([], [], **look, label=f"half-life {half_life:,} decisions"))
        panels[0].set_ylabel(f"{_score_name(rows)} (running average)")
        if memory:
            panels[1].plot(updates, [value / _MIB for value in memory], color=COLORS["vermillion"])
            panels[1].set(ylim=(0, 1.15 * max(memory) / _MIB), ylabel="memory (MiB)")
            panels[1].yaxis.set_major_locator(round_ticks(3))
        handles += _mark_switches(panels, _switches(records))
        _over_decisions(panels[-1], rows)
        fig.align_ylabels(panels)
        legend(fig, handles)
    return fig


def recovery(records: Records) -> Figure:
    """For each reversal: the time to recover, and how far the reward or accuracy fell.

    A hollow marker is the time until the next reversal, if the network did not recover before it. A reversal without
    a fall has no time to recover, and no marker in the left panel.

    Args: records: as in `metrics.jsonl`, with the split "switch".
    Raises: ValueError if there is no such record.
    """
    records = list(records)
    rows = _rows_of(records, "switch")
    if not rows:
        raise ValueError('recovery needs records with the split "switch"')
    numbers = [row["switch"] for row in rows]
    with figure(DOUBLE, 2.3) as fig:
        left, right = fig.subplots(1, 2)
        recovered = [(row["switch"], row["recovery_decisions"]) for row in rows
                     if row["recovery_decisions"] is not None]  # fmt: skip
        not_recovered = [(row["switch"], row["update"] - row["at"]) for row in rows
                 if row["recovery_decisions"] is None and row.get("fell", True)]  # fmt: skip
        size, blue, fall = 3.5 if len(rows) <= 60 else 1.5, COLORS["blue"], COLORS["vermillion"]
        for points, face in ((recovered, blue), (not_recovered, "white")):
            left.plot([n for n, _ in points], [t for _, t in points], "o", color=blue, mfc=face, markersize=size)
        longest = max([*(t for _, t in recovered + not_recovered), 1])
        left.set(ylim=(0, 1.1 * longest), ylabel="time to recover (decisions)")
        before, lowest = ([row[name] for row in rows] for name in ("before", "lowest"))
        right.vlines(numbers, lowest, before, color=tint(fall, 0.5), linewidth=0.8)
        right.plot(numbers, before, "o", color=COLORS["black"], markersize=size)
        right.plot(numbers, lowest, "v", color=fall, markersize=size)
        right.set_ylabel(f"{_score_name(_rows_of(records, 'train'))} (fastest average)")
        for axes in (left, right):
            axes.set(xlabel="reversal (number)", xlim=(min(numbers) - 0.7, max(numbers) + 0.7))
            axes.xaxis.set_major_locator(round_ticks(6, integer=True, min_n_ticks=1))
            value_axis(axes.yaxis, 6)
        marker: dict[str, Any] = {"linestyle": "none", "markersize": 3.5}
        handles = [Line2D([], [], marker="o", color=blue, label="recovered", **marker)]
        if not_recovered:
            label = "not before the next reversal"
            handles.append(Line2D([], [], marker="o", color=blue, mfc="white", label=label, **marker))
        handles.append(Line2D([], [], marker="o", color=COLORS["black"], label="before the reversal", **marker))
        handles.append(Line2D([], [], marker="v", color=fall, label="minimum after it", **marker))
        legend(fig, handles)
    return fig


def policy(records: Records, *, names: Sequence[str] | None = None) -> Figure:
    """How often each action was chosen over a lifetime, and its mean score; grey where it was never chosen.

    More than 150 records are averaged in groups.

    Args:
        records: as in `metrics.jsonl`, with the split "train" and keys such as "taken_0" and "paid_0": the share of an
            action since the last record, and its mean score.
        names: of the actions; None: their numbers.
    Raises: ValueError if there is no such record.
    """
    records = list(records)
    rows = [row for row in _rows_of(records, "train") if "taken_0" in row]
    if not rows:
        raise ValueError('policy needs records with the split "train" and keys such as "taken_0"')
    actions = sum(re.fullmatch(r"taken_\d+", key) is not None for key in rows[0])
    taken, paid = (_table(rows, name, actions) for name in ("taken", "paid"))
    every = -(-len(rows) // _MAX_COLUMNS)
    groups = [slice(start, start + every) for start in range(0, len(rows), every)]
    share = np.stack([taken[group].mean(axis=0) for group in groups])
    total = np.stack([(taken[group] * paid[group]).sum(axis=0) for group in groups])
    times = np.stack([taken[group].sum(axis=0) for group in groups])
    score = np.divide(total, times, out=np.full(total.shape, np.nan), where=times > 0)
    low, high = min(0.0, np.nanmin(score)), max(1.0, np.nanmax(score))
    edges = [0.0, *(float(rows[min(group.stop, len(rows)) - 1]["update"]) for group in groups)]
    name = _score_name(rows)
    with figure(DOUBLE, 0.9 + 2 * (0.2 + 0.2 * actions)) as fig:
        panels = list(fig.subplots(2, sharex=True))
        options: dict[str, Any] = {"rasterized": True, "shading": "flat"}
        shown = ((100 * share, (0, 100), "Blues", "chosen (%)"), (score, (low, high), "cividis", f"mean {name}"))
        for axes, (values, limits, colors, label) in zip(panels, shown, strict=True):
            axes.set_facecolor(tint(COLORS["grey"], 0.4))
            mesh = axes.pcolormesh(
                edges, np.arange(actions + 1) - 0.5, values.T, cmap=colors, vmin=limits[0], vmax=limits[1], **options
            )
            bar = fig.colorbar(mesh, ax=axes, pad=0.01, label=label, aspect=8)
            bar.outline.set_visible(False)
            bar.locator = round_ticks(3)
            axes.set(ylim=(actions - 0.5, -0.5), ylabel="action")
            named_ticks(axes.yaxis, range(actions), names or map(str, range(actions)))
        lines = _mark_switches(panels, _switches(records), "black")
        _over_decisions(panels[-1], rows)
        fig.align_ylabels(panels)
        if lines:
            legend(fig, lines)
    return fig


def _rows_of(records: Records, split: str) -> list[Mapping[str, Any]]:
    return [row for row in records if row.get("split") == split and "update" in row]


def _score_name(rows: Sequence[Mapping[str, Any]]) -> str:
    """The name of the score of a decision: "reward", or the metric of a task with labels."""
    names = [key for key in (rows[0] if rows else {}) if key not in ("update", "split", "loss")]
    return names[0] if names else "score"


def _table(rows: Sequence[Mapping[str, Any]], name: str, actions: int) -> Array:
    """The values of the keys "NAME_0", "NAME_1", …, (records, actions); 0 for a missing value."""
    values = [[row.get(f"{name}_{at}") for at in range(actions)] for row in rows]
    return np.array([[0.0 if value is None else value for value in row] for row in values])


def _switches(records: Records) -> list[int]:
    """The numbers of decisions after which the task was reversed, as far as recorded."""
    recorded = {row["at"] for row in _rows_of(records, "switch")}
    return sorted(recorded | {row["last_switch"] for row in _rows_of(records, "train") if row.get("last_switch")})


def _mark_switches(panels: Sequence[Axes], switches: Sequence[int], color: str = "grey") -> list[Line2D]:
    """Draw vertical lines at reversals in all panels; none if they are too many. Returns: the legend handles."""
    if not 0 < len(switches) <= _MAX_REVERSALS:
        return []
    look: dict[str, Any] = {"color": COLORS[color], "linewidth": 0.6, "linestyle": (0, (3, 2))}
    for axes in panels:
        for at in switches:
            axes.axvline(at, **look, zorder=1.5)
    return [Line2D([], [], **look, label="reversal")]


def _over_decisions(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    """Label the axis of decisions, with the number of time steps of a decision if known."""
    last = rows[-1]
    steps = last["steps"] / last["update"] if "steps" in last else 0
    axes.set(xlim=(0, last["update"]), xlabel=f"decisions, of {steps:g} time steps each" if steps else "decisions")
    count_axis(axes.xaxis, 6)
