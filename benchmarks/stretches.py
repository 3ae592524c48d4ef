"""Accuracy against memory, with the number of stretches of time as the parameter, between the trace rule and BPTT.

python benchmarks/stretches.py docs/figures/stretches.png outputs/one outputs/other

The folders hold runs with `rule=trace`, `rule=coarse` and `rule=bptt`, for the same seeds. A thin line is a seed.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from statistics import fmean, median
from typing import Annotated, NamedTuple

import typer
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from common import plain_errors
from tracetorch.files import write_whole
from tracetorch.plot.labels import legend
from tracetorch.plot.style import COLORS, SINGLE, figure, save

RULES = {
    "trace": ("trace rule", "grey", "s"),
    "coarse": ("K stretches", "blue", "o"),
    "bptt": ("BPTT", "vermillion", "D"),
}

Target = Annotated[Path, typer.Argument(help="The PNG to write.")]
Folders = Annotated[list[Path], typer.Argument(help="Folders with the folders of runs.")]


class Point(NamedTuple):
    """The runs of one rule and one number of stretches, 0 for other rules."""

    memory: float  # MiB, median over seeds
    accuracy: list[float]  # %, of each seed


def main(target: Target, folders: Folders) -> None:
    """Draw the figure."""
    with plain_errors():
        points = gather(folders)
    with tempfile.TemporaryDirectory() as folder:
        png, _ = save(draw(points), Path(folder) / "figure")
        target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(target, png.read_bytes())


def gather(folders: list[Path]) -> dict[tuple[str, int], Point]:
    """Return the points by rule and number of stretches. Raises: ValueError for a rule without runs, or other seeds."""
    runs: dict[tuple[str, int], dict[int, tuple[float, float]]] = {}
    for path in sorted(path for folder in folders for path in folder.glob("*/run.json")):
        facts = json.loads(path.read_text(encoding="utf-8"))
        rule, summary = facts["config"]["rule"], facts["summary"]
        key = facts["rule"], int(rule.get("stretches", 0))
        runs.setdefault(key, {})[facts["seed"]] = (summary["training_memory_bytes"] / 2**20, 100 * summary["accuracy"])
    if missing := RULES.keys() - {rule for rule, _ in runs}:
        raise ValueError(f"there are no runs with rule={min(missing)} in {', '.join(map(str, folders))}")
    if len({tuple(sorted(seeds)) for seeds in runs.values()}) > 1:
        raise ValueError("not all rules have runs with the same seeds")
    return {
        key: Point(median(memory for memory, _ in seeds.values()), [seeds[seed][1] for seed in sorted(seeds)])
        for key, seeds in sorted(runs.items())
    }


def draw(points: dict[tuple[str, int], Point]) -> Figure:
    """Draw accuracy against memory on a logarithmic axis; K stands above its point."""
    with figure(SINGLE, 2.6) as fig:
        axes = fig.subplots()
        coarse = [(stretches, point) for (rule, stretches), point in points.items() if rule == "coarse"]
        for seed in range(len(coarse[0][1].accuracy)):
            line = [(point.memory, point.accuracy[seed]) for _, point in coarse]
            axes.plot(*zip(*line, strict=True), color=COLORS["blue"], linewidth=0.6, alpha=0.4)
        for rule, (label, color, marker) in RULES.items():
            own = [(point.memory, point.accuracy) for (name, _), point in points.items() if name == rule]
            for memory, accuracy in own:
                axes.plot([memory] * len(accuracy), accuracy, ".", color=COLORS[color], markersize=2.5, alpha=0.6)
            line = [(memory, fmean(accuracy)) for memory, accuracy in own]
            axes.plot(
                *zip(*line, strict=True), marker=marker, color=COLORS[color], markersize=4.5, label=label, zorder=4
            )
        for stretches, point in coarse:
            where = {"textcoords": "offset points", "xytext": (-3, 3), "ha": "right", "fontsize": 7, "zorder": 5}
            axes.annotate(f"{stretches}", (point.memory, fmean(point.accuracy)), color=COLORS["blue"], **where)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("training memory (MiB)")
        axes.set_ylabel("test accuracy (%)")
        legend(fig, axes.get_legend_handles_labels()[0])
    return fig


if __name__ == "__main__":
    typer.run(main)
