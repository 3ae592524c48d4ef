"""A million steps: memory stays constant, the network recovers from every change but perhaps the last, and a kill
followed by a resume changes nothing.
"""

import os
import signal
import subprocess
import time

import pytest

from tests.sweeps import COMMAND
from tracetorch.runs import RunFolder
from tracetorch.runs.folder import last_record
from tracetorch.runs.provenance import first_difference

TIMEOUT = 1800.0  # seconds


@pytest.mark.slow
def test_a_million_steps_need_constant_memory_and_a_kill_changes_nothing(tmp_path):
    def start(*arguments):
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        return subprocess.Popen([*COMMAND, *arguments], cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL)

    arguments = ("run", "experiment=clicks_lifetime", "threads=1", "train.figures=false")
    whole, killed = start(*arguments, "output.dir=whole"), start(*arguments, "output.dir=killed")
    deadline = time.monotonic() + TIMEOUT
    while last_record(tmp_path / "killed").get("update", 0) < 7000:
        assert killed.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    os.kill(killed.pid, signal.SIGKILL)
    assert killed.wait(timeout=60) == -signal.SIGKILL
    assert start("resume", "killed").wait(timeout=TIMEOUT) == whole.wait(timeout=TIMEOUT) == 0
    folder = RunFolder(tmp_path / "whole")
    assert not first_difference(folder, RunFolder(tmp_path / "killed"))
    summary = folder.facts()["summary"]
    assert summary["steps"] >= 1_000_000
    assert summary["recovered"] >= 10 and summary["switches"] - summary["recovered"] <= 1  # the last may be too recent
    used = [row["memory_bytes"] for row in folder.records() if "memory_bytes" in row]
    assert max(used) <= 1.05 * min(used)
