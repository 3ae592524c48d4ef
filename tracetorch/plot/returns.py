"""The learning curve of an agent: what an episode brought, over the episodes that it has lived through."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import StrMethodFormatter

from tracetorch.plot.meter import running_averages
from tracetorch.plot.style import COLORS, SINGLE, figure, legend, round_ticks, tint

_HALF_LIFE = 5  # records


def returns(records: Iterable[Mapping[str, Any]]) -> Figure:
    """Return over episodes: means of those that ended between two records, a running average, and what was held out.

    Args: records: as in `metrics.jsonl`, with "episodes" (that had ended in all environments), "update" and "return" in
        those of the split "train"; those of "validation" and "test" stand where their update falls.
    Raises: ValueError if no record tells of episodes that ended.
    """
    records = list(records)
    rows = [row for row in records if row.get("split") == "train" and row.get("episodes")]
    if not rows:
        raise ValueError('returns needs records with the split "train" and episodes that ended')
    ended = [float(row["episodes"]) for row in rows]
    brought = [float(row["return"]) for row in rows]
    updates = [0.0, *(float(row["update"]) for row in rows)]
    with figure(SINGLE, 2.6) as fig:
        axes = fig.subplots()
        blue = COLORS["blue"]
        is_long = len(rows) > 2 * _HALF_LIFE  # else an average would be little but its beginning
        thin: dict[str, Any] = {"color": tint(blue, 0.45), "linewidth": 0.7} if is_long else {"color": blue}
        thin["marker"] = "." if len(rows) == 1 else ""
        axes.plot(ended, brought, **thin)
        handles = [Line2D([], [], **thin, label="during training")]
        if is_long:
            average = running_averages(torch.tensor(brought, dtype=torch.float64), (_HALF_LIFE,))[0]
            axes.plot(ended, average.numpy(), color=blue, linewidth=1.6)
            label = f"its average, half-life {_HALF_LIFE} records"
            handles.append(Line2D([], [], color=blue, linewidth=1.6, label=label))
        for split, marker, hue in (("validation", "o", COLORS["orange"]), ("test", "D", COLORS["vermillion"])):
            held = [row for row in records if row.get("split") == split and row.get("return") is not None]
            if held:
                at = np.interp([row["update"] for row in held], updates, [0.0, *ended])
                look: dict[str, Any] = {"color": hue, "marker": marker, "markersize": 3.5, "linestyle": "none"}
                axes.plot(at, [row["return"] for row in held], **look, clip_on=False)
                handles.append(Line2D([], [], **look, label=f"{split}, greedy"))
        axes.set_xlabel(f"episodes, in {updates[-1]:,.0f} actions per environment")
        axes.set_ylabel("return (mean over episodes)")
        axes.set_xlim(0, max(ended))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(round_ticks(5))
            axis.set_major_formatter(StrMethodFormatter("{x:,g}"))
        legend(fig, handles)
    return fig
