"""Killed, on failing and full disks, and among damaged and hostile files: a few tries of each; with `-m slow`, all."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults import room

ROOT = Path(__file__).parents[2]
FULL = {"kills": 200, "errors": 0, "room": 0, "mutations": 1000}
"""How many tries; 0: all that there are. `TRACETORCH_FAULTS_SEED` draws others."""

needs_fork = pytest.mark.skipif(sys.platform != "linux", reason="the drivers fork, and read /proc")


def found(*words):
    """What the drivers found. Returns: how many tries each made."""
    seed = os.environ.get("TRACETORCH_FAULTS_SEED", "0")
    command = [sys.executable, "-m", "tests.faults", *words, "--seed", seed]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr}"
    return {row["driver"]: row["tries"] for row in map(json.loads, ended.stdout.splitlines())}


@needs_fork
def test_a_few_disturbances_lose_nothing():
    tries = found("kills", "errors", "mutations", "--count", "5")  # kills: each training loop
    assert all(count >= 5 for count in tries.values()) and len(tries) == 3


@pytest.mark.skipif(not room.can_mount(), reason="mounting a small disk takes root on Linux")
def test_a_small_disk_never_becomes_smaller_than_what_lies_on_it(tmp_path):
    with room.disk(tmp_path):
        (tmp_path / "file").write_bytes(bytes(9 * room.PAGE))
        room.resize(tmp_path, 1)
        found = os.statvfs(tmp_path)
        assert 9 <= found.f_blocks <= 12 and (tmp_path / "file").stat().st_size == 9 * room.PAGE


@needs_fork
@pytest.mark.slow
@pytest.mark.parametrize("driver", FULL)
def test_no_disturbance_loses_anything(driver):
    if driver == "room" and not room.can_mount():
        pytest.skip("mounting a small disk takes root on Linux")
    assert found(driver, "--count", str(FULL[driver]))[driver] >= max(FULL[driver], 100)
