"""One job of a sweep, in whichever process a launcher calls it. Whatever happens to it stops no other."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from tracetorch.cli.adapter import Composed
from tracetorch.cli.errors import DONE, INTERRUPTED, UsageError

STOP = "stop"
"""A file of this name in a sweep's folder lets no further job begin."""


@dataclass(frozen=True)
class Worker:
    """What a launcher calls for each job.

    Args:
        folder: of the sweep.
        names: of the jobs' folders, in the order in which they were given to the launcher.
        owner: the process that a Ctrl-C is meant for: in it, an interrupted job ends the sweep.
        fail_fast: a failure lets no further job begin.
    """

    folder: str
    names: tuple[str, ...]
    owner: int
    fail_fast: bool

    def __call__(self, at: int, composed: Composed, overrides: list[str]) -> str:
        """Run it. Returns: why it failed, in a sentence; "" if it did not. Raises: KeyboardInterrupt in the owner."""
        sweep, folder = Path(self.folder), Path(self.folder) / self.names[at]
        if (sweep / STOP).exists():
            return ""
        try:
            code, message = _run(folder, composed, overrides)
        except Exception as error:
            code, message = 1, str(error) or type(error).__name__
        if code == INTERRUPTED and os.getpid() == self.owner:
            raise KeyboardInterrupt
        if code != DONE and self.fail_fast:
            stop(sweep)
        return message


def stop(sweep: Path) -> None:
    """Let no further job begin."""
    (sweep / STOP).touch()


def _run(folder: Path, composed: Composed, overrides: list[str]) -> tuple[int, str]:
    from tracetorch.cli.execute import execute
    from tracetorch.runs import RunFolder
    from tracetorch.runs.state import state_of

    again = RunFolder(folder) if folder.exists() else None
    if again and state_of(folder).status == "completed":
        return DONE, ""
    try:
        outcome = execute(composed, overrides, exactly=folder, again=again)
    except UsageError as error:
        if again is None and not folder.exists():
            _refuse(folder, composed, str(error))
        raise
    return outcome.code, outcome.message


def _refuse(folder: Path, composed: Composed, why: str) -> None:
    """Leave a folder for a run that could not begin, so that its sweep can tell."""
    from tracetorch.runs.folder import RunFolder
    from tracetorch.runs.identity import facts_of

    refused = RunFolder.reserve(folder.parent, composed.experiment, "", folder)
    refused.write_text("config.yaml", composed.yaml)
    refused.write_text("error.txt", f"{why}\n")
    facts = {"status": "failed", "experiment": composed.experiment, **facts_of(composed.config)}
    refused.write_json("run.json", facts | {"summary": {}, "timings": {}, "error": why})
