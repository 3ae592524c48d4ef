"""Style and saving of figures: one style, a palette for all kinds of colour vision, reproducible files."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axis import Axis
from matplotlib.backend_bases import RendererBase
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.mathtext import MathTextParser
from matplotlib.ticker import FixedLocator
from matplotlib.transforms import Bbox

from tracetorch.files import MOST_CONFIG_BYTES, read_text, write_whole, writing

Array = np.ndarray[Any, np.dtype[Any]]

SINGLE, DOUBLE = 3.4, 7.0
"""Widths in inches of one and of two columns of a paper."""

_NARROW = 5.0  # inches
FORMATS = ("png", "svg", "pdf")
_METADATA: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}

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
"""The palette of Okabe and Ito (2008), with a grey for secondary elements."""

_HUES = tuple(COLORS[name] for name in ("blue", "vermillion", "green", "purple", "orange", "sky", "black", "grey"))
_DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)), (0, (8, 2)))

STYLE: dict[Any, Any] = {
    "font.family": ["DejaVu Sans", "sans-serif"],  # the first comes with matplotlib: a figure is the same everywhere
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
    "svg.fonttype": "none",  # text stays text, which an editor can change and a reader can search
    "pdf.fonttype": 42,  # TrueType, which publishers ask for
    "svg.hashsalt": "tracetorch",  # without it, the ids in an SVG are random
}
"""matplotlib's rcParams for a paper figure: at least 7 pt, thin axes on two sides, no frame around a legend."""

_FIXED = {"figure.figsize", "figure.autolayout", "figure.constrained_layout.use", "savefig.bbox", "savefig.format"}
_FIXED |= {"svg.hashsalt", "backend", "interactive"}
"""Settings of a style file that are ignored: of the size, the layout, the saved bytes, and windows."""

RIM: dict[str, Any] = {"markeredgecolor": "white", "markeredgewidth": 0.5}
"""A thin white edge, for markers that may overlap."""


class _Look(NamedTuple):
    width: float | None = None
    title: str | None = None
    style: Mapping[Any, Any] = STYLE


_DEFAULT_LOOK = _Look()
_look: ContextVar[_Look] = ContextVar("look", default=_DEFAULT_LOOK)


@contextmanager
def look(*, width: float | None = None, style: str | Path | None = None, title: str | None = None) -> Iterator[None]:
    """Set width, style and title of all figures that are made in the block.

    Args:
        width: in inches, for example 3.4 for one column and 7 for two; None: the default of each figure. The height
            changes in proportion if a panel has a fixed aspect, as images have; otherwise it stays.
        style: a style file of matplotlib (`axes.labelsize: 9`), on top of `STYLE`. `font.size` also scales the
            text sizes that the file does not set. The colours and widths that distinguish lines stay.
        title: above each figure; None: no title.
    Raises: ValueError for a width outside of 1 to 30 inches, a setting or value that matplotlib does not accept, or a
        title with mathematics that it cannot parse; OSError for a file that cannot be read.
    Example:
        >>> with look(width=7, title="One trial"), figure() as fig:
        ...     line = fig.subplots().plot([0, 1], [0, 1])
        >>> float(fig.get_figwidth())
        7.0
    """
    if width is not None and not 1 <= width <= 30:
        raise ValueError(
            f"a width of {width:g} inches is not between 1 and 30; one column of a paper has 3.4, two have 7"
        )
    try:
        MathTextParser("path").parse(title or "")
    except ValueError as error:
        raise ValueError(f"matplotlib cannot draw the title {title!r}: {str(error).split(': ')[-1]}") from None
    before = _look.set(_Look(width, title, STYLE if style is None else _read_style(Path(style))))
    try:
        yield
    finally:
        _look.reset(before)


def _read_style(path: Path) -> dict[Any, Any]:
    """`STYLE` with the settings of a style file on top. Raises: as `look`."""
    found: dict[Any, Any] = {}
    for number, line in enumerate(read_text(path, MOST_CONFIG_BYTES).splitlines(), start=1):
        setting = _without_comment(line)
        if not setting:
            continue
        key, colon, value = (part.strip() for part in setting.partition(":"))
        where = f"{path}, line {number}"
        if not colon:
            raise ValueError(f"{where}: expected KEY: VALUE, such as font.size: 9, got {setting!r}")
        if key not in matplotlib.rcParams:
            close = get_close_matches(key, list(matplotlib.rcParams), 1)
            raise ValueError(
                f"{where}: matplotlib has no setting {key!r}" + (f"; {close[0]!r} is close" if close else "")
            )
        try:
            checked: Any = matplotlib.RcParams({key: value.removeprefix('"').removesuffix('"')})
            found[key] = checked[key]
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
    found = {key: value for key, value in found.items() if key not in _FIXED}
    scale = found.get("font.size", STYLE["font.size"]) / STYLE["font.size"]
    sizes = {key: scale * value for key, value in STYLE.items() if key.endswith(("labelsize", "titlesize", "fontsize"))}
    return STYLE | sizes | found


def _without_comment(line: str) -> str:
    """The part of a line before the first # outside of double quotes."""
    for at, character in enumerate(line):
        if character == "#" and line[:at].count('"') % 2 == 0:
            return line[:at].strip()
    return line.strip()


class StyledFigure(Figure):
    """A figure that applies its style again while drawing: matplotlib makes some ticks only then."""

    style: Mapping[Any, Any] = STYLE

    def draw(self, renderer: RendererBase) -> None:
        with matplotlib.rc_context(dict(self.style)):
            super().draw(renderer)


@contextmanager
def figure(width: float = SINGLE, height: float = 2.4) -> Iterator[Figure]:
    """A new figure, with the style active in the block; pyplot is not used.

    The layout is fixed at the end of the block: later passes would move the panels slightly, and files would differ.
    For a new layout after a change, call `fig.set_layout_engine("constrained")`. `look` changes width and style.

    Args: width, height: in inches.
    Example:
        >>> with figure() as fig:
        ...     line = fig.subplots().plot([0, 1], [0, 1])
    """
    wanted = _look.get()
    with matplotlib.rc_context(dict(wanted.style)):
        engine = ConstrainedLayoutEngine()
        fig = StyledFigure(figsize=(wanted.width or width, height), layout=engine)
        fig.style = wanted.style
        yield fig
        has_shape = any(axes.get_aspect() != "auto" for axes in fig.axes)
        if has_shape and wanted.width:
            fig.set_figheight(fig.get_figheight() * wanted.width / width)
        if wanted.title:
            _add_title(fig, wanted.title)
        for _ in range(_ASPECT_PASSES if has_shape else 1):
            engine.execute(fig)
        for axes in fig.axes:
            _thin_out(axes.xaxis)
        fig.set_layout_engine(None)  # with "none" instead of None, each file is drawn twice


def _thin_out(axis: Axis) -> None:
    """Remove every second tick, repeatedly, until no labels touch; a tick at 0 stays."""
    if isinstance(axis.get_major_locator(), FixedLocator):
        return  # ticks that the caller chose, possibly with names
    low, high = sorted(axis.get_view_interval())
    ticks = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high and tick.label1.get_visible()]
    while len(ticks) > 1:
        boxes = [tick.label1.get_window_extent() for tick in ticks]
        if all(left.x1 < right.x0 for left, right in pairwise(boxes)):
            return
        places = [float(tick.get_loc()) for tick in ticks]
        first = places.index(0.0) % 2 if 0.0 in places else 0
        ticks = ticks[first::2]
        axis.set_major_locator(FixedLocator(places[first::2]))


def is_narrow() -> bool:
    """Whether `look` sets a width below 5 inches, at which panels are stacked."""
    width = _look.get().width
    return width is not None and width < _NARROW


def small() -> Any:
    """The font size of small text in the current style: that of legends."""
    return matplotlib.rcParams["legend.fontsize"]


def save(fig: Figure, path: str | Path, formats: Sequence[str] = ("png", "svg")) -> tuple[Path, ...]:
    """Write a figure as `path`.FORMAT for each format, without a date: the same figure gives the same bytes.

    All formats are drawn before the first file is written. Each file is written under another name and renamed, so
    that no file is incomplete. PNG files have 200 dpi, unless a style file sets `savefig.dpi`.

    Args: path: without a suffix; a dot in the name is kept. Missing folders are made. formats: some of `FORMATS`.
    Returns: the paths of the files.
    Raises: ValueError for any other format; files.WriteError if a file cannot be written.
    """
    path = Path(path)
    content_of = {}
    style = fig.style if isinstance(fig, StyledFigure) else STYLE
    with matplotlib.rc_context(dict(style)):
        _round_positions(fig)
        for kind in formats:
            if kind not in FORMATS:
                raise ValueError(f"a figure is written as {', '.join(FORMATS)}, got {kind!r}")
            buffer = io.BytesIO()
            fig.savefig(buffer, format=kind, dpi=style["savefig.dpi"], metadata=_METADATA[kind])
            content_of[path.with_name(f"{path.name}.{kind}")] = buffer.getvalue()
    with writing():
        path.parent.mkdir(parents=True, exist_ok=True)
        for target, content in content_of.items():
            write_whole(target, content)
    return tuple(content_of)


def _round_positions(fig: Figure) -> None:
    """Fix the axes at rounded positions: the last digits of a layout differ from one call to the next."""
    fig.draw_without_rendering()
    fig.set_layout_engine("none")
    for axes in fig.axes:
        axes.set_position(Bbox(axes.get_position(original=True).get_points().round(6)))


def _add_title(fig: Figure, title: str) -> None:
    """Add a title, as that of the first legend if there is one; the figure grows by 0.2 inches, one line."""
    fig.set_figheight(fig.get_figheight() + 0.2)
    if fig.legends:  # it is above the panels, where the title belongs
        fig.legends[0].set_title(title, prop=FontProperties(size=matplotlib.rcParams["font.size"]))
        fig.legends[0].set_alignment("left")
    else:
        fig.suptitle(title, x=0.01, ha="left", fontsize=matplotlib.rcParams["font.size"])


def look_of_line(number: int) -> dict[str, Any]:
    """Colour and dashes of the line with this number; the first 40 lines look different."""
    cycle, hue = divmod(number, len(_HUES))
    return {"color": _HUES[hue], "linestyle": _DASHES[cycle % len(_DASHES)]}


def distinct_colors(hues: Sequence[str], count: int) -> list[Any]:
    """Return `count` colours: the hues, then two lighter tints of each; after these they repeat."""
    colors = [*hues, *(tint(hue, strength) for strength in (0.5, 0.25) for hue in hues)]
    return [colors[at % len(colors)] for at in range(count)]


def tint(color: str, strength: float) -> tuple[float, float, float]:
    """A colour mixed with white. Args: strength: 1 gives the colour itself, 0 gives white."""
    red, green, blue = (1 - strength * (1 - channel) for channel in to_rgb(color))
    return red, green, blue
