"""`tracetorch run --from DIR`: the same run again, and whether the result is the same."""

from __future__ import annotations

from pathlib import Path

from tracetorch.cli.errors import DONE, FAILED, UsageError, complain, shorten
from tracetorch.cli.terminal import say

_MAY_CHANGE = ("output", "device", "threads")


def repeat(folder: Path, overrides: list[str], trust: list[str], show_traceback: bool) -> int:
    """Run again what a folder holds, in a new one, and compare. Returns: the exit code; 1 if the results differ.

    Raises: UsageError if the folder is no run's, or if more is to be changed than where and on what it runs.
    """
    from tracetorch.cli.folders import check_training, find_run

    for line in overrides:
        if line.lstrip("+~").partition("=")[0].partition(".")[0] not in _MAY_CHANGE:
            advice = "to change anything but output, device and threads, start a run of its own"
            raise UsageError(f"'{shorten(line)}': --from runs the same again; {advice}")
    asked_root = next((line for line in overrides if line.startswith("output.root=")), "output.root=outputs")
    asked = [line for line in overrides if not line.startswith("output.root=")]
    where = [] if any(line.startswith("output.dir=") for line in asked) else ["output.dir=null"]
    found = find_run(folder, trust, [asked_root, *where, *asked])  # a file may not say where to write
    check_training(found)

    from tracetorch.cli.display import Display
    from tracetorch.cli.execute import execute
    from tracetorch.runs.same import circumstances, difference

    display = Display(found.composed.experiment)
    outcome = execute(found.composed, overrides, display=display)
    code = display.conclude(outcome, show_traceback)
    if code != DONE:
        return code
    ended = found.state.status == "completed"
    try:
        differs = difference(found.folder, outcome.run.folder, as_far_as_it_came=not ended)
    except (OSError, ValueError) as error:
        complain(f"it cannot be compared with the first run: {error}", error, show_traceback)
        return FAILED
    others = circumstances(found.state.facts, outcome.run.folder.facts())
    if not differs:
        count = len(found.folder.records())
        whole = (
            f"all {count} records, and all weights" if ended else f"{count} records; it was {found.state.status} then"
        )
        say(f"identical to {folder}{'' if ended else ', as far as that came'}: {whole}")
        return DONE
    because = f" Not the same: {'; '.join(others)}." if others else " Versions, device and threads are the same."
    complain(f"not identical: {differs}.{because}", None, False)
    return FAILED
