"""`tracetorch run --from DIR`: repeats a run and reports whether the results are identical."""

from __future__ import annotations

from pathlib import Path

from tracetorch.cli.errors import DONE, FAILED, UsageError, complain, shorten
from tracetorch.cli.terminal import say

_MAY_CHANGE = ("output", "device", "threads")


def reproduce(folder: Path, overrides: list[str], trust: list[str], show_traceback: bool) -> int:
    """Repeat the run of a folder in a new folder, and compare both. Returns: the exit code; 1 if the results differ.

    Raises: UsageError if the folder is not a run folder, or if more than output, device and threads is changed.
    """
    from tracetorch.cli.folders import check_training, find_run

    for line in overrides:
        if line.lstrip("+~").partition("=")[0].partition(".")[0] not in _MAY_CHANGE:
            advice = "only output, device and threads can change; to change other keys, start a new run"
            raise UsageError(f"'{shorten(line)}': --from repeats a run: {advice}")
    asked_root = next((line for line in overrides if line.startswith("output.root=")), "output.root=outputs")
    asked = [line for line in overrides if not line.startswith("output.root=")]
    where = [] if any(line.startswith("output.dir=") for line in asked) else ["output.dir=null"]
    found = find_run(folder, trust, [asked_root, *where, *asked])  # a file may not choose where to write
    check_training(found)

    from tracetorch.cli.display import Display
    from tracetorch.cli.execute import execute
    from tracetorch.runs.provenance import first_difference, provenance_changes

    display = Display(found.composed.experiment)
    outcome = execute(found.composed, overrides, display=display)
    code = display.conclude(outcome, show_traceback)
    if code != DONE:
        return code
    ended = found.state.status == "completed"
    try:
        differs = first_difference(found.folder, outcome.run.folder, as_far_as_it_came=not ended)
        others = provenance_changes(found.state.facts, outcome.run.folder.facts())
        count = len(found.folder.records())
    except (OSError, ValueError) as error:
        complain(f"the two runs cannot be compared: {error}", error, show_traceback)
        return FAILED
    if not differs:
        whole = (
            f"all {count} records and all weights"
            if ended
            else f"{count} records; the first run was {found.state.status}"
        )
        say(f"identical to {folder}{'' if ended else ', as far as it ran'}: {whole}")
        return DONE
    because = f" Different: {'; '.join(others)}." if others else " Versions, device and threads are the same."
    complain(f"not identical: {differs}.{because}", None, False)
    return FAILED
