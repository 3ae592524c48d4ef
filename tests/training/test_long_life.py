"""A million steps: memory stays as it was, every change is learnt again, and kills on the way change nothing."""

import os
import signal
import subprocess
import time

import pytest

from tests.sweeps import COMMAND
from tracetorch.runs import RunFolder
from tracetorch.runs.folder import last_record
from tracetorch.runs.provenance import first_difference

PATIENCE = 1800.0  # seconds


@pytest.mark.slow
def test_a_million_steps(tmp_path):
    def start(*words):
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        return subprocess.Popen([*COMMAND, *words], cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL)

    words = ("run", "experiment=clicks_lifetime", "threads=1", "train.figures=false")
    whole, killed = start(*words, "output.dir=whole"), start(*words, "output.dir=killed")
    halfway = time.monotonic() + PATIENCE
    while last_record(tmp_path / "killed").get("update", 0) < 7000:
        assert killed.poll() is None and time.monotonic() < halfway
        time.sleep(0.1)
    os.kill(killed.pid, signal.SIGKILL)
    assert killed.wait(timeout=60) == -signal.SIGKILL
    assert start("resume", "killed").wait(timeout=PATIENCE) == whole.wait(timeout=PATIENCE) == 0
    folder = RunFolder(tmp_path / "whole")
    assert not first_difference(folder, RunFolder(tmp_path / "killed"))
    summary = folder.facts()["summary"]
    assert summary["steps"] >= 1_000_000
    assert summary["recovered"] >= 10 and summary["switches"] - summary["recovered"] <= 1  # the last may be too recent
    used = [row["memory_bytes"] for row in folder.records() if "memory_bytes" in row]
    assert max(used) <= 1.05 * min(used)
