"""A run may be killed at any moment: it resumes, and ends as if it had not been."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("kills", [3, pytest.param(50, marks=pytest.mark.slow)])
def test_a_run_that_is_killed_again_and_again_ends_as_one_that_was_not(kills):
    command = [sys.executable, "-m", "tests.kill_often", "--kills", str(kills), "--seed", "1"]
    surroundings = os.environ | {"OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, cwd=ROOT, env=surroundings, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    first, second = ended.stdout.splitlines()
    assert first.startswith(f"killed {kills} times") and second.endswith("those of the undisturbed run")
    on_record = {int(number) for number in first.partition("with ")[2].partition(" updates")[0].split(", ")}
    assert len(on_record) > 1, "all kills fell into the same moment, so they prove nothing"
