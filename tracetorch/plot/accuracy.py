"""How often the answer was right, along what makes it hard, such as the time for which something must be remembered."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from torch import Tensor

from tracetorch.plot.as_arrays import as_trials
from tracetorch.plot.choice import wilson
from tracetorch.plot.style import COLORS, SINGLE, figure, label_level, legend
from tracetorch.plot.trial_groups import group_trials

_DECADE = 10
"""From this ratio of the largest to the smallest value on, the axis is logarithmic."""


def accuracy_curve(
    value: Tensor, correct: Tensor, *, ideal: Tensor | None = None, chance: float = 0.5, xlabel: str
) -> Figure:
    """The share of right answers against one value of each trial, with 95 % Wilson intervals.

    Args:
        value: of each trial, (trials,). A point for each of up to 24 different values; more are grouped into 12 bins of
            equally many trials, each drawn at its mean. The axis is logarithmic if they span a decade or more.
        correct: whether the answer was right, bool, (trials,).
        ideal: the probability that an ideal observer would have been right in that trial, (trials,).
        chance: what guessing reaches; a dashed line.
        xlabel: what the value is, with its unit.
    Raises: ValueError for other shapes or lengths, or for values that are not finite.
    """
    ideals = {} if ideal is None else {"ideal": ideal}
    x, right, *best = as_trials(value=value, correct=correct, **ideals)
    groups = group_trials(x, most=24, bins=12)
    trials, rights = np.bincount(groups.member), np.bincount(groups.member, right)
    low, high = (end.numpy() for end in wilson(torch.from_numpy(rights), torch.from_numpy(trials)))
    with figure(SINGLE, 2.3) as fig:
        axes = fig.subplots()
        share = rights / trials
        points = axes.errorbar(
            groups.centres, share, np.clip([share - low, high - share], 0, None), fmt="o-", color=COLORS["blue"],
            markersize=3.5, elinewidth=0.8, zorder=3, label=f"network (n = {len(x):,}, 95 % interval)",
        )  # fmt: skip
        handles: list[Any] = [points]
        for values in best:
            average = np.bincount(groups.member, values) / trials
            style: dict[str, Any] = {"color": COLORS["vermillion"], "marker": "o", "markersize": 2, "zorder": 2}
            handles += axes.plot(groups.centres, average, label="ideal observer", **style)
        label_level(axes, chance, "chance")
        if x.min() > 0 and x.max() >= _DECADE * x.min():
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter("{x:g}")
        axes.set_ylim(min(chance, low.min()) - 0.03, 1.03)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=None))
        axes.set_xlabel(xlabel)
        axes.set_ylabel("correct (%)")
        legend(fig, handles)
    return fig
