"""SIGKILL at random moments of every verb and every training loop.

    python -m tests.faults kills --count 200

Between two operations on the disk a process leaves the same there, whenever it is killed; so the moment is drawn among
these operations, and a write may be cut in the middle. What goes on after it may be killed as well, and again.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.faults import cases
from tests.faults.cases import Case, Stage
from tests.faults.child import tracetorch
from tests.faults.disk import KILL, Fault

READERS = (
    ("info", "it"),
    ("info", "done"),
    ("compare", ".", "--out", "../compared-by-a-reader"),
    ("clean", "--failed", "--root", "."),
    ("clean", "--unfinished", "--older-than", "0m", "--root", "."),
)


def check(stage: Stage, case: Case, seed: object) -> tuple[int, str]:
    """Returns: how often it was killed; what is wrong, "" if nothing is."""
    chance = cases.chance("kill", seed)
    if case == cases.JOBLIB:
        return _check_processes(stage, case, chance)
    operations, expected = stage.reference(case)
    base = stage.set(case)
    words, kills, moments = case.words, 0, list[str]()
    before = cases.contents(base)
    while True:
        at = chance.randint(1, len(operations) + 1)
        whole = cases.completed(base)
        ended = tracetorch(*words, where=base, fault=Fault(at, KILL))
        if not ended.is_killed:
            if ended.code:
                return kills, f"{'; '.join(moments)}: {ended}"
            break
        kills += 1
        moments.append(f"{words[0]} killed at operation {at}, {ended.operations[-1]}")
        if case.name != "clean" and (gone := cases.lost(before, base, case)):
            return kills, f"{'; '.join(moments)}: {gone}"
        kept = cases.contents(base)
        if gone := [name for name, digest in whole.items() if kept.get(name) != digest]:
            return kills, f"{'; '.join(moments)}: {gone[0]} of a completed run is lost"
        reader = chance.choice(READERS)
        if wrong := cases.spoken(tracetorch(*reader, where=base)):
            return kills, f"{'; '.join(moments)}: then {' '.join(reader)}: {wrong}"
        following = case.goes_on(base)
        if not following or kills == 3 or chance.random() < 0.5:
            break
        words = following[-1]  # and this is killed as well
    for ended in cases.done(case, base) if kills else ():
        if ended.code:
            return kills, f"{'; '.join(moments)}: {ended}"
    if wrong := cases.difference(expected, base):
        return kills, f"{'; '.join(moments)}: {wrong}"
    return kills, ""


# ── jobs in processes of their own ──────────────────────────────────────────────────────────────────────────────────

ROOT = Path(__file__).parents[2]
_PATIENCE = 300.0


def _check_processes(stage: Stage, case: Case, chance: random.Random) -> tuple[int, str]:
    """Kill the sweep's own process, or one that runs its jobs, once so many files are written."""
    expected = stage.reference(case)[1]
    base = stage.set(case)
    files = chance.randint(1, len(expected))
    of_sweep = chance.random() < 0.6
    what = f"{'the sweep' if of_sweep else 'a job'} killed with {files} files"
    command = (sys.executable, "-c", "from tracetorch.cli.main import main; main()", *case.words)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        surroundings = os.environ | {"PYTHONPATH": str(ROOT)}
        group = subprocess.Popen(command, cwd=base, env=surroundings, stdout=out, stderr=err, process_group=0)
        if not _wait(lambda: group.poll() is not None or _count(base / "it") >= files):
            return 0, f"{what}: it takes too long"
        time.sleep(chance.uniform(0, 0.1))
        victims = [group.pid] if of_sweep else [one for one in _members(group.pid) if one != group.pid]
        if not victims or group.poll() is not None:
            return 0, _settle(case, base, expected, what) if group.wait(_PATIENCE) else ""
        os.kill(chance.choice(victims), signal.SIGKILL)
        code = group.wait(_PATIENCE)
        if not _wait(lambda: not _members(group.pid)):
            os.killpg(group.pid, signal.SIGKILL)
            return 1, f"{what}: processes are left that do nothing"
        err.seek(0)
        said = err.read().decode()
    if not of_sweep and code not in cases.DOCUMENTED:
        return 1, f"{what}: exit code {code}: {said[-300:]}"
    # If joblib's resource tracker was the victim, the next one prints a KeyError for each semaphore it does not know.
    if not of_sweep and "Traceback" in said and "loky/backend/resource_tracker.py" not in said:
        return 1, f"{what}: {said[-600:]}"
    return 1, _settle(case, base, expected, what)


def _settle(case: Case, base: Path, expected: dict[str, object], what: str) -> str:
    for ended in cases.done(case, base):
        if ended.code:
            return f"{what}: {ended}"
    wrong = cases.difference(expected, base)
    return wrong and f"{what}: {wrong}"


def _wait(done: Callable[[], bool]) -> bool:
    end = time.monotonic() + _PATIENCE
    while not done():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def _members(group: int) -> list[int]:
    """The processes of a group that have not ended."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its_group = path.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(its_group) == group and state != "Z":
            found.append(int(path.parent.name))
    return found


def _count(folder: Path) -> int:
    """How many files there are now, in a folder that processes write to."""
    return sum(len(names) for _, _, names in os.walk(folder))
