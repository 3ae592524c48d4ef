"""A run that plays Gymnasium is killed with SIGKILL within its episodes: it resumes, and ends as if it had not been."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.command_line import tracetorch
from tracetorch.runs import RunFolder
from tracetorch.runs.same import difference

pytest.importorskip("gymnasium", reason="the extra rl is not installed")

ROOT = Path(__file__).parents[1]
WORDS = (
    *("run", "experiment=cartpole", "rule=three_factor", "rule.decay=0.8"),  # which has most to remember
    *("device=cpu", "threads=1", "network.hidden=[8]", "train.figures=false"),
    *("task.lanes=4", "task.steps=4", "task.encoding=poisson", "task.test_episodes=3", "task.validation_episodes=2"),
    *("train.updates=60", "train.log_every=7", "train.eval_every=20", "train.checkpoint_seconds=1e9"),
)
KILLED_AT = 37  # after records that the checkpoint of update 20 does not know
KILL = """
import os, signal, sys
from tracetorch.cli.main import app
from tracetorch.runs import Run

def progress(run, done, total, **values):
    if done == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)

Run.progress = progress
app(sys.argv[2:])
"""


def test_a_run_that_was_killed_ends_as_one_that_was_not(tmp_path):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    result = tracetorch(*WORDS, f"output.dir={whole}")
    assert result.exit_code == 0, result.stderr

    command = [sys.executable, "-c", KILL, str(KILLED_AT), *WORDS, f"output.dir={stopped}"]
    surroundings = os.environ | {"OMP_NUM_THREADS": "1"}
    killed = subprocess.run(command, cwd=ROOT, env=surroundings, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert RunFolder(stopped).facts()["status"] == "running"
    assert RunFolder(stopped).records()[-1]["update"] == 35
    checkpoint = torch.load(RunFolder(stopped).checkpoint("latest"), weights_only=True)
    assert checkpoint["update"] == 20
    assert int(checkpoint["parts"]["task"]["lengths"].sum()) > 0, "no lane was within an episode: this proves little"

    result = tracetorch("resume", str(stopped))
    assert result.exit_code == 0, result.stderr
    assert not difference(RunFolder(whole), RunFolder(stopped))
    assert (stopped / "trials.csv").read_bytes() == (whole / "trials.csv").read_bytes()
    ends = [torch.load(RunFolder(folder).checkpoint("latest"), weights_only=True) for folder in (stopped, whole)]
    assert all(end["parts"].pop("log") for end in ends)  # it knows how long all took
    for part in ("state", "optimizer", "parts"):
        assert str(ends[0][part]) == str(ends[1][part])
    facts = RunFolder(stopped).facts()
    assert facts["status"] == "completed" and len(facts["resumed"]) == 1
