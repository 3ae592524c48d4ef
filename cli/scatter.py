"""Plots one number against another, for `tracetorch compare --against` and at the end of a sweep."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tracetorch.cli.errors import UsageError, did_you_mean, shorten

if TYPE_CHECKING:
    from tracetorch.compare.comparison import Comparison
    from tracetorch.compare.scatter import Scatter

_MOST_NAMED = 40


def scatter(found: Comparison, key: str) -> Scatter:
    """Place the runs of a comparison by a quantity. Raises: UsageError if no run has it, or if it is not a number."""
    from tracetorch.compare.groups import UnknownNameError
    from tracetorch.compare.scatter import NoNumberError, make_scatter

    try:
        return make_scatter(found, key)
    except NoNumberError as error:
        words = shorten(", ".join(error.values[:8]))
        advice = f"to group by it: --by {shorten(key)}"
        raise UsageError(f"--against {shorten(key)}: its values are not numbers ({words}); {advice}") from error
    except UnknownNameError as error:
        last = {name.rpartition(".")[2]: name for name in error.known}
        close = did_you_mean(key, error.known)
        if not close and (name := last.get(key.rpartition(".")[2])):
            close = f" Did you mean '{name}'?"
        there = ", ".join(map(shorten, error.known[:_MOST_NAMED])) + ", …" * (len(error.known) > _MOST_NAMED)
        raise UsageError(f"--against {shorten(key)}: no run has it.{close} There are: {there or 'none'}.") from error


def names_of(found: Scatter) -> str:
    """The names of the written files, in short."""
    return f"{found.stem}.png, .svg and .csv"


def draw_scatter(folder: Path, by: list[str], metric: str | None, key: str) -> str:
    """Draw the runs of a folder into its folder `compare`.

    Returns: what was written, in a sentence.
    Raises: UsageError if nothing can be drawn.
    """
    from tracetorch.cli.compare_verb import compare_folder, compare_folders, write_into
    from tracetorch.compare.scatter import write_scatter

    made = scatter(compare_folders([folder], by, metric), key)
    where = write_into(compare_folder(folder), [], lambda there: write_scatter(made, there))
    return f"{names_of(made)} in {where}"
