"""The figures that a sweep's preset asks for, drawn when its jobs have ended."""

from __future__ import annotations

from pathlib import Path

from tracetorch.cli.compare_verb import draw_scatter
from tracetorch.cli.errors import UsageError
from tracetorch.cli.sweep.plan import Plan
from tracetorch.cli.terminal import say


def draw_all(planned: Plan, folder: Path) -> None:
    """Draw what there is of the sweep in a folder. A figure that cannot be drawn is reported, and is not an error."""
    for figure in planned.figures:
        try:
            said = draw_scatter(folder, figure.by, figure.metric, figure.against)
        except UsageError as error:
            said = f"{figure.metric or 'result'} against {figure.against} is not drawn: {error}"
        say(said)
