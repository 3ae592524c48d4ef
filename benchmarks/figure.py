"""The figure of the README: memory and time of one training step against its length.

python benchmarks/figure.py memory.json docs/figures/memory.png
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator

from common import plain_errors
from tracetorch.files import write_whole
from tracetorch.plot.labels import legend
from tracetorch.plot.style import COLORS, DOUBLE, figure, save

Row = dict[str, Any]

LOOK = {
    "ours": ("traceTorch", "blue", "o"),
    "ours-bfloat16": ("traceTorch, bfloat16", "sky", "v"),
    "snntorch": ("snnTorch, BPTT", "vermillion", "s"),
    "spikingjelly": ("SpikingJelly, BPTT", "green", "^"),
    "norse": ("Norse, BPTT", "purple", "D"),
}
"""Name, colour and marker of each contender; later ones are drawn over earlier ones, and `ours` over all."""

Source = Annotated[Path, typer.Argument(help="The JSON of memory.py.")]
Target = Annotated[Path, typer.Argument(help="The PNG to write.")]


def main(source: Source, target: Target) -> None:
    """Draw the figure."""
    with plain_errors():
        content = json.loads(source.read_text(encoding="utf-8"))
        if content["benchmark"] != "memory":
            raise ValueError(f"{source} is from {content['benchmark']}.py; the figure needs the JSON of memory.py")
    fig = draw(content["rows"], content["provenance"]["memory_limit_bytes"])
    with tempfile.TemporaryDirectory() as folder:
        png, _ = save(fig, Path(folder) / "figure")
        target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(target, png.read_bytes())


def draw(rows: Sequence[Row], limit: int | None) -> Figure:
    """Draw two panels with logarithmic axes: peak extra memory in MiB, and seconds; forecasts are dotted.

    Args:
        rows: of the JSON of memory.py.
        limit: memory limit of a step, in bytes; None for no limit.
    """
    with figure(DOUBLE, 2.5) as fig:
        memory, time = fig.subplots(1, 2)
        handles = _lines(memory, rows, "extra_bytes", 2**20)
        _lines(time, rows, "seconds", 1)
        if any(row["skipped"] for row in rows):
            handles.append(Line2D([], [], color=COLORS["grey"], marker="x", linestyle=":", label="forecast, not run"))
        if limit is not None:
            memory.axhline(limit / 2**20, color=COLORS["black"], linewidth=0.8, dashes=(4, 2), zorder=2)
            position = {"xycoords": memory.get_yaxis_transform(), "xytext": (0, -3), "textcoords": "offset points"}
            memory.annotate(f"limit, {limit / 2**30:.1f} GiB", (0.02, limit / 2**20), va="top", fontsize=7, **position)
        memory.set_title(f"{rows[0]['network']}, batch {rows[0]['batch']}")
        memory.set_ylabel("peak extra memory (MiB)")
        time.set_ylabel("training step (s)")
        for axes in (memory, time):
            axes.set_xlabel("time steps T")
            axes.set_xscale("log")
            axes.set_yscale("log")
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_locator(LogLocator(numticks=12))
                axis.set_minor_locator(NullLocator())
        legend(fig, handles)
    return fig


def _lines(axes: Axes, rows: Sequence[Row], key: str, unit: float) -> list[Line2D]:
    """Draw a line for each contender. Returns: handles for a legend."""
    handles = []
    for name, (label, color, marker) in LOOK.items():
        own_rows = [row for row in rows if row["contender"] == name]
        ran = [(row["steps"], row[key] / unit) for row in own_rows if not row["skipped"] and row[key]]
        if not ran:
            continue
        look = {"color": COLORS[color], "zorder": 4 if name == "ours" else 3, "clip_on": False}
        handles += axes.plot(*zip(*ran, strict=True), marker=marker, markersize=3.5, label=label, **look)
        stopped = [row for row in own_rows if row["skipped"] and "forecast" in row]
        for row in stopped[:1]:
            end = (row["steps"], row["forecast"][key] / unit)
            axes.plot(*zip(ran[-1], end, strict=True), linestyle=":", **look)
            axes.plot(*end, marker="x", markersize=4.5, markeredgewidth=1.2, **look)
    return handles


if __name__ == "__main__":
    typer.run(main)
