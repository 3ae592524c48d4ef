"""Files that a comparison leaves: all of them, or none."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tracetorch.runs.lock import WRITING, aside, remove_all_abandoned


def write_together(folder: str | Path, make: Callable[[Path], list[Path]]) -> list[Path]:
    """Let files be made in a hidden folder; then they take their places together.

    What a killed process left of its own there is removed.

    Args:
        folder: made if it does not exist. Files of the same names are replaced.
        make: makes the files in the folder that it is given.
    Returns: what was written.
    Raises: OSError if something cannot be.
    """
    folder = Path(folder)
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        remove_all_abandoned(folder, WRITING)
        with aside(folder, WRITING) as hidden:
            return [path.replace(folder / path.name) for path in make(hidden)]
    except BaseException:
        if is_new:
            with suppress(OSError):
                folder.rmdir()
        raise
