"""The memory that training needs, beyond that of the process.

Each measurement runs in a process of its own, alone: one that has run a thousand tests has holes everywhere, which
cannot be given back. What counts is memory in use, which does not depend on how busy the machine is.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.command_line import CLICKS
from tests.tiny_training import train
from tracetorch import memory
from tracetorch.memory import TrainingMemory, costs

ROOT = Path(__file__).parents[2]
MIB = 2**20
LINUX = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the system does not tell")

MEASURE = """
import torch
from tracetorch import memory
cpu, MIB = torch.device("cpu"), 2**20
def take(mebibytes):  # in one piece, which goes back to the system when it is let go
    return torch.ones(mebibytes * MIB // 4)
def crumbs(mebibytes):  # in small pieces, which the allocator keeps: the last one holds them up
    return [torch.ones(2**13) for _ in range(mebibytes * 32)]
def measure(*steps):
    watch = memory.TrainingMemory(cpu)
    for inside, after in steps:
        with watch:
            inside()
        kept.append(after())
    return watch.most / MIB
nothing, kept = (lambda: None), []
"""
CASES = {  # what is done first, what is measured, and its bounds in MiB
    "what was there before, and between two updates": (
        "kept.append(take(64))",
        "measure(*[(lambda: take(8), lambda: len(take(128))), (lambda: take(64), nothing)])",
        (60, 90),
    ),
    "what lies free before": ("kept += crumbs(96)[-1:]", "measure((lambda: crumbs(96), nothing))", (80, 120)),
    "what lies free between": (
        "",
        "measure((nothing, lambda: crumbs(96)[-1:]), (lambda: crumbs(96), nothing))",
        (80, 120),
    ),
    "a peak before": (
        "take(256); peak = memory.peak_memory_bytes(cpu); measure((nothing, nothing))",
        "(memory.peak_memory_bytes(cpu) - memory._peak(cpu)) / MIB if memory.peak_memory_bytes(cpu) >= peak else 0",
        (200, 300),
    ),
}


@LINUX
@pytest.mark.parametrize("case", CASES)
def test_the_memory_of_the_measured_code_is_counted_and_no_other(case):
    first, measured, (least, most) = CASES[case]
    code = f"{MEASURE}{first}\nprint({measured})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert least < float(done.stdout) < most


@pytest.mark.parametrize("broken", ["_STATUS", "_REFERENCES"])
def test_memory_is_left_out_where_the_system_does_not_report_it(broken, monkeypatch, tmp_path):
    monkeypatch.setattr(memory, broken, tmp_path / "nowhere")
    run = train(tmp_path)
    assert "training_memory_bytes" not in run.summary and run.summary["peak_memory_bytes"] > MIB


def test_a_peak_that_cannot_be_reset_and_unknown_costs_are_left_out(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_REFERENCES", tmp_path)  # a folder is there, and cannot be written
    watch = TrainingMemory(torch.device("cpu"))
    with watch:
        pass
    assert watch.most is None and costs(4, 2.0, watch) == {"update_seconds": 0.5}
    assert costs(0, 2.0, None) == costs(None, None, None) == costs(3, None, None) == {}


@LINUX
def test_the_memory_of_bptt_grows_with_time_and_that_of_the_trace_rule_does_not(tmp_path):
    words = [*CLICKS, "network.hidden=[32]", "task.batch_size=32", "train.updates=1", "threads=1", "output.dir=sweep"]
    words += ["rule=bptt,trace", "task.delay=11,22"]  # the first is longer than a chunk
    code = "import sys; from tracetorch.cli.main import main; main()"
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", code, "run", "-m", *words], check=True, cwd=tmp_path, env=environment)
    taken = {}
    for path in (tmp_path / "sweep").glob("*/run.json"):
        taken[path.parent.name[4:]] = json.loads(path.read_text())["summary"]["training_memory_bytes"] / MIB
    grown = {rule: taken[f"rule={rule},delay=22"] - taken[f"rule={rule},delay=11"] for rule in ("bptt", "trace")}
    assert grown["bptt"] > 30 > 5 * grown["trace"]
