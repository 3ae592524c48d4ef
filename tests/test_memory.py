"""Nothing grows with time: as many tensors after 10,000 steps as after 100, and the same peak for ten times the steps."""

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import tracetorch as tt
from tests.common import BATCH, IN, LAYERS, OUT, Net, Row, build, each, spikes
from tracetorch.nn import LIF, LIS, Sequential


def live() -> tuple[int, int]:
    """How many tensors there are, and how many numbers they hold."""
    gc.collect()
    tensors = [thing for thing in gc.get_objects() if issubclass(type(thing), torch.Tensor)]
    return len(tensors), sum(tensor.numel() for tensor in tensors)


def train(net: Net, steps: int, every: int) -> None:
    xs, target, size = spikes().float(), torch.zeros(BATCH, dtype=torch.int64), len(spikes())
    for step in range(steps):
        output = net(xs[step % size])
        if step % every == every - 1:
            net.backward(tt.loss.mse(output, target)[1])


def test_as_many_tensors_after_10_000_steps_as_after_100():
    torch.manual_seed(0)
    net = Sequential(LIF(IN, 8), LIS(8, OUT))
    train(net, 100, every=20)
    early = live()
    train(net, 9_900, every=20)
    assert live() == early


@each([row for row in LAYERS if row.learned])
def test_as_many_tensors_after_each_further_stretch(row: Row):
    net = build(row, dtype=torch.float32)
    train(net, 10, every=5)
    early = live()
    train(net, 90, every=5)
    assert live() == early


def test_a_stream_holds_nothing_of_what_it_made():
    stream = tt.encode.poisson(torch.full((BATCH, IN), 0.3), 10_000)
    early = live()
    for chunk in stream.chunks(100):
        assert len(chunk) == 100
    del chunk
    assert live() == early


PEAKS = """
from pathlib import Path
import torch, tracetorch as tt
torch.set_num_threads(1)
batch, hidden, chunk, short, long = {batch}, {hidden}, {chunk}, {short}, {long}
net = tt.nn.Sequential(tt.nn.LIF(8, hidden), tt.nn.LIS(hidden, {out}))
for steps in (2, short, long):
    net.reset()
    xs = tt.encode.{encode}(torch.full((batch, 8), .3), steps)
    mean = net.run(xs, reduce="mean", chunk=chunk)
    net.backward(torch.ones_like(mean))
    print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
"""


def growth(**setting: object) -> float:
    """MiB by which the peak of a long run exceeds that of a short one before it, in a process of their own.

    The peak is read from /proc, because `ru_maxrss` of a new process starts at the peak of the one that started it. Every
    tensor of a chunk gets pages of its own, so that the allocator's habit of keeping freed memory does not blur it.
    """
    if not Path("/proc/self/status").exists():
        pytest.skip("reads the peak memory of a process from /proc")
    setting = {"batch": 1, "hidden": 8, "out": 2, "chunk": None, "encode": "poisson"} | setting
    command = [sys.executable, "-c", PEAKS.format(**setting)]
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    printed = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    _, short, long = map(int, printed.split())
    return (long - short) / 1024


def test_the_same_peak_for_ten_full_chunks_as_for_three():
    # Kept whole, seven more chunks of 2048 steps and batch 64 would take 28 MiB for the input, and 28 for each layer.
    assert growth(batch=64, out=8, short=3 * 2048, long=10 * 2048) < 1


def test_the_same_peak_at_100_and_at_100_000_steps():
    # Kept whole, 100,000 steps of 8 channels would take 3 MiB for the input, and 3 for each layer.
    assert growth(chunk=100, short=100, long=100_000, encode="constant") < 0.5


def test_the_same_peak_for_a_small_network_with_the_default_chunk():
    assert growth(short=100, long=10_000) < 2
