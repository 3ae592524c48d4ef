"""SIGKILL at random moments of every verb and every training loop.

    python -m tests.faults kills --count 200

Only the operations on the disk matter: between two of them, the moment of a kill changes nothing. So the kill is drawn
among the operations, and may cut a write in the middle. The continuing command may be killed too, up to three kills.
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
from tests.faults.disk import KILL, Injection

READERS = (
    ("info", "it"),
    ("info", "done"),
    ("compare", ".", "--out", "../compared-by-a-reader"),
    ("clean", "--failed", "--root", "."),
    ("clean", "--unfinished", "--older-than", "0m", "--root", "."),
)


def check(stage: Stage, case: Case, seed: object) -> tuple[int, str]:
    """Kill a case and complete it. Returns: the number of kills; the fault found, "" if none."""
    rng = cases.generator("kill", seed)
    if case == cases.JOBLIB:
        return _check_processes(stage, case, rng)
    operations, expected = stage.reference(case)
    workdir = stage.new_folder(case)
    words, kills, moments = case.words, 0, list[str]()
    before = cases.contents(workdir)
    while True:
        at = rng.randint(1, len(operations) + 1)
        completed = cases.completed_files(workdir)
        ended = tracetorch(*words, cwd=workdir, injection=Injection(at, KILL))
        if not ended.is_killed:
            if ended.code:
                return kills, f"{'; '.join(moments)}: {ended}"
            break
        kills += 1
        moments.append(f"{words[0]} killed at operation {at}, {ended.operations[-1]}")
        if case.name != "clean" and (fault := cases.first_lost(before, workdir, case)):
            return kills, f"{'; '.join(moments)}: {fault}"
        after = cases.contents(workdir)
        if lost := [name for name, digest in completed.items() if after.get(name) != digest]:
            return kills, f"{'; '.join(moments)}: {lost[0]} of a completed run is lost"
        reader = rng.choice(READERS)
        if fault := cases.wrong_output(tracetorch(*reader, cwd=workdir)):
            return kills, f"{'; '.join(moments)}: then {' '.join(reader)}: {fault}"
        next_commands = case.next_commands(workdir)
        if not next_commands or kills == 3 or rng.random() < 0.5:
            break
        words = next_commands[-1]  # the next round kills the continuing command
    for ended in cases.complete(case, workdir) if kills else ():
        if ended.code:
            return kills, f"{'; '.join(moments)}: {ended}"
    if fault := cases.difference(expected, workdir):
        return kills, f"{'; '.join(moments)}: {fault}"
    return kills, ""


# ── jobs in separate processes ────────────────────────────────────────────────────────────────────────────────────────

ROOT = Path(__file__).parents[2]
_TIMEOUT = 300.0


def _check_processes(stage: Stage, case: Case, rng: random.Random) -> tuple[int, str]:
    """Kill the sweep's process, or a process that runs its jobs, once a random number of files exists."""
    expected = stage.reference(case)[1]
    workdir = stage.new_folder(case)
    files = rng.randint(1, len(expected))
    of_sweep = rng.random() < 0.6
    kill = f"{'the sweep' if of_sweep else 'a job'} killed after {files} files"
    command = (sys.executable, "-c", "from tracetorch.cli.main import main; main()", *case.words)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(command, cwd=workdir, env=environment, stdout=out, stderr=err, process_group=0)
        if not _wait(lambda: process.poll() is not None or _count(workdir / "it") >= files):
            return 0, f"{kill}: the sweep takes too long"
        time.sleep(rng.uniform(0, 0.1))
        victims = [process.pid] if of_sweep else [pid for pid in _members(process.pid) if pid != process.pid]
        if not victims or process.poll() is not None:
            return 0, _check_completed(case, workdir, expected, kill) if process.wait(_TIMEOUT) else ""
        os.kill(rng.choice(victims), signal.SIGKILL)
        code = process.wait(_TIMEOUT)
        if not _wait(lambda: not _members(process.pid)):
            os.killpg(process.pid, signal.SIGKILL)
            return 1, f"{kill}: processes remain after the sweep has ended"
        err.seek(0)
        messages = err.read().decode()
    if not of_sweep and code not in cases.DOCUMENTED:
        return 1, f"{kill}: exit code {code}: {messages[-300:]}"
    # If joblib's resource tracker was the victim, the next one prints a KeyError for each semaphore it does not know.
    if not of_sweep and "Traceback" in messages and "loky/backend/resource_tracker.py" not in messages:
        return 1, f"{kill}: {messages[-600:]}"
    return 1, _check_completed(case, workdir, expected, kill)


def _check_completed(case: Case, workdir: Path, expected: dict[str, object], kill: str) -> str:
    for ended in cases.complete(case, workdir):
        if ended.code:
            return f"{kill}: {ended}"
    fault = cases.difference(expected, workdir)
    return fault and f"{kill}: {fault}"


def _wait(done: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + _TIMEOUT
    while not done():
        if time.monotonic() > deadline:
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
    """The present number of files in a folder that processes write to."""
    return sum(len(names) for _, _, names in os.walk(folder))
