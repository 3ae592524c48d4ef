"""Kernels in several threads: the same numbers, in torch's threads or in our own, and each error as itself."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from types import SimpleNamespace

import pytest
import torch

from tests.common import LAYERS, build, normal, spikes
from tests.kernel_cases import INPUTS, SETUPS, assert_equal, case, scanned
from tracetorch.backends import cpu, reference
from tracetorch.backends.cpu import threads
from tracetorch.nn import LI

PARTS = 3


@pytest.fixture(params=["openmp", "own"])
def pool(request, monkeypatch):
    """Three threads, however little there is to do."""
    before = torch.get_num_threads()
    monkeypatch.setattr(threads, "SERIAL", 1)
    torch.set_num_threads(PARTS)
    if request.param == "own":
        monkeypatch.setattr(threads, "_openmp", lambda: None)
    elif threads._openmp() is None:
        assert sys.platform != "linux"
        pytest.skip("torch has no OpenMP library here")
    yield request.param
    torch.set_num_threads(before)


def test_every_sample_is_in_one_part_and_in_no_other(pool, monkeypatch):
    for batch in (1, 2, 3, 7):
        parts = threads.parallel_for(lambda first, last, by: [by * at for at in range(first, last)], batch, 99, 2)
        assert len(parts) == min(batch, PARTS) and all(parts)
        assert [sample for part in parts for sample in part] == [2 * at for at in range(batch)]
    monkeypatch.setattr(threads, "SERIAL", 100)  # little work stays in this thread
    assert threads.parallel_for(lambda first, last: (first, last), 50, 99) == [(0, 50)]


def test_a_smaller_team_of_threads_runs_all_parts(monkeypatch):
    """OpenMP may give fewer threads, such as inside another region; here 2 of them, one after the other."""

    def parallel(self, member, _data, number, _flags):
        assert number == 5
        for library.number in range(2):
            member(None)

    library = SimpleNamespace(GOMP_parallel=type("Function", (), {"__call__": parallel})())
    library.omp_get_thread_num, library.omp_get_num_threads = lambda: library.number, lambda: 2
    monkeypatch.setattr(threads, "_openmp_library", lambda: library)
    done = []
    threads._openmp.__wrapped__()(done.append, 5)
    assert sorted(done) == [0, 1, 2, 3, 4]
    monkeypatch.setattr(threads, "_openmp_library", lambda: None)
    assert threads._openmp.__wrapped__() is None


@pytest.mark.parametrize(("kind", "neuron"), [(kind, ("lif", "lis")[at % 2]) for at, kind in enumerate(INPUTS)])
def test_a_scan_in_several_threads_gives_the_same_bits(pool, kind, neuron, monkeypatch):
    found, fired = [], []
    for serial in (1, 1 << 30):
        monkeypatch.setattr(threads, "SERIAL", serial)
        mine = case(neuron, INPUTS[kind](6, 7, 6), SETUPS["all"], torch.float32)
        found.append(scanned(cpu, mine))
        fired.append(mine.out.fired)
    assert_equal(*found)
    assert fired[0] == fired[1]
    if "draws" in kind:
        monkeypatch.setattr(threads, "SERIAL", 1)
        draws = INPUTS[kind](50, 7, 21)
        assert torch.equal(cpu.spikes(draws), reference.spikes(draws))


def test_an_error_is_raised_after_all_parts_have_ended(pool):
    def kernel(first, last):
        if first == 1:
            raise LookupError(f"sample {first}")
        done.append(first)

    done = []
    with pytest.raises(LookupError, match="sample 1"):
        threads.parallel_for(kernel, PARTS, 99)
    assert sorted(done) == [0, 2]


def test_parts_that_were_not_run_are_an_interruption(monkeypatch):
    """Ctrl-C between two parts, where no handler can raise."""
    monkeypatch.setattr(threads, "SERIAL", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(threads, "_openmp", lambda: lambda body, parts: body(0))
    with pytest.raises(KeyboardInterrupt):
        threads.parallel_for(lambda first, last: None, 2, 99)


def test_a_user_may_flush_subnormal_numbers_everywhere():
    torch.set_flush_denormal(True)
    try:
        LI(3, 2).run(torch.ones(4, 1, 3))
        assert float("5e-324") * 1.0 == 0
    finally:
        torch.set_flush_denormal(False)


def test_networks_in_parallel_threads_give_the_same_results(pool, monkeypatch):
    nets = [build(row) for row in LAYERS if row.name in ("LIF-groups-bias", "LIS", "network")]
    together = Barrier(len(nets))

    def use(net) -> list[torch.Tensor]:
        xs, signal = spikes(steps=8), normal(3, 4)
        outputs = [net.run(xs, chunk=5)]
        together.wait(timeout=60)
        for x in xs:
            outputs += [net(x), net.run(xs[:3], reduce="mean")]
        return [*outputs, net.backward(signal), *net.save_state().values()]

    with ThreadPoolExecutor(len(nets)) as executor:
        at_once = list(executor.map(use, nets))
    monkeypatch.setattr(together, "wait", lambda timeout: 0)
    for net, results in zip(nets, at_once, strict=True):
        net.reset()
        assert all(map(torch.equal, results, use(net)))


def test_threads_null_restores_the_number_that_torch_chose():
    code = "import torch; from tracetorch.device import use_threads; torch.set_num_threads(3)\n"
    code += "use_threads(1); one = torch.get_num_threads(); use_threads(None); print(one, torch.get_num_threads())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "1 3\n"
