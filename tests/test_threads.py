"""Kernels in several threads: the same numbers, in torch's threads or in our own, and each error as itself."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from types import SimpleNamespace

import pytest
import torch

from tests.common import LAYERS, build, normal, spikes
from tests.kernel_cases import INPUTS, NEURONS, SETUPS, case, same, scanned
from tracetorch.backends import cpu, reference
from tracetorch.backends.cpu import threads

PARTS = 3
roads = pytest.mark.parametrize("road", ["openmp", "own"])


@pytest.fixture
def several(monkeypatch):
    """Three threads, however little there is to do."""
    before = torch.get_num_threads()
    monkeypatch.setattr(threads, "SERIAL", 1)
    torch.set_num_threads(PARTS)
    yield
    torch.set_num_threads(before)


def take(road: str, monkeypatch) -> None:
    if road == "own":
        monkeypatch.setattr(threads, "_openmp", lambda: None)
    elif threads._openmp() is None:
        pytest.skip("torch has no OpenMP library here")


@roads
@pytest.mark.parametrize("batch", [1, 2, 3, 7])
def test_every_sample_is_somebody_s_and_nobody_s_twice(several, monkeypatch, road, batch):
    take(road, monkeypatch)
    parts = threads.parallel_for(lambda first, last, factor: [factor * at for at in range(first, last)], batch, 99, 2)
    assert len(parts) == min(batch, PARTS) and all(parts)
    assert [sample for part in parts for sample in part] == [2 * at for at in range(batch)]


def test_little_work_stays_in_this_thread(monkeypatch):
    monkeypatch.setattr(threads, "_openmp", lambda: pytest.fail("a second thread was asked for"))
    assert threads.parallel_for(lambda first, last: (first, last), 50, threads.SERIAL - 1) == [(0, 50)]


def test_a_team_smaller_than_asked_for_does_all_the_parts(monkeypatch):
    """OpenMP may give fewer threads, such as inside another region; here 2 of them, one after the other."""

    def parallel(member, _data, number, _flags):
        assert number == 5
        for library.number in range(2):
            member(None)

    def function(call):
        return type("Function", (), {"__call__": lambda _, *args: call(*args)})()

    library = SimpleNamespace(
        number=0,
        GOMP_parallel=function(parallel),
        omp_get_thread_num=lambda: library.number,
        omp_get_num_threads=lambda: 2,
    )
    monkeypatch.setattr(threads, "_openmp_library", lambda: library)
    done = []
    threads._openmp.__wrapped__()(done.append, 5)
    assert sorted(done) == [0, 1, 2, 3, 4]


@roads
@pytest.mark.parametrize("neuron", NEURONS)
@pytest.mark.parametrize("kind", INPUTS)
def test_a_scan_in_several_threads_gives_the_same_bits(several, monkeypatch, road, kind, neuron):
    take(road, monkeypatch)
    asked = []
    parallel_for = threads.parallel_for
    size = (6, 7, 6)
    monkeypatch.setattr(
        "tracetorch.backends.cpu.scan.parallel_for", lambda *args: asked.append(parallel_for(*args)) or asked[-1]
    )
    mine = case(neuron, INPUTS[kind](*size), SETUPS["all"], torch.float32)
    together = scanned(cpu, mine)
    assert asked and {len(results) for results in asked} == {PARTS}
    monkeypatch.setattr(threads, "SERIAL", 1 << 30)
    alone = case(neuron, INPUTS[kind](*size), SETUPS["all"], torch.float32)
    same(together, scanned(cpu, alone))
    assert mine.out.fired == alone.out.fired and {len(results) for results in asked[len(asked) // 2 :]} == {1}


@roads
@pytest.mark.parametrize("where", [0, 1, 2])
def test_an_error_comes_out_as_itself_once_all_are_done(several, monkeypatch, road, where):
    take(road, monkeypatch)
    done = []

    def kernel(first, last):
        if first == where:
            raise LookupError(f"sample {first}")
        done.append(first)

    with pytest.raises(LookupError, match=f"sample {where}"):
        threads.parallel_for(kernel, PARTS, 99)
    assert sorted(done) == sorted({0, 1, 2} - {where})


@roads
def test_draws_in_several_threads_are_the_same_draws(several, monkeypatch, road):
    take(road, monkeypatch)
    for kind in ("draws", "varying-draws"):
        draws = INPUTS[kind](50, 7, 21)
        assert torch.equal(cpu.spikes(draws), reference.spikes(draws))


@roads
def test_networks_running_at_once_do_not_disturb_one_another(several, monkeypatch, road):
    take(road, monkeypatch)
    rows = [row for row in LAYERS if row.name in ("LIF-groups-bias", "LIS", "network")]
    nets = [build(row) for row in rows]  # here, because they draw weights from one generator
    together = Barrier(len(nets))

    def use(net) -> list[torch.Tensor]:
        xs, signal = spikes(steps=8), normal(3, 4)
        outputs = [net.run(xs, chunk=5)]
        together.wait(timeout=60)
        for x in xs:
            outputs += [net(x), net.run(xs[:3], reduce="mean")]
        return [*outputs, net.backward(signal), *net.save_state().values()]

    with ThreadPoolExecutor(len(nets)) as pool:
        at_once = list(pool.map(use, nets))
    monkeypatch.setattr(together, "wait", lambda timeout: 0)
    for net, results in zip(nets, at_once, strict=True):
        net.reset()
        assert all(map(torch.equal, results, use(net)))
