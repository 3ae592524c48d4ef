"""Kills, failing and full disks, damaged and hostile files: a few kills; all with `-m slow`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults import room

ROOT = Path(__file__).parents[2]
TRIES = {"kills": 200, "errors": 0, "room": 0, "mutations": 1000}
"""Number of tries; 0: all. Another `TRACETORCH_FAULTS_SEED` draws other tries."""

needs_fork = pytest.mark.skipif(sys.platform != "linux", reason="the drivers fork, and read /proc")


def run_drivers(*words):
    """Run the drivers, which must find no fault. Returns: the number of tries of each."""
    seed = os.environ.get("TRACETORCH_FAULTS_SEED", "0")
    command = [sys.executable, "-m", "tests.faults", *words, "--seed", seed]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr}"
    return {row["driver"]: row["tries"] for row in map(json.loads, ended.stdout.splitlines())}


@needs_fork
def test_a_few_kills_lose_nothing():
    assert run_drivers("kills", "--count", "5") == {"kills": 5}  # the first five cover every training loop


@pytest.mark.skipif(not room.can_mount(), reason="mounting a disk requires root on Linux")
def test_a_disk_is_never_resized_below_its_content(tmp_path):
    with room.disk(tmp_path):
        (tmp_path / "file").write_bytes(bytes(9 * room.PAGE))
        room.resize(tmp_path, 1)
        stat = os.statvfs(tmp_path)
        assert 9 <= stat.f_blocks <= 12 and (tmp_path / "file").stat().st_size == 9 * room.PAGE


@needs_fork
@pytest.mark.slow
@pytest.mark.parametrize("driver", TRIES)
def test_no_disturbance_loses_anything(driver):
    if driver == "room" and not room.can_mount():
        pytest.skip("mounting a disk requires root on Linux")
    assert run_drivers(driver, "--count", str(TRIES[driver]))[driver] >= max(TRIES[driver], 100)
