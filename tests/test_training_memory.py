"""What training takes of memory, beside what the process has anyway."""

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
from tracetorch.memory import TrainingMemory, costs, peak_memory_bytes

ROOT = Path(__file__).parents[1]
CPU, MIB = torch.device("cpu"), 2**20
LINUX = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the system does not tell")


def take(mebibytes):
    """Memory in one piece, which goes back to the system when it is let go."""
    return torch.ones(mebibytes * MIB // 4)


def crumbs(mebibytes):
    """The same in small pieces, which the allocator keeps: the last one holds them up."""
    return [torch.ones(2**13) for _ in range(mebibytes * 32)]


@LINUX
def test_the_most_of_all_updates_counts_and_nothing_between_them():
    watch = TrainingMemory(CPU)
    for mebibytes in (8, 64, 16):
        with watch:
            take(mebibytes)
        take(128)
    assert 60 * MIB < watch.most < 90 * MIB


@LINUX
def test_what_was_there_before_does_not_count():
    kept = take(64)
    watch = TrainingMemory(CPU)
    with watch:
        take(8)
    assert watch.most < 32 * MIB
    assert len(kept)


HIDE = """
import sys
from tests.test_training_memory import CPU, TrainingMemory, crumbs

if sys.argv[1] == "before":
    crumbs(96)[-1:]
watch = TrainingMemory(CPU)
if sys.argv[1] == "between":
    with watch:
        pass
    last = crumbs(96)[-1:]
with watch:
    crumbs(96)
print(watch.most)
"""


@LINUX
@pytest.mark.parametrize("when", ["before", "between"])
def test_what_lies_free_is_no_place_to_hide(when):
    """In a process of its own: one that has run a thousand tests has holes everywhere, which cannot be given back."""
    done = subprocess.run([sys.executable, "-c", HIDE, when], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 80 * MIB


@LINUX
def test_the_peak_of_the_process_is_that_of_all_times():
    take(256)
    before = peak_memory_bytes(CPU)
    with TrainingMemory(CPU):
        pass
    assert peak_memory_bytes(CPU) >= before > memory._peak(CPU)


@pytest.mark.parametrize("broken", ["_STATUS", "_REFERENCES"])
def test_where_the_system_does_not_tell_nothing_is_said(broken, monkeypatch, tmp_path):
    monkeypatch.setattr(memory, broken, tmp_path / "nowhere")
    run = train(tmp_path)
    assert "training_memory_bytes" not in run.summary and run.summary["peak_memory_bytes"] > MIB


def test_a_peak_that_may_not_be_reset_is_not_believed(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_REFERENCES", tmp_path)  # a folder is there, and cannot be written
    watch = TrainingMemory(CPU)
    with watch:
        take(8)
    assert watch.most is None


@pytest.mark.parametrize(
    ("updates", "seconds", "expected"),
    [(4, 2.0, {"update_seconds": 0.5}), (0, 2.0, {}), (None, None, {}), (3, None, {})],
)
def test_what_is_not_known_is_left_out(updates, seconds, expected):
    assert costs(updates, seconds, None) == expected


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
