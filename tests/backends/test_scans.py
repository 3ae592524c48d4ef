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
    combined,
    drawn,
    expected,
    over,
    same,
    scanned,
)  # fmt: skip
from tracetorch.backends import LazySpikes, OutputSpec, cpu, dispatch
from tracetorch.backends.cpu import scan as cpu_scan

SIZE = (STEPS, BATCH, IN)
CLOSE = {"lif": (), "li": (), "lis": ("outputs", "total", "above", "above, of it")}
"""What depends on an exponential."""


@over(neuron=NEURONS, kind=INPUTS, setup=SETUPS, dtype=FLOATS)
def test_a_scan_writes_what_the_reference_writes(kernels, neuron, kind, setup, dtype):
    how = SETUPS[setup]
    wanted = expected(neuron, INPUTS[kind](*SIZE), how, dtype)
    mine = case(neuron, INPUTS[kind](*SIZE), how, dtype, device=kernels.device)
    same(scanned(kernels.module, mine), wanted, CLOSE[neuron])
    if neuron == "lif" and "outputs" in wanted:
        assert 0 < wanted["outputs"].double().mean() < 1
        assert mine.out.fired == (int(mine.out.outputs.sum()) if kernels.module is cpu else None)


SIZES = {
    "all-one": (1, 1, 1, 1),
    "one-step": (1, 3, 6, 5),
    "three-to-one": (4, 1, 3, 1),
    "one-to-three": (4, 2, 1, 3),
    "two-blocks": (3, 2, 5, 131),
    "two-rounds-of-columns": (2, 2, 40, 300),
    "sums-of-eight": (2, 2, 131, 5),
}
KINDS = INPUTS | {"half-usual": lambda *size: drawn(*size, rate=0.5)._replace(share=0.1)}


@over(neuron=NEURONS, kind=("few-spikes", "draws", "half-usual", "real"), size=SIZES)
def test_sizes_at_the_edge(kernels, neuron, kind, size):
    *size, neurons = SIZES[size]
    wanted = expected(neuron, KINDS[kind](*size), SETUPS["all"], torch.float32, neurons=neurons)
    mine = case(neuron, KINDS[kind](*size), SETUPS["all"], torch.float32, device=kernels.device, neurons=neurons)
    same(scanned(kernels.module, mine), wanted, CLOSE[neuron])


@over(kind=INPUTS, setup=("all", "sensitivities"), neuron=NEURONS, dtype=FLOATS)
def test_weights_of_any_kind_give_the_numbers_of_the_float64_reference(kernels, kind, setup, neuron, dtype):
    weight, how, off = normal(OUT, IN, seed=20), SETUPS[setup], 1e-14 if dtype == torch.float64 else 2e-6
    exact = expected(neuron, INPUTS[kind](*SIZE), how, torch.float64, weight=weight)
    mine = case(neuron, INPUTS[kind](*SIZE), how, dtype, device=kernels.device, weight=weight)
    for name, value in scanned(kernels.module, mine).items():
        torch.testing.assert_close(value.double(), exact[name].double(), rtol=off, atol=off)


@over(neuron=NEURONS, kind=("varying-draws", "few-spikes", "real"))
def test_time_may_be_cut_anywhere(kernels, neuron, kind):
    xs, how = INPUTS[kind](*SIZE), SETUPS["all"]
    wanted = scanned(kernels.module, case(neuron, xs, how, torch.float64, device=kernels.device))
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
    xs, one = torch.tensor([0.5, 0.75, 0.5, 0.625])[:, None, None], torch.ones((), device=kernels.device)
    mine = case("lif", xs, SETUPS["outputs"], torch.float32, device=kernels.device, neurons=1, weight=torch.ones(1, 1))
    scanned(kernels.module, mine._replace(membrane=mine.membrane.zero_(), constants=(one / 2, one)))
    assert mine.out.outputs.flatten().tolist() == [0, 0, 0, 1] and mine.membrane.tolist() == [[0.125]]


def only_read(one: Case) -> list[torch.Tensor]:
    synaptic, xs = one.synaptic, one.synaptic.xs
    inputs = [xs.limit, xs.samples] if isinstance(xs, LazySpikes) else [xs]
    return [*inputs, synaptic.weight, synaptic.bias, synaptic.trace.decay, one.out.trace.decay, *one.constants]


def strided(tensor: torch.Tensor) -> torch.Tensor:
    """The same numbers, every second one of a wider tensor."""
    return torch.stack([tensor, torch.ones_like(tensor)], -1)[..., 0]


@over(kind=INPUTS)
def test_views_that_are_not_contiguous_are_read_and_left_as_they_were(kernels, kind):
    wanted = expected("lif", INPUTS[kind](*SIZE), SETUPS["layer-above"], torch.float32)
    mine = case("lif", INPUTS[kind](*SIZE), SETUPS["layer-above"], torch.float32, device=kernels.device)
    xs, weight, bias = mine.synaptic.xs, strided(mine.synaptic.weight), strided(mine.synaptic.bias)
    named = isinstance(xs, LazySpikes)
    xs = xs._replace(limit=strided(xs.limit), samples=strided(xs.samples)) if named else strided(xs)
    assert not weight.is_contiguous() and not weight.t().is_contiguous() and not bias.is_contiguous()
    mine = mine._replace(synaptic=mine.synaptic._replace(xs=xs, weight=weight, bias=bias))
    before = [tensor.clone() for tensor in only_read(mine)]
    same(scanned(kernels.module, mine), wanted)
    assert all(map(torch.equal, only_read(mine), before))


@pytest.mark.parametrize(
    ("kind", "given", "precision", "dtype"),
    combined(kind=["draws", "bool", "float"], given=[False, True], precision=[None, torch.bfloat16], dtype=FLOATS),
)
def test_the_share_that_fires_decides_the_road_and_both_give_the_same(monkeypatch, kind, given, precision, dtype):
    taken, results, parallel_for = [], [], cpu_scan.parallel_for
    monkeypatch.setattr(cpu_scan, "parallel_for", lambda *how: taken.append(how[0].__name__) or parallel_for(*how))
    spikes, sparse = binary(20, 3, IN, rate=0.2), "scan_lazy_spikes" if kind == "draws" else "scan_spikes"
    share = float(spikes.mean())
    xs = drawn(20, rate=0.2)._replace(share=share) if kind == "draws" else spikes.to({"bool": torch.bool}.get(kind))
    fired, wide = int(spikes.sum()) if given else None, sparse if kind == "draws" else "scan_currents"
    for limit, width, road in ((1.01, OUT, sparse), (0.99, OUT, "scan_currents"), (1.01, 2 * OUT, wide)):
        monkeypatch.setattr(dispatch, "WIDE", width)  # the fewer neurons, the sooner it is dense, but for draws
        monkeypatch.setitem(dispatch.DENSE_FROM, precision or dtype, limit * share)
        taken.clear()
        results.append(scanned(cpu, case("lif", xs, SETUPS["all"], dtype, precision=precision, fired=fired)))
        assert taken[-1] == road and ("count_ones" in taken) == (kind != "draws" and not given)
        same(results[-1], results[0])


@over(kind=("draws", "few-spikes", "dense-draws", "many-spikes"))
def test_bfloat16_holds_spikes_and_short_weights_exactly_and_rounds_any_other_to_8_bits(kernels, kind):
    options, short = {"device": kernels.device, "precision": torch.bfloat16}, SETUPS["all"]
    wanted = expected("lif", INPUTS[kind](*SIZE), short, torch.float32)
    same(scanned(kernels.module, case("lif", INPUTS[kind](*SIZE), short, torch.float32, **options)), wanted)
    weight, how = normal(OUT, IN, seed=20), Setup("one", True, ("outputs",))
    mine = case("li", INPUTS[kind](*SIZE), how, torch.float32, weight=weight, **options)
    outputs = scanned(kernels.module, mine)["outputs"].double()
    rounded = weight.to(torch.bfloat16).double()
    near, far = (expected("li", INPUTS[kind](*SIZE), how, torch.float64, weight=each) for each in (rounded, weight))
    # The sum of at most 6 weights below 2.5, over a membrane that remembers at most 1 / (1 − 0.9) of them.
    assert (outputs - near["outputs"]).abs().max() <= 2**-8 * weight.abs().sum(1).max() * 10
    assert (outputs - far["outputs"]).abs().max() > 1e-4
