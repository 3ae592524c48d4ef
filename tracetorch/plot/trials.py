"""Figures of test trials: how often the network is correct, and how its choices depend on the evidence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import PercentFormatter
from torch import Tensor

from tracetorch.plot.as_arrays import TrialGroups, as_array, as_trials, group_trials
from tracetorch.plot.labels import MOST_LETTERS, label_level, legend, named_ticks, round_ticks
from tracetorch.plot.style import COLORS, DOUBLE, SINGLE, Array, figure, is_narrow, small, tint

_MIN_LOG_RATIO = 10  # smallest ratio of the largest to the smallest value for a logarithmic axis
_ROTATION: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}


def wilson(successes: Tensor | float, trials: Tensor | float, z: float = 1.96) -> tuple[Tensor, Tensor]:
    """Wilson's score interval for a probability; accurate even for few trials and near 0 or 1.

        (k + z²/2 ± z·√(k(n − k)/n + z²/4)) / (n + z²)

    Args:
        successes: k, any shape.
        trials: n ≥ k, broadcast against `successes`. n = 0 gives (0, 1).
        z: 1.96 for 95 %.
    Returns: the lower and the upper bound, float64, within [0, 1].
    Raises: ValueError unless 0 ≤ k ≤ n.
    Source: Wilson (1927), Probable inference, the law of succession, and statistical inference,
        doi:10.1080/01621459.1927.10502953.
    Example:
        >>> low, high = wilson(5, 10)
        >>> round(low.item(), 3), round(high.item(), 3)
        (0.237, 0.763)
    """
    k, n = torch.as_tensor(successes, dtype=torch.float64), torch.as_tensor(trials, dtype=torch.float64)
    if not bool(((k >= 0) & (k <= n)).all()):
        raise ValueError("wilson needs 0 ≤ successes ≤ trials")
    middle = (k + z**2 / 2) / (n + z**2)
    half = z / (n + z**2) * torch.sqrt(k * (n - k) / n.clamp(min=1) + z**2 / 4)
    return (middle - half).clamp(0, 1), (middle + half).clamp(0, 1)


def accuracy_curve(
    value: Tensor, correct: Tensor, *, ideal: Tensor | None = None, chance: float = 0.5, xlabel: str
) -> Figure:
    """The share of correct answers against a value of each trial, such as a delay, with 95 % Wilson intervals.

    Args:
        value: of each trial, (trials,). Up to 24 different values have a point each; more are grouped into 12 bins of
            equally many trials, each drawn at its mean. The axis is logarithmic for values above 0 that span a decade.
        correct: whether the answer was correct, bool, (trials,).
        ideal: the probability that an ideal observer is correct in each trial, (trials,).
        chance: chance level; a dashed line.
        xlabel: name of the value, with its unit.
    Raises: ValueError for other shapes or lengths, or for values that are not finite.
    """
    ideals = {} if ideal is None else {"ideal": ideal}
    x, is_correct, *best = as_trials(value=value, correct=correct, **ideals)
    groups = group_trials(x, most=24, bins=12)
    with figure(SINGLE, 2.3) as fig:
        axes = fig.subplots()
        points, lowest = _draw_network(axes, groups, is_correct, "o-")
        handles: list[Any] = [points]
        for values in best:
            average = np.bincount(groups.member, values) / np.bincount(groups.member)
            style: dict[str, Any] = {"color": COLORS["vermillion"], "marker": "o", "markersize": 2, "zorder": 2}
            handles += axes.plot(groups.centres, average, label="ideal observer", **style)
        label_level(axes, chance, "chance")
        if x.min() > 0 and x.max() >= _MIN_LOG_RATIO * x.min():
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter("{x:g}")
        axes.set(ylim=(min(chance, lowest) - 0.03, 1.03), xlabel=xlabel, ylabel="correct (%)")
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=None))
        legend(fig, handles)
    return fig


def psychometric(
    evidence: Tensor,
    right: Tensor,
    *,
    ideal: tuple[Tensor, Tensor] | None = None,
    xlabel: str = "log rate ratio γ",
    ylabel: str = "P(choose right)",
) -> Figure:
    """The share of trials in which the network chose right, against the evidence, with 95 % Wilson intervals.

    Args:
        evidence: above 0 if it favours right, (trials,). Up to 24 different values have a point each; more are grouped
            into 12 bins of equally many trials, each drawn at its mean.
        right: whether right was chosen, bool, (trials,).
        ideal: the curve of an ideal observer: evidence and P(right), each (points,).
        xlabel, ylabel: what the axes show, with units.
    Raises: ValueError for other shapes or lengths, or for values that are not finite.
    """
    x, chosen = as_trials(evidence=evidence, right=right)
    with figure(SINGLE, 2.3) as fig:
        axes = fig.subplots()
        faint: dict[str, Any] = {"color": tint(COLORS["grey"], 0.5), "linewidth": 0.5, "zorder": 0}
        axes.axhline(0.5, **faint)
        axes.axvline(0.0, **faint)
        points, _ = _draw_network(axes, group_trials(x, most=24, bins=12), chosen, "o")
        handles: list[Any] = [points]
        if ideal is not None:
            along, probability = as_trials(**{"ideal evidence": ideal[0], "ideal P(right)": ideal[1]})
            order = np.argsort(along)
            look: dict[str, Any] = {"color": COLORS["black"], "dashes": (4, 2), "zorder": 2, "label": "ideal observer"}
            handles += axes.plot(along[order], probability[order], **look)
        axes.set(yticks=[0, 0.25, 0.5, 0.75, 1], ylim=(-0.03, 1.03), xlabel=xlabel, ylabel=ylabel)
        legend(fig, handles)
    return fig


def recall(accuracy: Tensor, *, chance: float = 0.5) -> Figure:
    """The share of correct bits of each memorised pattern, sorted.

    Args:
        accuracy: of each pattern, 0 to 1, (patterns,).
        chance: chance level; a dashed line.
    Raises: ValueError for another shape, or values outside 0 to 1.
    """
    values = as_array(accuracy, "accuracy", "patterns")
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"accuracy must lie between 0 and 1, got {values.min():g} to {values.max():g}")
    with figure(SINGLE, 2.2) as fig:
        axes = fig.subplots()
        axes.plot(range(1, len(values) + 1), sorted(values), "o", color=COLORS["blue"], markersize=3)
        label_level(axes, chance, "chance")
        axes.set(ylim=(min(chance, values.min()) - 0.05, 1.03), xlabel="pattern (sorted by score)")
        axes.set_ylabel("correct bits (%)")
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=None))
        axes.xaxis.set_major_locator(round_ticks(6, integer=True, min_n_ticks=1))
    return fig


def confusion(targets: Tensor, predictions: Tensor, labels: Sequence[str]) -> Figure:
    """Predictions for each class: the share of its trials as colour; for up to 12 classes, the number of trials too.

    Args:
        targets, predictions: class indices, (trials,).
        labels: a name for each class.
    Raises: ValueError for other shapes or lengths, or an index without a label.
    """
    classes = len(labels)
    both = np.stack(as_trials(targets=targets, predictions=predictions))
    if not np.isin(both, np.arange(classes)).all():
        raise ValueError(f"classes must be 0 to {classes - 1}, because there are {classes} labels, got others")
    true, predicted = both.astype(int)
    counts = np.bincount(true * classes + predicted, minlength=classes**2).reshape(classes, classes)
    total = counts.sum(axis=1, keepdims=True)
    share = np.divide(100 * counts, total, out=np.full(counts.shape, np.nan), where=total > 0)
    size = max(SINGLE - 0.9, min(0.3 * classes, 5.0))
    every = max(1, -(-classes // 20))
    label_width = 0.055 * min(MOST_LETTERS, max(map(len, labels)))  # approximate, in inches
    is_rotated = label_width > every * size / classes
    with figure(size + 0.9 + label_width, size + 0.4 + (0.7 * label_width if is_rotated else 0)) as fig:
        axes = fig.subplots()
        texts = [[f"{count}" if count else "" for count in row] for row in counts] if classes <= 12 else None
        image = _map(axes, share, (0, 100), texts)
        named_ticks(axes.xaxis, range(0, classes, every), labels[::every], **(_ROTATION if is_rotated else {}))
        named_ticks(axes.yaxis, range(0, classes, every), labels[::every])
        title = f"{100 * (true == predicted).mean():.1f} % correct (n = {len(true):,})"
        axes.set(xlabel="predicted class", ylabel="true class", title=title)
        fig.colorbar(image, ax=axes, label="share of true class (%)", shrink=0.8).outline.set_visible(False)
    return fig


def accuracy_map(
    correct: Tensor,
    gamma: Tensor,
    duration: Tensor,
    *,
    ideal: Tensor | None = None,
    xlabel: str = "duration (s)",
    ylabel: str = "|log rate ratio γ|",
) -> Figure:
    """Accuracy for each strength and duration of the evidence, next to that of an ideal observer on the same scale.

    Args:
        correct: whether the choice was correct, bool, (trials,).
        gamma: evidence, (trials,); its sign is dropped. Up to 8 different values have a row each; more are grouped into
            6 bins of equally many trials.
        duration: (trials,); grouped into columns in the same way.
        ideal: the probability that an ideal observer is correct in each trial, (trials,).
        xlabel, ylabel: what the axes show, with units.
    Raises: ValueError for other shapes or lengths, or for values that are not finite.
    """
    ideals = {} if ideal is None else {"ideal": ideal}
    is_correct, strength, length, *best = as_trials(correct=correct, gamma=gamma, duration=duration, **ideals)
    rows, columns = group_trials(np.abs(strength), most=8, bins=6), group_trials(length, most=8, bins=6)
    values_of = dict(zip(("network", "ideal observer"), (is_correct, *best), strict=False))
    is_below_scale = False
    shape = (len(values_of), 1) if is_narrow() else (1, len(values_of))
    with figure(DOUBLE if best else SINGLE, 0.5 + 2.2 * shape[0]) as fig:
        panels = fig.subplots(*shape, squeeze=False, sharex=True, sharey=True).flatten()
        for axes, (name, values) in zip(panels, values_of.items(), strict=True):
            accuracy = 100 * rows.means(values, columns)
            texts = [["" if np.isnan(cell) else f"{cell:.0f}" for cell in row] for row in accuracy]
            image = _map(axes, accuracy, (50, 100), texts, origin="lower")
            is_below_scale = is_below_scale or bool(np.nanmin(accuracy) < 50)
            axes.set_aspect("auto")
            is_rotated = max(map(len, columns.labels)) > 4
            axes.set_xticks(range(len(columns.labels)), columns.labels, **(_ROTATION if is_rotated else {}))
            axes.set_yticks(range(len(rows.labels)), rows.labels)
            axes.set_title(f"{name}: {100 * values.mean():.1f} %")
        for axes in panels[-shape[1] :]:
            axes.set_xlabel(xlabel)
        for axes in panels[:: shape[1]]:
            axes.set_ylabel(ylabel)
        extend = "min" if is_below_scale else "neither"
        bar = fig.colorbar(image, ax=panels, label="correct (%)", pad=0.02, extend=extend)
        bar.outline.set_visible(False)
    return fig


def _draw_network(axes: Axes, groups: TrialGroups, successes: Array, look: str) -> tuple[Any, float]:
    """Draw the share of successes in each group. Returns: its legend handle, the lowest bound of an interval."""
    trials, count = np.bincount(groups.member), np.bincount(groups.member, successes)
    low, high = (bound.numpy() for bound in wilson(torch.from_numpy(count), torch.from_numpy(trials)))
    share = count / trials
    points = axes.errorbar(
        groups.centres, share, np.clip([share - low, high - share], 0, None), fmt=look, color=COLORS["blue"],
        markersize=3.5, elinewidth=0.8, zorder=3, label=f"network (n = {len(successes):,}, 95 % interval)",
    )  # fmt: skip
    return points, low.min()


def _map(
    axes: Axes,
    values: Array,
    limits: tuple[float, float],
    texts: list[list[str]] | None,
    origin: Literal["upper", "lower"] = "upper",
) -> AxesImage:
    """Draw cells in colour, grey for NaN, with text that is black on light cells and white on others."""
    axes.set_facecolor(tint(COLORS["grey"], 0.25))
    image = axes.imshow(values, origin=origin, vmin=limits[0], vmax=limits[1])
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    for y, row in enumerate(texts or []):
        for x, text in enumerate(row):
            is_light = values[y, x] > 0.48 * (limits[1] - limits[0]) + limits[0]
            axes.text(x, y, text, ha="center", va="center", fontsize=small(), color="black" if is_light else "white")
    return image
