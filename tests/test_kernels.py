"""Every compiled kernel gives what its reference gives, to the bit; and nothing breaks where numba is missing."""

from __future__ import annotations

import builtins
import logging

import pytest
import torch

from tracetorch import kernels
from tracetorch.kernels import counter, cpu, reference

SHAPES = [(1, 1, 1), (7, 3, 5), (40, 32, 64)]
"""(time, batch, features): the last is large enough to be spread over threads."""


@pytest.fixture(params=[torch.float32, torch.float64], ids=str)
def dtype(request):
    return request.param


def normal(*shape, dtype):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)


def same(some, others):
    return all(torch.equal(a, b) for a, b in zip(some, others, strict=True))


def test_the_largest_shape_is_spread_over_threads_and_the_smallest_is_not():
    assert torch.Size(SHAPES[-1]).numel() > cpu._SERIAL > torch.Size(SHAPES[0]).numel()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("per_neuron", [False, True])
def test_lif_scan(shape, per_neuron, dtype):
    currents, membrane = normal(*shape, dtype=dtype) + 1, normal(*shape[1:], dtype=dtype)
    size = shape[2:] if per_neuron else ()
    decay, threshold = normal(*size, dtype=dtype).sigmoid(), normal(*size, dtype=dtype).exp()
    spikes, after = reference.lif_scan(currents, membrane, decay, threshold)
    assert shape == (1, 1, 1) or 0 < spikes.mean() < 1
    assert same((spikes, after), cpu.lif_scan(currents, membrane, decay, threshold))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_li_scan(shape, dtype):
    currents, membrane = normal(*shape, dtype=dtype), normal(*shape[1:], dtype=dtype)
    decay = torch.tensor(0.9, dtype=dtype)
    assert same(reference.li_scan(currents, membrane, decay), cpu.li_scan(currents, membrane, decay))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("groups", [0, 3])
def test_trace_scan(shape, groups, dtype):
    xs, trace = normal(*shape, dtype=dtype), normal(*(groups,) * bool(groups), *shape[1:], dtype=dtype)
    decay = normal(groups, 1, 1, dtype=dtype).sigmoid() if groups else normal(shape[2], dtype=dtype).sigmoid()
    assert torch.equal(reference.trace_scan(xs, trace, decay), cpu.trace_scan(xs, trace, decay))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("seed", [0, 7, -3, 2**63 + 11])
@pytest.mark.parametrize("varying", [False, True])
def test_draws(shape, seed, varying):
    limit = counter.limit_of(normal(*shape[0 if varying else 1 :], dtype=torch.float64).sigmoid())
    samples, steps = torch.arange(shape[1]) * 10**9 - 5, range(1_000, 1_000 + shape[0])
    expected = counter.draw_below(limit, seed, steps, samples)
    assert torch.equal(expected, cpu.draw_below(limit, seed, steps, samples))


def test_arguments_are_left_as_they_were():
    currents, membrane, decay = normal(9, 4, 5, dtype=torch.float32), torch.ones(4, 5), torch.tensor(0.5)
    before = currents.clone()
    cpu.lif_scan(currents, membrane, decay, decay)
    cpu.li_scan(currents, membrane, decay)
    cpu.trace_scan(currents, membrane, decay)
    assert torch.equal(currents, before)
    assert torch.equal(membrane, torch.ones(4, 5))


def test_views_that_are_not_contiguous():
    currents = normal(5, 6, 4, dtype=torch.float32).transpose(0, 1)
    state, decay = torch.zeros(5, 4), torch.tensor(0.9)
    assert same(reference.lif_scan(currents, state, decay, decay), cpu.lif_scan(currents, state, decay, decay))


def test_a_dtype_without_a_kernel_takes_the_reference():
    xs = torch.ones(3, 2, 4, dtype=torch.bfloat16)
    trace = kernels.trace_scan(xs, torch.zeros(2, 4, dtype=torch.bfloat16), torch.tensor(0.5, dtype=torch.bfloat16))
    assert trace.dtype == torch.bfloat16
    assert bool((trace == 1.75).all())


def test_without_numba_the_reference_runs_and_one_line_says_so(monkeypatch, caplog):
    real_import = builtins.__import__

    def no_numba(name, *args, **kwargs):
        if name == "tracetorch.kernels" and "cpu" in (args[2] or ()):
            raise ImportError("no numba here")
        return real_import(name, *args, **kwargs)

    kernels._compiled.cache_clear()
    monkeypatch.setattr(builtins, "__import__", no_numba)
    try:
        with caplog.at_level(logging.WARNING, logger="tracetorch"):
            for _ in range(3):
                spikes, _ = kernels.lif_scan(
                    torch.ones(3, 1, 1), torch.zeros(1, 1), torch.tensor(0.5), torch.tensor(1.6)
                )
        assert spikes.flatten().tolist() == [0, 0, 1]
        assert kernels.names()["cpu"].startswith("torch")
    finally:
        kernels._compiled.cache_clear()
    assert [record.message for record in caplog.records] == [
        "numba is missing (no numba here): the slower torch kernels run instead"
    ]
