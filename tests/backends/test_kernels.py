"""Draws and currents are the same on every kernel; and nothing breaks where a kernel is missing."""

import builtins
import logging
from types import SimpleNamespace

import pytest
import torch

from tests.kernel_cases import (
    BATCH,
    IN,
    INPUTS,
    KERNELS,
    SETUPS,
    STEPS,
    TRACES,
    assert_equal,
    case,
    drawn,
    expected,
    on_kernels,
)
from tracetorch.backends import LazySpikes, OutputSpec, SynapticInput, TraceBuffers, cpu, dispatch, reference, rng
from tracetorch.backends.dispatch import Traits

SIZE = (STEPS, BATCH, IN)


def spikes_of(kernels, draws: LazySpikes) -> torch.Tensor:
    limit, samples = draws.limit.to(kernels.device, copy=True), draws.samples.to(kernels.device, copy=True)
    spikes = kernels.module.spikes(draws._replace(limit=limit, samples=samples)).cpu()
    assert torch.equal(limit.cpu(), draws.limit) and torch.equal(samples.cpu(), draws.samples)
    return spikes


@on_kernels(
    size=[(1, 1, 1), (5, 2, 6), (3, 2, 131)],
    seed=[0, -3, 2**63 + 11],
    varying=[False, True],
    dtype=[torch.bool, torch.float32, torch.float64, torch.bfloat16],
)
def test_drawn_spikes_equal_the_reference(kernels, size, seed, varying, dtype):
    draws = drawn(*size, varying=varying, rate=0.4)._replace(seed=seed, dtype=dtype)
    spikes = spikes_of(kernels, draws)
    assert spikes.shape == size and spikes.dtype == dtype
    assert torch.equal(spikes, reference.spikes(draws))
    assert size == (1, 1, 1) or 0.1 < spikes.double().mean() < 0.9


@KERNELS
def test_limits_next_to_the_drawn_number(kernels):
    """The number, its head alone, and the first with the next head: where a shortcut by heads could go wrong."""
    samples, numbers = torch.arange(4), rng.numbers(3, range(2), torch.arange(4), 21)
    for near in (numbers, numbers >> 16 << 16, (numbers >> 16) + 1 << 16):
        for off in (-1, 0, 1):
            limit = (near + off).clamp(0, 1 << 24)
            for limits, steps in ((limit, 2), (limit[0], 1)):  # those that change, and those that stay
                draws = LazySpikes(limits, 3, range(steps), samples, torch.bool)
                assert torch.equal(spikes_of(kernels, draws), (numbers < limit)[:steps])
    with pytest.raises(ValueError, match="consecutive"):
        spikes_of(kernels, drawn()._replace(steps=range(0, 2 * STEPS, 2)))


@on_kernels(kind=INPUTS, precision=[None, torch.bfloat16], dtype=[torch.float32, torch.float64])
def test_currents_and_traces_for_a_neuron_without_a_kernel(kernels, kind, precision, dtype):
    for trace in TRACES:
        how = SETUPS["total"]._replace(trace=trace, bias=trace == "one")
        theirs = case("li", INPUTS[kind](*SIZE), how, dtype)
        mine = case("li", INPUTS[kind](*SIZE), how, dtype, device=kernels.device, precision=precision)
        made, wanted = kernels.module.currents(mine.synaptic).cpu(), reference.currents(theirs.synaptic)
        assert made.dtype == dtype and torch.equal(made, wanted), trace
        assert_equal(mine.results(), theirs.results())


@KERNELS
def test_a_softmax_over_more_neurons_than_one_program_holds(kernels):
    how = "lis", INPUTS["real"](2, 1, 3), SETUPS["outputs"], torch.float32
    mine = case(*how, neurons=4097, device=kernels.device)
    kernels.module.scan_neurons("lis", mine.synaptic, mine.membrane, mine.constants, mine.out)
    torch.testing.assert_close(mine.results(), expected(*how, neurons=4097))


def run(dtype: torch.dtype = torch.float32) -> list[float]:
    """Spikes of one neuron with steady input 1, decay .5 and threshold 1.6, through the dispatch."""
    one, half, threshold = (torch.tensor(value, dtype=dtype) for value in (1.0, 0.5, 1.6))
    out, trace = OutputSpec(outputs=torch.empty(3, 1, 1, dtype=dtype)), TraceBuffers(one.expand(1, 1).clone(), half)
    synaptic = SynapticInput(one.expand(3, 1, 1), one.expand(1, 1), None, dtype, trace)
    dispatch.scan("lif", synaptic, torch.zeros(1, 1, dtype=dtype), (half, threshold), out)
    assert float(trace.values) == 1.875
    return out.outputs.flatten().tolist()


CPU, FLOAT, BFLOAT, CUDA = torch.ones(2, 3), torch.float32, torch.bfloat16, SimpleNamespace(is_cuda=True)
CHOICES = [
    (Traits("lif", "weight", CPU, FLOAT), "compiled", torch.bool),
    (Traits("lif", "weight", CPU, BFLOAT), "chunk", torch.bool),
    (Traits("lif", "weight", CPU.bfloat16(), BFLOAT), "chunk", BFLOAT),
    (Traits("lif", "weight", CPU.to("meta"), FLOAT), "chunk", FLOAT),
    (Traits(None, "weight", CPU, FLOAT), "chunk", torch.bool),
    (Traits("lif", "computed", CPU, FLOAT), "chunk", torch.bool),
    (Traits("lif", "module", CPU, BFLOAT), "chunk", FLOAT),
    (Traits("li", "weight", CUDA, BFLOAT), "graph", None),
    (Traits("li", "computed", CUDA, BFLOAT), "graph", None),
    (Traits("li", "module", CUDA, BFLOAT), "chunk", None),
    (Traits(None, "weight", CUDA, FLOAT), "chunk", None),
]
"""A layer, how one step is taken, and the dtype in which spikes come to it."""


def test_the_choice_of_code_for_a_layer():
    assert run() == run(BFLOAT) == [0, 0, 1]
    assert dispatch._backend(CPU) is cpu and dispatch._backend(CPU.bfloat16()) is reference
    assert dispatch._of(torch.device("meta")) is None and dispatch.names()["cpu"] == "numba"
    assert [one for one, step, _ in CHOICES if dispatch.one_step(one) != step] == []
    assert [one for one, _, dtype in CHOICES if dtype is not None and dispatch.spike_dtype(one) != dtype] == []


@pytest.mark.parametrize(("missing", "name"), [("cpu", "numba"), ("cuda", "triton")])
def test_without_kernels_the_reference_runs_with_one_warning(missing, name, caplog, monkeypatch):
    def fails(name, *args, **kwargs):
        if name == "tracetorch.backends" and missing in (args[2] or ()):
            raise ImportError(f"no {missing} here")
        return real_import(name, *args, **kwargs)

    real_import, finders = builtins.__import__, (dispatch._numba, dispatch._triton)
    with caplog.at_level(logging.WARNING, logger="tracetorch"), monkeypatch.context() as patch:
        patch.setattr(builtins, "__import__", fails)
        [finder.cache_clear() for finder in finders]
        for _ in range(3):
            assert dispatch._of(torch.device(missing)) is None and run() == [0, 0, 1]
            assert torch.equal(dispatch.spikes(drawn()), reference.spikes(drawn()))
        if missing == "cpu":
            assert dispatch.spike_dtype(CHOICES[0][0]) == FLOAT and dispatch.one_step(CHOICES[0][0]) == "chunk"
        patch.setattr(torch.cuda, "is_available", lambda: missing == "cuda")
        assert dispatch.names()[missing] == f"torch (install {name} for speed)"
    [finder.cache_clear() for finder in finders]
    wanted = f"{name} is missing (no {missing} here): the slower torch kernels run instead"
    assert [record.message for record in caplog.records] == [wanted]
