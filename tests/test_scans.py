"""Every kernel does with a chunk what its reference does: the same bits, but for the softmax, which is close."""

import pytest
import torch

from tests.common import normal
from tests.kernel_cases import (
    BATCH,
    FLOATS,
    IN,
    INPUTS,
    KERNELS,
    NEURONS,
    OUT,
    SETUPS,
    STEPS,
    Case,
    Setup,
    binary,
    case,
    drawn,
    expected,
    over,
    same,
    scanned,
)
from tracetorch.backends import LazySpikes, OutputSpec, cpu, dispatch
from tracetorch.backends.cpu import scan as cpu_scan

SIZE = (STEPS, BATCH, IN)
CLOSE = {"lif": (), "li": (), "lis": ("outputs", "total", "above", "above, of it")}
"""What depends on an exponential."""


def roads(monkeypatch) -> list[str]:
    """The compiled loops that scans have taken from here on, by name."""
    taken, parallel_for = [], cpu_scan.parallel_for

    def noting(kernel, *arguments):
        taken.append(kernel.__name__)
        return parallel_for(kernel, *arguments)

    monkeypatch.setattr(cpu_scan, "parallel_for", noting)
    return taken


# ── the same numbers ────────────────────────────────────────────────────────────────────────────────────────────────


@over(neuron=NEURONS, kind=INPUTS, setup=SETUPS, dtype=FLOATS)
def test_a_scan_writes_what_the_reference_writes(kernels, neuron, kind, setup, dtype):
    how = SETUPS[setup]
    wanted = expected(neuron, INPUTS[kind](*SIZE), how, dtype)
    mine = case(neuron, INPUTS[kind](*SIZE), how, dtype, device=kernels.device)
    same(scanned(kernels.module, mine), wanted, CLOSE[neuron])
    if neuron == "lif" and "outputs" in wanted:
        assert 0 < wanted["outputs"].double().mean() < 1


SIZES = {
    "all-one": (1, 1, 1, 1),
    "one-step": (1, 3, 6, 5),
    "three-to-one": (4, 1, 3, 1),
    "one-to-three": (4, 2, 1, 3),
    "two-blocks": (3, 2, 5, 131),
    "two-rounds-of-columns": (2, 2, 40, 300),
}


@over(neuron=NEURONS, kind=("few-spikes", "draws", "real"), size=SIZES)
def test_sizes_at_the_edge(kernels, neuron, kind, size):
    *size, neurons = SIZES[size]
    wanted = expected(neuron, INPUTS[kind](*size), SETUPS["all"], torch.float32, neurons=neurons)
    mine = case(neuron, INPUTS[kind](*size), SETUPS["all"], torch.float32, device=kernels.device, neurons=neurons)
    same(scanned(kernels.module, mine), wanted, CLOSE[neuron])


@over(neuron=NEURONS, kind=INPUTS, setup=("all", "sensitivities"), dtype=FLOATS)
def test_weights_of_any_kind_give_the_numbers_of_the_float64_reference(kernels, neuron, kind, setup, dtype):
    weight, how, off = normal(OUT, IN, seed=20), SETUPS[setup], 1e-14 if dtype == torch.float64 else 2e-6
    exact = expected(neuron, INPUTS[kind](*SIZE), how, torch.float64, weight=weight)
    mine = case(neuron, INPUTS[kind](*SIZE), how, dtype, device=kernels.device, weight=weight)
    for name, value in scanned(kernels.module, mine).items():
        torch.testing.assert_close(value.double(), exact[name].double(), rtol=off, atol=off)


@over(neuron=NEURONS, kind=("varying-draws", "few-spikes", "real"))
def test_time_may_be_cut_anywhere(kernels, neuron, kind):
    xs, how = INPUTS[kind](*SIZE), SETUPS["all"]
    whole = case(neuron, xs, how, torch.float64, device=kernels.device)
    wanted = scanned(kernels.module, whole)
    for cut in range(1, STEPS):
        mine = case(neuron, xs, how, torch.float64, device=kernels.device)
        for start, stop in ((0, cut), (cut, STEPS)):
            inside = mine.synaptic.xs
            if isinstance(inside, LazySpikes):
                inside = inside._replace(limit=inside.limit[start:stop], steps=inside.steps[start:stop])
            else:
                inside = inside[start:stop]
            outputs, first = mine.out.outputs[start:stop], max(0, mine.out.first - start)
            out = OutputSpec(outputs, mine.out.total, first, mine.out.trace)
            scanned(kernels.module, mine._replace(synaptic=mine.synaptic._replace(xs=inside), out=out))
        same(mine.written(), wanted)


@KERNELS
def test_a_membrane_exactly_at_its_threshold_does_not_fire(kernels):
    """Its decay is 1/2 and its threshold 1: it comes to 1/2, 1, 1, and at last to 9/8."""
    mine = case("lif", torch.ones(4, 1, 1), SETUPS["outputs"], torch.float32, device=kernels.device, neurons=1)
    xs = torch.tensor([0.5, 0.75, 0.5, 0.625], device=kernels.device)[:, None, None]
    one = torch.ones((), device=kernels.device)
    synaptic = mine.synaptic._replace(xs=xs, weight=torch.ones_like(mine.synaptic.weight))
    scanned(kernels.module, mine._replace(synaptic=synaptic, membrane=mine.membrane.zero_(), constants=(one / 2, one)))
    assert mine.out.outputs.flatten().tolist() == [0, 0, 0, 1]
    assert mine.membrane.tolist() == [[0.125]]


# ── arguments ───────────────────────────────────────────────────────────────────────────────────────────────────────


@over(neuron=NEURONS, kind=INPUTS)
def test_what_is_only_read_stays_as_it_was(kernels, neuron, kind):
    mine = case(neuron, INPUTS[kind](*SIZE), SETUPS["layer-above"], torch.float32, device=kernels.device)
    fresh = case(neuron, INPUTS[kind](*SIZE), SETUPS["layer-above"], torch.float32, device=kernels.device)
    scanned(kernels.module, mine)
    for actual, before in zip(only_read(mine), only_read(fresh), strict=True):
        assert torch.equal(actual, before)
    assert not torch.equal(mine.membrane, fresh.membrane)
    assert not torch.equal(mine.synaptic.trace.values, fresh.synaptic.trace.values)


def only_read(one: Case) -> list[torch.Tensor]:
    synaptic, xs = one.synaptic, one.synaptic.xs
    inputs = [xs.limit, xs.samples] if isinstance(xs, LazySpikes) else [xs]
    return [*inputs, synaptic.weight, synaptic.bias, synaptic.trace.decay, one.out.trace.decay, *one.constants]


def strided(tensor: torch.Tensor) -> torch.Tensor:
    """The same numbers, every second one of a wider tensor."""
    return torch.stack([tensor, torch.ones_like(tensor)], -1)[..., 0]


@over(neuron=NEURONS, kind=INPUTS)
def test_views_that_are_not_contiguous(kernels, neuron, kind):
    wanted = expected(neuron, INPUTS[kind](*SIZE), SETUPS["total"], torch.float32)
    mine = case(neuron, INPUTS[kind](*SIZE), SETUPS["total"], torch.float32, device=kernels.device)
    xs, weight, bias = mine.synaptic.xs, strided(mine.synaptic.weight), strided(mine.synaptic.bias)
    named = isinstance(xs, LazySpikes)
    xs = xs._replace(limit=strided(xs.limit), samples=strided(xs.samples)) if named else strided(xs)
    assert not weight.is_contiguous() and not weight.t().is_contiguous() and not bias.is_contiguous()
    mine = mine._replace(synaptic=mine.synaptic._replace(xs=xs, weight=weight, bias=bias))
    same(scanned(kernels.module, mine), wanted, CLOSE[neuron])


# ── roads: the weights of who fired, or a dense product ─────────────────────────────────────────────────────────────


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("precision", [None, torch.bfloat16], ids=["plain", "bfloat16"])
@pytest.mark.parametrize("given", [False, True], ids=["counted", "given"])
@pytest.mark.parametrize("kind", ["draws", "spikes", "float-spikes"])
def test_the_share_that_fires_decides_the_road_and_both_give_the_same(monkeypatch, kind, given, precision, dtype):
    taken, dense, results = roads(monkeypatch), "scan_currents", []
    monkeypatch.setattr(dispatch, "WIDE", 1)
    sparse = "scan_lazy_spikes" if kind == "draws" else "scan_spikes"
    spikes = binary(20, 3, IN, rate=0.2)
    share = float(spikes.mean())
    for road, limit in ((sparse, 1.01 * share), (dense, 0.99 * share)):
        monkeypatch.setitem(dispatch.DENSE_FROM, precision or dtype, limit)
        xs = drawn(20, rate=0.2)._replace(share=share) if kind == "draws" else spikes
        mine = case("lif", xs.bool() if kind == "spikes" else xs, SETUPS["all"], dtype, precision=precision,
                    fired=int(spikes.sum()) if given else None)  # fmt: skip
        taken.clear()
        results.append(scanned(cpu, mine))
        assert taken[-1] == road
        assert ("count_ones" in taken) == (kind != "draws" and not given)
    same(*results)


@pytest.mark.parametrize("kind", ["draws", "spikes"])
def test_the_fewer_neurons_the_sooner_it_is_the_dense_road_but_for_draws(monkeypatch, kind):
    taken, spikes = roads(monkeypatch), binary(20, 3, IN, rate=0.2).bool()
    mine = case("lif", drawn(20, rate=0.2) if kind == "draws" else spikes, SETUPS["all"], torch.float32)
    share, neurons = float(spikes.float().mean()), mine.synaptic.weight.shape[0]
    monkeypatch.setitem(dispatch.DENSE_FROM, torch.float32, 1.01 * share)
    for wide, road in ((neurons, "sparse"), (2 * neurons, "sparse" if kind == "draws" else "dense")):
        monkeypatch.setattr(dispatch, "WIDE", wide)
        scanned(cpu, mine)
        assert (taken[-1] == "scan_currents") is (road == "dense")


def test_real_valued_input_takes_the_dense_road_however_little_of_it_is_not_zero(monkeypatch):
    taken, xs = roads(monkeypatch), torch.zeros(4, 2, IN)
    xs[1, 0, 3] = 0.5
    scanned(cpu, case("li", xs, SETUPS["outputs"], torch.float32))
    assert taken == ["count_ones", "scan_currents"]


@pytest.mark.parametrize("kind", ["draws", "dense-draws", "few-spikes", "many-spikes", "real"])
def test_a_lif_scan_on_a_cpu_counts_its_spikes(kind):
    mine = case("lif", INPUTS[kind](*SIZE), SETUPS["outputs"], torch.float32)
    scanned(cpu, mine)
    assert mine.out.fired == int(mine.out.outputs.sum()) > 0


@over(neuron=NEURONS, kind=("draws", "few-spikes", "dense-draws", "many-spikes"))
def test_bfloat16_holds_spikes_and_short_weights_exactly(kernels, neuron, kind):
    options = {"precision": torch.bfloat16}
    wanted = expected(neuron, INPUTS[kind](*SIZE), SETUPS["all"], torch.float32)
    mine = case(neuron, INPUTS[kind](*SIZE), SETUPS["all"], torch.float32, device=kernels.device, **options)
    same(scanned(kernels.module, mine), wanted, CLOSE[neuron])


@KERNELS
@pytest.mark.parametrize("kind", ["draws", "few-spikes", "dense-draws", "many-spikes"])
def test_bfloat16_rounds_any_other_weight_to_8_bits(kernels, kind):
    weight, how = normal(OUT, IN, seed=20), Setup("one", True, ("outputs",))
    mine = case("li", INPUTS[kind](*SIZE), how, torch.float32, device=kernels.device, weight=weight,
                precision=torch.bfloat16)  # fmt: skip
    rounded = weight.to(torch.bfloat16).double()
    outputs, near, far = (
        scanned(kernels.module, mine)["outputs"].double(),
        *(
            expected("li", INPUTS[kind](*SIZE), how, torch.float64, weight=each)["outputs"]
            for each in (rounded, weight)
        ),
    )
    # The sum of at most 6 weights below 2.5, over a membrane that remembers at most 1 / (1 − 0.9) of them.
    assert (outputs - near).abs().max() <= 2**-8 * weight.abs().sum(1).max() * 10
    assert (outputs - far).abs().max() > 1e-4
