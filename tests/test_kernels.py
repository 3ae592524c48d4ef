"""Draws and currents are the same on every kernel; and nothing breaks where a kernel is missing."""

from __future__ import annotations

import builtins
import logging
from types import SimpleNamespace

import pytest
import torch

from tests.kernel_cases import (
    BATCH,
    FLOATS,
    IN,
    INPUTS,
    KERNELS,
    ONLY_TRITON,
    SETUPS,
    STEPS,
    TRACES,
    case,
    drawn,
    expected,
    over,
    same,
)
from tracetorch.backends import LazySpikes, OutputSpec, SynapticInput, TraceBuffers, cpu, dispatch, reference, rng
from tracetorch.backends.dispatch import Traits

SIZE = (STEPS, BATCH, IN)
CPU_WEIGHT = torch.ones(2, 3)


# ── draws ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def spikes_of(kernels, draws: LazySpikes) -> torch.Tensor:
    moved = draws._replace(limit=draws.limit.to(kernels.device), samples=draws.samples.to(kernels.device))
    return kernels.module.spikes(moved).cpu()


@over(
    size=[(1, 1, 1), (5, 2, 6), (3, 2, 131)],
    seed=[0, 7, -3, 2**63 + 11],
    varying=[False, True],
    dtype=[torch.bool, torch.float32, torch.float64, torch.bfloat16],
)
def test_draws(kernels, size, seed, varying, dtype):
    draws = drawn(*size, varying=varying, rate=0.4)._replace(seed=seed, dtype=dtype)
    spikes = spikes_of(kernels, draws)
    assert spikes.shape == size and spikes.dtype == dtype
    assert torch.equal(spikes, reference.spikes(draws))
    assert size == (1, 1, 1) or 0.1 < spikes.double().mean() < 0.9


@KERNELS
@pytest.mark.parametrize("off", [-1, 0, 1])
def test_a_limit_next_to_its_number_is_settled_by_the_tail(kernels, off):
    """The number, its head alone, and the first with the next head: where a shortcut by heads could go wrong."""
    samples, channels = torch.arange(4), 21
    numbers = rng.numbers(3, range(2), samples, channels)
    for near in (numbers, numbers >> 16 << 16, (numbers >> 16) + 1 << 16):
        limit = (near + off).clamp(0, 1 << 24)
        for limits, steps in ((limit, 2), (limit[0], 1)):  # those that change, and those that stay
            draws = LazySpikes(limits, 3, range(steps), samples, torch.bool)
            assert torch.equal(spikes_of(kernels, draws), (numbers < limit)[:steps])


@KERNELS
def test_only_steps_that_follow_one_another_are_drawn(kernels):
    with pytest.raises(ValueError, match="consecutive"):
        spikes_of(kernels, drawn()._replace(steps=range(0, 2 * STEPS, 2)))


@KERNELS
def test_draws_leave_their_limits_and_names_as_they_were(kernels):
    draws, kept = drawn(varying=True), drawn(varying=True)
    spikes_of(kernels, draws)
    assert torch.equal(draws.limit, kept.limit) and torch.equal(draws.samples, kept.samples)


# ── currents, for a neuron without a kernel ─────────────────────────────────────────────────────────────────────────


@over(kind=INPUTS, trace=TRACES, precision=[None, torch.bfloat16], dtype=FLOATS)
def test_currents_and_the_trace_they_leave(kernels, kind, trace, precision, dtype):
    how = SETUPS["total"]._replace(trace=trace, bias=trace == "one")
    theirs = case("li", INPUTS[kind](*SIZE), how, dtype)
    mine = case("li", INPUTS[kind](*SIZE), how, dtype, device=kernels.device, precision=precision)
    made, wanted = kernels.module.currents(mine.synaptic).cpu(), reference.currents(theirs.synaptic)
    assert made.dtype == dtype and torch.equal(made, wanted)
    same(mine.written(), theirs.written())


@KERNELS
def test_more_neurons_than_a_softmax_in_one_program_can_hold(kernels):
    size, options = (2, 1, 3), {"neurons": 4097}
    wanted = expected("lis", INPUTS["real"](*size), SETUPS["outputs"], torch.float32, **options)
    mine = case("lis", INPUTS["real"](*size), SETUPS["outputs"], torch.float32, device=kernels.device, **options)
    kernels.module.scan_neurons("lis", mine.synaptic, mine.membrane, mine.constants, mine.out)
    for name, value in mine.written().items():
        torch.testing.assert_close(value, wanted[name])


@ONLY_TRITON
def test_no_launch_lets_triton_fuse_a_product_and_a_sum(kernels, monkeypatch):
    """The interpreter would not; on a GPU the bits would be others. What it compiles to is in test_triton.py."""
    launches = []

    class Spy:
        def __init__(self, name):
            self.name, self.kernel = name, getattr(kernels.module, name)

        def __getitem__(self, grid):
            return lambda *args, **options: (launches.append((self.name, options)), self.kernel[grid](*args, **options))

    names = {"trace_kernel", "spikes_kernel", "scan_kernel"}
    for name in names:
        monkeypatch.setattr(kernels.module, name, Spy(name))
    mine = case("lif", drawn(), SETUPS["all"], torch.float32, device=kernels.device)
    kernels.module.scan_neurons("lif", mine.synaptic, mine.membrane, mine.constants, mine.out)
    assert {name for name, _ in launches} == names
    assert all(options == {"enable_fp_fusion": False} for _, options in launches)


# ── which kernel runs ───────────────────────────────────────────────────────────────────────────────────────────────


def run(dtype: torch.dtype = torch.float32) -> list[float]:
    """Spikes of one neuron with steady input 1, decay .5 and threshold 1.6, through the dispatch."""
    one, half, threshold = (torch.tensor(value, dtype=dtype) for value in (1.0, 0.5, 1.6))
    out = OutputSpec(outputs=torch.empty(3, 1, 1, dtype=dtype))
    synaptic = SynapticInput(
        one.expand(3, 1, 1), one.expand(1, 1), None, dtype, TraceBuffers(one.expand(1, 1).clone(), half)
    )
    dispatch.scan("lif", synaptic, torch.zeros(1, 1, dtype=dtype), (half, threshold), out)
    assert float(synaptic.trace.values) == 1.875
    return out.outputs.flatten().tolist()


def test_a_dtype_without_a_kernel_takes_the_reference():
    assert run() == run(torch.bfloat16) == [0, 0, 1]
    weight = CPU_WEIGHT
    assert dispatch._backend(weight) is cpu and dispatch._backend(weight.bfloat16()) is reference


def traits(weight=CPU_WEIGHT, *, neuron="lif", form="weight", precision=None):
    return Traits(neuron, form, weight, precision or weight.dtype)


def test_one_step_is_compiled_for_a_kernel_and_a_weight_of_its_own_dtype():
    assert dispatch.one_step(traits()) == "compiled"
    others = [
        traits(neuron=None), traits(form="computed"), traits(form="module"), traits(precision=torch.bfloat16),
        traits(CPU_WEIGHT.bfloat16()), traits(CPU_WEIGHT.to("meta")),
    ]  # fmt: skip
    assert [dispatch.one_step(other) for other in others] == ["chunk"] * len(others)


def test_one_step_on_cuda_is_a_graph_if_nothing_is_called_for_it():
    weight = SimpleNamespace(is_cuda=True, dtype=torch.float32)
    found = [dispatch.one_step(Traits("li", form, weight, torch.bfloat16)) for form in ("weight", "computed", "module")]
    assert found == ["graph", "graph", "chunk"]
    assert dispatch.one_step(Traits(None, "weight", weight, torch.float32)) == "chunk"


def test_spikes_travel_as_bool_to_a_kernel_that_lists_them_and_else_ready_for_the_product():
    assert dispatch.spike_dtype(traits(precision=torch.bfloat16)) == torch.bool
    assert dispatch.spike_dtype(traits(CPU_WEIGHT.bfloat16())) == torch.bfloat16
    assert dispatch.spike_dtype(traits(CPU_WEIGHT.to("meta"))) == torch.float32
    assert dispatch.spike_dtype(traits(form="module", precision=torch.bfloat16)) == torch.float32


@pytest.fixture
def without(monkeypatch, caplog):
    """A function that makes one module of kernels impossible to import, for as long as the test lasts."""
    finders, real_import = (dispatch._numba, dispatch._triton), builtins.__import__

    def forget():
        for finder in finders:
            finder.cache_clear()

    def make_missing(missing):
        def fails(name, *args, **kwargs):
            if name == "tracetorch.backends" and missing in (args[2] or ()):
                raise ImportError(f"no {missing} here")
            return real_import(name, *args, **kwargs)

        monkeypatch.setattr(builtins, "__import__", fails)

    forget()
    with caplog.at_level(logging.WARNING, logger="tracetorch"):
        yield make_missing
    monkeypatch.undo()
    forget()


def test_without_numba_the_reference_runs_and_one_line_says_so(without, caplog):
    without("cpu")
    for _ in range(3):
        assert run() == [0, 0, 1]
        assert torch.equal(dispatch.spikes(drawn()), reference.spikes(drawn()))
    assert dispatch.names()["cpu"].startswith("torch")
    assert dispatch.spike_dtype(traits()) == torch.float32
    assert dispatch.one_step(traits()) == "chunk"
    wanted = "numba is missing (no cpu here): the slower torch kernels run instead"
    assert [record.message for record in caplog.records] == [wanted]


def test_without_triton_the_reference_runs_on_a_gpu_and_one_line_says_so(without, caplog, monkeypatch):
    without("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for _ in range(3):
        assert dispatch._of(torch.device("cuda")) is None
    assert dispatch.names() == {
        "cpu": "numba", "cuda": "torch (install triton for speed)", "other devices": "torch"
    }  # fmt: skip
    wanted = "triton is missing (no cuda here): the slower torch kernels run instead"
    assert [record.message for record in caplog.records] == [wanted]


def test_no_kernel_is_known_for_another_device():
    assert dispatch._of(torch.device("meta")) is None and dispatch._of(torch.device("cpu")) is cpu
    assert dispatch.names()["cpu"] == "numba"
