"""Nothing grows with time: as many tensors after 10,000 steps as after 100, and the same peak for a longer run."""

import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import tracetorch as tt
from tests.common import BATCH, IN, LAYERS, OUT, Net, Row, build, each, spikes
from tracetorch.nn import LIF, LIS, Sequential
from tracetorch.nn.network import MAX_CHUNK


@pytest.fixture(autouse=True)
def _count_only_what_is_new() -> Iterator[None]:
    gc.freeze()
    yield
    gc.unfreeze()


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


SETTINGS = {
    # Kept whole, 100,000 steps of 8 channels would take 3 MiB for the input, and 3 for each layer.
    "100_and_100_000_steps": {"batch": 1, "steps": (100, 100_000)},
    # Kept whole, 17 more chunks of 1,024 steps and batch 64 would take 34 MiB for the input, and 34 for each layer.
    "three_and_twenty_full_chunks": {"batch": 64, "steps": (3 * MAX_CHUNK, 20 * MAX_CHUNK)},
    # Kept whole, 45 more chunks of 64 steps and batch 64 would take 6 MiB for the input, and 6 for each layer.
    "five_and_fifty_chunks_of_OTTT": {"batch": 64, "steps": (320, 3200), "rule": "OTTT"},
    "five_and_fifty_chunks_of_EProp": {"batch": 64, "steps": (320, 3200), "rule": "EProp"},
}
"""In the order of their peaks, so that each one shows above those before it."""

PEAKS = """
import sys
from pathlib import Path
import torch, tracetorch as tt
torch.set_num_threads(1)
net = tt.nn.Sequential(tt.nn.LIF(8, 8), tt.nn.LIS(8, 8))
def run(steps, batch, rule="Trace"):
    learner = getattr(tt.rules, rule)(net)
    learner.reset()
    mean = learner.forward(tt.encode.poisson(torch.full((batch, 8), .3), steps), reduce="mean")
    learner.backward(torch.ones_like(mean))
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
run(2, 1)
for setting in eval(sys.argv[1]):
    lengths = setting.pop("steps")
    run(lengths[0], **setting)  # what is allocated once is there after the first run
    short, long = (run(steps, **setting) for steps in lengths)
    print((long - short) / 1024)
"""


@pytest.fixture(scope="module")
def growths() -> dict[str, float]:
    """MiB by which the peak of a long run exceeds that of a short one before it, in a process of their own.

    The peak is read from /proc, because `ru_maxrss` of a new process starts at the peak of the one that started it.
    Large tensors get pages of their own, so that the allocator's habit of keeping freed memory does not blur it.
    """
    if not Path("/proc/self/status").exists():
        pytest.skip("reads the peak memory of a process from /proc")
    command = [sys.executable, "-c", PEAKS, repr(list(SETTINGS.values()))]
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    printed = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    return dict(zip(SETTINGS, map(float, printed.split()), strict=True))


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_same_peak_for(setting, growths):
    assert growths[setting] < (
        3 if "chunks_of" in setting else 1
    )  # rules that build graphs leave more to the allocator
