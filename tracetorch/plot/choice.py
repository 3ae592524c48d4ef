"""What the network chose: how often it was right, and how its choices follow the evidence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from torch import Tensor

from tracetorch.plot.as_arrays import as_trials
from tracetorch.plot.style import COLORS, DOUBLE, SINGLE, figure, legend, tint
from tracetorch.plot.trial_groups import group_trials

TURNED: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
Array = np.ndarray[Any, np.dtype[np.float64]]


def wilson(successes: Tensor | float, trials: Tensor | float, z: float = 1.96) -> tuple[Tensor, Tensor]:
    """Wilson's score interval for a probability; holds what it promises even for few trials and near 0 or 1.

        (k + z²/2 ± z·√(k(n − k)/n + z²/4)) / (n + z²)

    Args:
        successes: k, any shape.
        trials: n ≥ k, broadcast against it. No trials give (0, 1).
        z: 1.96 for 95 %.
    Returns: the lower and the upper end, float64, within [0, 1].
    Raises: ValueError unless 0 ≤ k ≤ n.
    Source: Wilson (1927), Probable inference, the law of succession, and statistical inference,
        10.1080/01621459.1927.10502953.
    Example:
        >>> low, high = wilson(5, 10)
        >>> round(low.item(), 3), round(high.item(), 3)
        (0.237, 0.763)
    """
    k, n = torch.as_tensor(successes, dtype=torch.float64), torch.as_tensor(trials, dtype=torch.float64)
    if not bool(((k >= 0) & (k <= n)).all()):
        raise ValueError("wilson needs between 0 and as many successes as there are trials")
    middle = (k + z**2 / 2) / (n + z**2)
    half = z / (n + z**2) * torch.sqrt(k * (n - k) / n.clamp(min=1) + z**2 / 4)
    return (middle - half).clamp(0, 1), (middle + half).clamp(0, 1)


def psychometric(
    evidence: Tensor,
    right: Tensor,
    *,
    ideal: tuple[Tensor, Tensor] | None = None,
    xlabel: str = "log rate ratio γ",
    ylabel: str = "P(choose right)",
) -> Figure:
    """How often the network chose right, against the evidence for it, with 95 % Wilson intervals.

    Args:
        evidence: above 0 if it speaks for right, (trials,). A point for each value; more than 24 different values are
            grouped into 12 bins of equally many trials, each drawn at its mean.
        right: whether right was chosen, bool, (trials,).
        ideal: the curve of an ideal observer: evidence and P(right), each (points,).
        xlabel, ylabel: what the axes show, with units.
    Raises: ValueError for other shapes or lengths, or for values that are not finite.
    """
    x, chosen = as_trials(evidence=evidence, right=right)
    groups = group_trials(x, most=24, bins=12)
    trials, rights = np.bincount(groups.member), np.bincount(groups.member, chosen)
    low, high = (end.numpy() for end in wilson(torch.from_numpy(rights), torch.from_numpy(trials)))
    with figure(SINGLE, 2.3) as fig:
        axes = fig.subplots()
        axes.axhline(0.5, color=tint(COLORS["grey"], 0.5), linewidth=0.5, zorder=0)
        axes.axvline(0.0, color=tint(COLORS["grey"], 0.5), linewidth=0.5, zorder=0)
        share = rights / trials
        error = np.clip([share - low, high - share], 0, None)
        points = axes.errorbar(
            groups.centres, share, error, fmt="o", color=COLORS["blue"], markersize=3.5, elinewidth=0.8, zorder=3,
            label=f"network (n = {len(x):,}, 95 % interval)",
        )  # fmt: skip
        handles: list[Any] = [points]
        if ideal is not None:
            along, probability = as_trials(**{"ideal evidence": ideal[0], "ideal P(right)": ideal[1]})
            order = np.argsort(along)
            handles += axes.plot(
                along[order], probability[order], color=COLORS["black"], dashes=(4, 2), zorder=2, label="ideal observer"
            )
        axes.set_ylim(-0.03, 1.03)
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
        legend(fig, handles)
    return fig


def confusion(targets: Tensor, predictions: Tensor, labels: Sequence[str]) -> Figure:
    """What each class was taken for: shares of its trials as colour, numbers of trials written in (up to 12 classes).

    Args:
        targets, predictions: class indices, (trials,).
        labels: a name for each class.
    Raises: ValueError for other shapes or lengths, or an index without a label.
    """
    classes = len(labels)
    both = np.stack(as_trials(targets=targets, predictions=predictions))
    if not np.isin(both, np.arange(classes)).all():
        raise ValueError(f"classes must be 0 to {classes - 1}, for there are {classes} labels, got others")
    true, given = both.astype(int)
    counts = np.bincount(true * classes + given, minlength=classes**2).reshape(classes, classes)
    total = counts.sum(axis=1, keepdims=True)
    share = np.divide(100 * counts, total, out=np.full(counts.shape, np.nan), where=total > 0)
    size = max(SINGLE - 0.9, min(0.3 * classes, 5.0))
    every = max(1, -(-classes // 20))
    name = 0.055 * max(map(len, labels))  # its width in inches, about
    turned = name > every * size / classes
    with figure(size + 0.9 + name, size + 0.4 + (0.7 * name if turned else 0)) as fig:
        axes = fig.subplots()
        texts = [[f"{count}" if count else "" for count in row] for row in counts] if classes <= 12 else None
        image = _map(axes, share, (0, 100), texts)
        axes.set_xticks(range(0, classes, every), labels[::every], **(TURNED if turned else {}))
        axes.set_yticks(range(0, classes, every), labels[::every])
        axes.set_xlabel("predicted class")
        axes.set_ylabel("true class")
        axes.set_title(f"{100 * (true == given).mean():.1f} % correct (n = {len(true):,})")
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
    """Accuracy for each strength and duration of the evidence; the ideal observer's beside it, on the same scale.

    Args:
        correct: whether the choice was right, bool, (trials,).
        gamma: evidence, (trials,); its sign is dropped. Up to 8 different values have a row each; more are grouped into
            6 bins of equally many trials.
        duration: (trials,), a column each, or grouped alike.
        ideal: the probability that an ideal observer would have been right in that trial, (trials,).
        xlabel, ylabel: what the axes show, with units.
    Raises: ValueError for other shapes or lengths, or for values that are not finite.
    """
    ideals = {} if ideal is None else {"ideal": ideal}
    right, strength, length, *best = as_trials(correct=correct, gamma=gamma, duration=duration, **ideals)
    rows, columns = group_trials(np.abs(strength), most=8, bins=6), group_trials(length, most=8, bins=6)
    panels = dict(zip(("network", "ideal observer"), (right, *best), strict=False))
    below = False
    with figure(DOUBLE if best else SINGLE, 2.7) as fig:
        shape = fig.subplots(1, len(panels), squeeze=False, sharey=True)[0]
        for axes, (name, values) in zip(shape, panels.items(), strict=True):
            accuracy = 100 * rows.means(values, columns)
            texts = [["" if np.isnan(cell) else f"{cell:.0f}" for cell in row] for row in accuracy]
            image = _map(axes, accuracy, (50, 100), texts, origin="lower")
            below = below or bool(np.nanmin(accuracy) < 50)
            axes.set_aspect("auto")
            long = max(map(len, columns.labels)) > 4
            axes.set_xticks(range(len(columns.labels)), columns.labels, **(TURNED if long else {}))
            axes.set_yticks(range(len(rows.labels)), rows.labels)
            axes.set_xlabel(xlabel)
            axes.set_title(f"{name}: {100 * values.mean():.1f} %")
        shape[0].set_ylabel(ylabel)
        bar = fig.colorbar(image, ax=shape, label="correct (%)", pad=0.02, extend="min" if below else "neither")
        bar.outline.set_visible(False)
    return fig


def _map(
    axes: Axes,
    values: Array,
    limits: tuple[float, float],
    texts: list[list[str]] | None,
    origin: Literal["upper", "lower"] = "upper",
) -> AxesImage:
    """Cells in colour, grey where there is nothing, with dark or light text, whichever stands out."""
    axes.set_facecolor(tint(COLORS["grey"], 0.25))
    image = axes.imshow(values, origin=origin, vmin=limits[0], vmax=limits[1])
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    for y, row in enumerate(texts or []):
        for x, text in enumerate(row):
            dark = values[y, x] > 0.48 * (limits[1] - limits[0]) + limits[0]
            axes.text(x, y, text, ha="center", va="center", fontsize=7, color="black" if dark else "white")
    return image
