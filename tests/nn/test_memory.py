"""Memory does not grow with time: neither the number of tensors, nor the peak of a run."""

import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import tracetorch as tt
from tests.common import BATCH, LAYERS, Net, build, each, spikes
from tracetorch.nn.network import MAX_CHUNK


def tensors_in_memory() -> tuple[int, int]:
    """How many tensors there are, and how many numbers they hold."""
    gc.collect()
    tensors = [thing for thing in gc.get_objects() if issubclass(type(thing), torch.Tensor)]
    return len(tensors), sum(tensor.numel() for tensor in tensors)


def train(net: Net, steps: int) -> None:
    xs, target, size = spikes().float(), torch.zeros(BATCH, dtype=torch.int64), len(spikes())
    for step in range(steps):
        output = net(xs[step % size])
        if step % 5 == 4:
            net.backward(tt.loss.mse(output.detach(), target)[1])


@each([row for row in LAYERS if row.name in ("LIF-groups-bank", "LIF-free-trace-per-input", "own", "network")])
def test_the_number_of_tensors_does_not_grow_with_time(row):
    net = build(row, dtype=torch.float32)
    gc.freeze()  # counts only what is new
    train(net, 100)
    early = tensors_in_memory()
    train(net, 9_900 if row.name == "network" else 100)
    assert tensors_in_memory() == early
    gc.unfreeze()


FEW = {"batch": 64, "steps": (320, 3200), "most": 5}  # graphs leave more to the allocator
SETTINGS = {
    "100 and 100,000 steps": {"batch": 1, "steps": (100, 100_000), "most": 1},
    "3 and 20 full chunks": {"batch": 64, "steps": (3 * MAX_CHUNK, 20 * MAX_CHUNK), "most": 1},
    "5 and 50 chunks of OTTT": {"rule": "OTTT"} | FEW,
    "5 and 50 chunks of CoarseBPTT": {"rule": "CoarseBPTT"} | FEW,
    "5 and 50 chunks of EProp": {"rule": "EProp"} | FEW,
    "5 and 50 chunks of OTPE": {"rule": "OTPE"} | FEW,
    "5 and 50 chunks of STLLR": {"rule": "STLLR"} | FEW,
}
"""Kept whole, the further steps would take 3, 34 and, of rules, 6 MiB for the input, and as much for each layer."""

PEAKS = """
import json, sys
from pathlib import Path
import torch, tracetorch as tt
torch.set_num_threads(1)
net = tt.nn.Sequential(tt.nn.LIF(8, 8), tt.nn.LIS(8, 8))
def peak(steps, batch, rule="Trace"):
    Path("/proc/self/clear_refs").write_bytes(b"5")  # the peak starts again from here
    learner = getattr(tt.rules, rule)(net)
    learner.reset()
    mean = learner.forward(tt.encode.poisson(torch.full((batch, 8), .3), steps), reduce="mean")
    learner.backward(torch.ones_like(mean))
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
def growth(steps, most, **setting):
    peak(steps[0], **setting)  # what is allocated once is there after the first run
    for _ in range(3):  # the system may add to any
        short, long = (peak(each, **setting) for each in steps)
        if long - short < 1024 * most:
            break
    return (long - short) / 1024
print(json.dumps({name: growth(**setting) for name, setting in json.loads(sys.argv[1]).items()}))
"""
"""MiB by which the peak of a long run exceeds that of a short one before it."""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads the peak memory of a process from /proc")
def test_the_peak_memory_does_not_grow_with_the_length_of_a_run():
    """In one process, where large tensors get pages of their own: what the allocator keeps does not blur it."""
    command = [sys.executable, "-c", PEAKS, json.dumps(SETTINGS)]
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    growths = json.loads(subprocess.run(command, check=True, capture_output=True, env=environment).stdout)
    assert {name: growths[name] for name, setting in SETTINGS.items() if growths[name] >= setting["most"]} == {}
