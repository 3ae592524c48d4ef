"""Style and saving of figures: one style, colours for all kinds of colour vision, reproducible files."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backend_bases import RendererBase
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from tracetorch.files import write_whole, writing

Array = np.ndarray[Any, np.dtype[Any]]

SINGLE, DOUBLE = 3.4, 7.0
"""Widths in inches of one and of two columns of a paper."""

_ASPECT_PASSES = 3  # layout passes for panels of fixed aspect, whose boxes shrink; others need one

COLORS = {
    "blue": "#0072B2",
    "vermillion": "#D55E00",
    "green": "#009E73",
    "purple": "#CC79A7",
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "yellow": "#F0E442",
    "black": "#000000",
    "grey": "#767676",
}
"""The palette of Okabe and Ito (2008), and a grey for secondary elements."""

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so a figure is the same on every machine; its digits align
    "font.size": 8,
    "mathtext.fontset": "dejavusans",
    "text.usetex": False,  # LaTeX may not be installed, and would give other bytes
    "axes.labelsize": 8,
    "axes.titlesize": 8,
    "axes.titlelocation": "left",
    "axes.titlepad": 4,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.formatter.useoffset": False,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "lines.linewidth": 1.0,
    "lines.solid_capstyle": "butt",
    "legend.fontsize": 7,
    "legend.title_fontsize": 7,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "legend.handletextpad": 0.5,
    "legend.columnspacing": 1.2,
    "legend.labelspacing": 0.3,
    "legend.borderaxespad": 0.2,
    "image.cmap": "cividis",
    "image.interpolation": "nearest",
    "figure.dpi": 100,
    "figure.autolayout": False,
    "figure.constrained_layout.use": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "savefig.dpi": 200,
    "svg.fonttype": "path",
    "svg.hashsalt": "tracetorch",  # without it, names in an SVG are random
}
"""matplotlib's rcParams for a paper figure: at least 7 pt, thin axes on two sides, no frame around a legend."""

RIM: dict[str, Any] = {"markeredgecolor": "white", "markeredgewidth": 0.5}
"""A thin white edge, for markers that may overlap."""


class StyledFigure(Figure):
    """A figure that is also *drawn* with `STYLE`: matplotlib makes some ticks only when it draws."""

    def draw(self, renderer: RendererBase) -> None:
        with matplotlib.rc_context(STYLE):
            super().draw(renderer)


@contextmanager
def figure(width: float = SINGLE, height: float = 2.4) -> Iterator[Figure]:
    """A new figure, with the style active in the block; pyplot is not used.

    The layout is fixed at the end of the block: later passes would move the panels slightly, and files would differ.
    For a new layout after a change, call `fig.set_layout_engine("constrained")`.

    Args: width, height: in inches.
    Example:
        >>> with figure() as fig:
        ...     line = fig.subplots().plot([0, 1], [0, 1])
    """
    with matplotlib.rc_context(STYLE):
        engine = ConstrainedLayoutEngine()
        fig = StyledFigure(figsize=(width, height), layout=engine)
        yield fig
        for _ in range(1 if all(axes.get_aspect() == "auto" for axes in fig.axes) else _ASPECT_PASSES):
            engine.execute(fig)
        fig.set_layout_engine(None)  # with "none" instead of None, each file is drawn twice


def save(fig: Figure, path: str | Path) -> tuple[Path, Path]:
    """Write `path`.png (200 dpi) and `path`.svg, without a date: the same figure gives the same bytes.

    Both are drawn first. Then each is written under another name and renamed, so that no file is incomplete.

    Args: path: without a suffix; a dot in the name is kept. Missing folders are made.
    Returns: the two paths.
    Raises: files.WriteError if a file cannot be written.
    """
    path = Path(path)
    content_of = {}
    with matplotlib.rc_context(STYLE):
        for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None, "Creator": None})):
            buffer = io.BytesIO()
            fig.savefig(buffer, format=kind, dpi=STYLE["savefig.dpi"], metadata=metadata)
            content_of[path.with_name(f"{path.name}.{kind}")] = buffer.getvalue()
    with writing():
        path.parent.mkdir(parents=True, exist_ok=True)
        for target, content in content_of.items():
            write_whole(target, content)
    png, svg = content_of
    return png, svg


def tint(color: str, strength: float) -> tuple[float, float, float]:
    """A colour mixed with white. Args: strength: 1 gives the colour itself, 0 gives white."""
    red, green, blue = (1 - strength * (1 - channel) for channel in to_rgb(color))
    return red, green, blue
