"""Learning curves: actions per episode during training, against the number of episodes; one line per run.

python benchmarks/episodes.py docs/figures/cartpole.png "a title=outputs/one" "another title=outputs/other"

Each folder is a panel. Each folder in it has a colour (more than eight: dashes too), and each run below that folder is
a line. The legend shows the folder's name, with a space for _ and a comma for __: three-factor__all_layers is
"three-factor, all layers".
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter
from omegaconf import OmegaConf

from common import plain_errors
from tracetorch.files import write_whole
from tracetorch.plot.labels import legend
from tracetorch.plot.style import DOUBLE, figure, look_of_line, save
from tracetorch.renamed import current
from tracetorch.runs.records import read_jsonl

Curve = tuple[list[int], list[float]]
"""Episodes ended so far in all environments; and the mean length, in actions, of those since the previous point."""

Target = Annotated[Path, typer.Argument(help="The PNG to write.")]
Panels = Annotated[list[str], typer.Argument(help="TITLE=FOLDER; the folder holds one folder of runs per colour.")]


def main(target: Target, panels: Panels) -> None:
    """Draw the curves of all folders."""
    with plain_errors():
        curves = {title: gather(Path(folder)) for title, _, folder in (panel.partition("=") for panel in panels)}
    with tempfile.TemporaryDirectory() as folder:
        png, _ = save(draw(curves), Path(folder) / "figure")
        target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(target, png.read_bytes())


def gather(folder: Path) -> dict[str, list[Curve]]:
    """Return the curves of all runs, by the name of their folder in this one.

    Raises: ValueError if there are none; KeyError for runs without episodes.
    """
    runs = sorted(folder.glob("*/**/metrics.jsonl")) if folder.name else []
    if not runs:
        raise ValueError(f"there are no runs in the folders of {str(folder)!r}: a panel is written as TITLE=FOLDER")
    groups: dict[str, list[Curve]] = {}
    for path in runs:
        config = current(OmegaConf.to_container(OmegaConf.load(path.with_name("config.yaml"))))
        num_envs = int(config["task"]["num_envs"])
        groups.setdefault(path.relative_to(folder).parts[0], []).append(curve(read_jsonl(path), num_envs))
    return groups


def curve(records: Sequence[dict[str, Any]], num_envs: int) -> Curve:
    """Return points from training records: the actions in all environments divided by the episodes that ended.

    A point covers records with at least two ended episodes per environment. With fewer, points would be uneven:
    environments that all reach the limit end together, and few episodes end in between.
    """
    ended, lengths, update, count = list[int](), list[float](), 0, 0
    for row in records:
        if row["split"] == "train" and row["episodes"] - count >= 2 * num_envs:
            ended.append(row["episodes"])
            lengths.append(num_envs * (row["update"] - update) / (row["episodes"] - count))
            update, count = row["update"], row["episodes"]
    return ended, lengths


def draw(panels: dict[str, dict[str, list[Curve]]]) -> Figure:
    """A panel for each title, a colour for each name, a line for each curve; episodes on a logarithmic axis."""
    names = list(dict.fromkeys(name for groups in panels.values() for name in groups))
    looks = {name: look_of_line(at) for at, name in enumerate(names)}
    with figure(DOUBLE, 2.5) as fig:
        panel_axes = fig.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axes, (title, groups) in zip(panel_axes, panels.items(), strict=True):
            _lines(axes, groups, looks)
            axes.set_title(title)
            axes.set_xlabel("episodes")
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
            axes.xaxis.set_minor_locator(NullLocator())
        panel_axes[0].set_ylabel("actions per episode")
        panel_axes[0].set_ylim(bottom=0)
        legend(
            fig,
            [Line2D([], [], **looks[name], label=name.replace("__", ", ").replace("_", " ")) for name in names],
        )
    return fig


def _lines(axes: Axes, groups: dict[str, list[Curve]], looks: dict[str, dict[str, Any]]) -> None:
    for name, curves in groups.items():
        for ended, lengths in curves:
            axes.plot(ended, lengths, **looks[name], linewidth=0.8)


if __name__ == "__main__":
    typer.run(main)
