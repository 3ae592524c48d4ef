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
pytestmark = pytest.mark.slow


def start(*words, where):
    return subprocess.Popen(
        [*COMMAND, *words], cwd=where, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL
    )


def test_a_million_steps(tmp_path):
    words = ("run", "experiment=clicks_lifetime", "threads=1", "train.figures=false")
    whole = start(*words, "output.dir=whole", where=tmp_path)
    killed = start(*words, "output.dir=killed", where=tmp_path)
    halfway = time.monotonic() + PATIENCE
    while last_record(tmp_path / "killed").get("update", 0) < 7000:
        assert killed.poll() is None and time.monotonic() < halfway
        time.sleep(0.1)
    os.kill(killed.pid, signal.SIGKILL)
    assert killed.wait(timeout=60) == -signal.SIGKILL
    assert start("resume", "killed", where=tmp_path).wait(timeout=PATIENCE) == 0
    assert whole.wait(timeout=PATIENCE) == 0
    folder = RunFolder(tmp_path / "whole")
    assert not first_difference(folder, RunFolder(tmp_path / "killed"))
    summary = folder.facts()["summary"]
    assert summary["steps"] >= 1_000_000
    assert summary["recovered"] >= 10 and summary["switches"] - summary["recovered"] <= 1  # the last may be too recent
    used = [row["memory_bytes"] for row in folder.records() if "memory_bytes" in row]
    assert max(used) <= 1.05 * min(used)
