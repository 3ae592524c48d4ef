"""The page: one file that needs no other and no network, and in which nothing that was read can act."""

from __future__ import annotations

from datetime import datetime
from importlib.resources import files

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from tracetorch.compare import tables
from tracetorch.compare.comparison import Comparison
from tracetorch.compare.text import plain
from tracetorch.compare.values import plain_words


def page(found: Comparison, svg: str, command: str) -> str:
    """A comparison as HTML.

    Args:
        svg: the figure, as matplotlib writes it.
        command: what was typed.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files("tracetorch.compare").joinpath("page.html.j2").read_text(encoding="utf-8"))
    return template.render(
        experiments=[plain(name) for name in found.experiments],
        metric=plain(plain_words(found.metric)),
        runs=len(found.runs),
        groups=len(found.groups),
        by=[plain(key) for key in found.by],
        figure=_inline(svg),
        tables=[tables.of_groups(found), *_if_several(found)],
        list=tables.of_runs(found),
        remarks=tables.remarks(found),
        left_out=tables.left_out(found.left_out),
        command=plain(command, 2000),
        date=f"{datetime.now().astimezone():%Y-%m-%d %H:%M %Z}",
    )


def _if_several(found: Comparison) -> list[tables.Table]:
    return [tables.of_differences(found), tables.of_pairs(found)] if len(found.groups) > 1 else []


def _inline(svg: str) -> Markup:
    """A figure as an element of a page. matplotlib has escaped what is in it, and text is drawn as outlines."""
    body = svg[svg.index("<svg") :]
    return Markup(body.replace("<svg", '<svg role="img" aria-labelledby="figure-note"', 1))
