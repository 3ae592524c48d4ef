"""Each kernel gives the bits of its reference; the softmax is close."""

from dataclasses import dataclass

import pytest
import torch

from tests import kernel_cases as cases
from tests.common import normal
from tests.kernel_cases import (
    FLOATS,
    INPUTS,
    KERNELS,
    NEURONS,
    SETUPS,
    assert_equal,
    case,
    expected,
    on_kernels,
    scanned,
)
from tracetorch import functional as F
from tracetorch.backends import FusedReadout, LazySpikes, cpu, fuses_readout, reference, times_slopes
from tracetorch.backends.dispatch import DENSE_FROM, FEW, WIDE, Traits, is_sparse
from tracetorch.nn import LIF, LIS, Sequential
from tracetorch.rules.stepwise import run_lif_steps
from tracetorch.rules.surrogate import Arctan, FastSigmoid, Triangle

SIZE, OUT, Setup = (cases.STEPS, cases.BATCH, cases.IN), cases.OUT, cases.Setup
CLOSE = {"lif": (), "lif_zero": (), "li": (), "lis": ("outputs", "total", "above", "above, of it")}
"""What depends on an exponential."""


@on_kernels(neuron=NEURONS, kind=INPUTS, setup=SETUPS, dtype=FLOATS)
def test_a_scan_equals_the_reference(kernels, neuron, kind, setup, dtype):
    how = SETUPS[setup]
    wanted = expected(neuron, INPUTS[kind](*SIZE), how, dtype)
    mine = case(neuron, INPUTS[kind](*SIZE), how, dtype, device=kernels.device)
    assert_equal(scanned(kernels.module, mine), wanted, CLOSE[neuron])
    if neuron in reference.SPIKING and "outputs" in wanted:
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
KINDS = INPUTS | {"half-usual": lambda *size: cases.drawn(*size, rate=0.5)._replace(share=0.1)}


@on_kernels(neuron=NEURONS, kind=("few-spikes", "draws", "half-usual", "real"), size=SIZES)
def test_sizes_at_the_edge(kernels, neuron, kind, size):
    *size, neurons = SIZES[size]
    wanted = expected(neuron, KINDS[kind](*size), SETUPS["all"], torch.float32, neurons=neurons)
    mine = case(neuron, KINDS[kind](*size), SETUPS["all"], torch.float32, device=kernels.device, neurons=neurons)
    assert_equal(scanned(kernels.module, mine), wanted, CLOSE[neuron])


@on_kernels(kind=INPUTS, setup=("all", "sensitivities"), neuron=NEURONS, dtype=FLOATS)
def test_random_weights_give_the_numbers_of_the_float64_reference(kernels, kind, setup, neuron, dtype):
    weight, how, off = normal(OUT, cases.IN, seed=20), SETUPS[setup], 1e-14 if dtype == torch.float64 else 2e-6
    exact = expected(neuron, INPUTS[kind](*SIZE), how, torch.float64, weight=weight)
    mine = case(neuron, INPUTS[kind](*SIZE), how, dtype, device=kernels.device, weight=weight)
    for name, value in scanned(kernels.module, mine).items():
        torch.testing.assert_close(value.double(), exact[name].double(), rtol=off, atol=off)


@KERNELS
def test_a_membrane_exactly_at_its_threshold_does_not_fire(kernels):
    """Its decay is 1/2 and its threshold 1: it comes to 1/2, 1, 1, and at last to 9/8."""
    xs, one = torch.tensor([0.5, 0.75, 0.5, 0.625])[:, None, None], torch.ones((), device=kernels.device)
    mine = case("lif", xs, SETUPS["outputs"], torch.float32, device=kernels.device, neurons=1, weight=torch.ones(1, 1))
    scanned(kernels.module, mine._replace(membrane=mine.membrane.zero_(), constants=(one / 2, one)))
    assert mine.out.outputs.flatten().tolist() == [0, 0, 0, 1] and mine.membrane.tolist() == [[0.125]]


def only_read(one: cases.Case) -> list[torch.Tensor]:
    synaptic, xs = one.synaptic, one.synaptic.xs
    inputs = [xs.limit, xs.samples] if isinstance(xs, LazySpikes) else [xs]
    return [*inputs, synaptic.weight, synaptic.bias, synaptic.trace.decay, one.out.trace.decay, *one.constants]


def strided(tensor: torch.Tensor) -> torch.Tensor:
    """The same numbers, every second one of a wider tensor."""
    return torch.stack([tensor, torch.ones_like(tensor)], -1)[..., 0]


@on_kernels(kind=INPUTS)
def test_views_that_are_not_contiguous_are_read_and_not_changed(kernels, kind):
    wanted = expected("lif", INPUTS[kind](*SIZE), SETUPS["layer-above"], torch.float32)
    mine = case("lif", INPUTS[kind](*SIZE), SETUPS["layer-above"], torch.float32, device=kernels.device)
    xs, weight, bias = mine.synaptic.xs, strided(mine.synaptic.weight), strided(mine.synaptic.bias)
    named = isinstance(xs, LazySpikes)
    xs = xs._replace(limit=strided(xs.limit), samples=strided(xs.samples)) if named else strided(xs)
    assert not weight.is_contiguous() and not weight.t().is_contiguous() and not bias.is_contiguous()
    mine = mine._replace(synaptic=mine.synaptic._replace(xs=xs, weight=weight, bias=bias))
    before = [tensor.clone() for tensor in only_read(mine)]
    assert_equal(scanned(kernels.module, mine), wanted)
    assert all(map(torch.equal, only_read(mine), before))


@on_kernels(kind=("draws", "few-spikes", "dense-draws", "many-spikes"))
def test_bfloat16_is_exact_for_spikes_and_short_weights_and_rounds_others_to_8_bits(kernels, kind):
    options, short = {"device": kernels.device, "precision": torch.bfloat16}, SETUPS["all"]
    wanted = expected("lif", INPUTS[kind](*SIZE), short, torch.float32)
    assert_equal(scanned(kernels.module, case("lif", INPUTS[kind](*SIZE), short, torch.float32, **options)), wanted)
    weight, how = normal(OUT, cases.IN, seed=20), Setup("one", True, ("outputs",))
    mine = case("li", INPUTS[kind](*SIZE), how, torch.float32, weight=weight, **options)
    outputs = scanned(kernels.module, mine)["outputs"].double()
    rounded = weight.to(torch.bfloat16).double()
    near, far = (expected("li", INPUTS[kind](*SIZE), how, torch.float64, weight=each) for each in (rounded, weight))
    # The sum of at most 6 weights below 2.5, over a membrane that remembers at most 1 / (1 − 0.9) of them.
    assert (outputs - near["outputs"]).abs().max() <= 2**-8 * weight.abs().sum(1).max() * 10
    assert (outputs - far["outputs"]).abs().max() > 1e-4


BELOW = {"one": Setup("one", True, (), "one"), "groups": Setup("groups", False, (), "sensitivities-of-groups")}
ABOVE = {
    "outputs": Setup("no-trace", False, ("outputs",)),
    "total": Setup("no-trace", True, ("total",)),
    "traced": Setup("no-trace", True, ("outputs", "total"), "sensitivities-of-groups"),
}
CASES = {"neuron": ["lif", "li"], "above": NEURONS, "kind": ["draws", "few-spikes", "real"], "below": BELOW}


@pytest.mark.parametrize([*CASES, "how", "dtype"], cases.combined(**CASES, how=ABOVE, dtype=FLOATS))
def test_one_scan_of_two_layers_equals_two_scans(neuron, above, kind, below, how, dtype):
    found = []
    for fuses in (True, False):
        lower = case(neuron, INPUTS[kind](*SIZE), BELOW[below], dtype)
        upper = case(above, torch.zeros(*SIZE[:2], OUT), ABOVE[how], dtype, neurons=3)  # made by the one below
        if fuses:
            lower.out.readout = FusedReadout(above, *upper.synaptic[1:3], upper.membrane, upper.constants, upper.out)
            scanned(cpu, lower)
        else:
            lower.out.outputs = torch.empty(*SIZE[:2], OUT, dtype=dtype)
            scanned(reference, lower)
            scanned(reference, upper._replace(synaptic=upper.synaptic._replace(xs=lower.out.outputs)))
            lower.out.outputs = None
        found.append(lower.results() | {f"{name}, above": value for name, value in upper.results().items()})
    # Spikes times eighths can be added in any order; sums of other outputs, and exponentials, differ in the last place.
    close = [name for name in found[1] if name.endswith(", above") and (neuron != "lif" or above == "lis")]
    actual, wanted = ([one.pop(name).to(dtype) for name in close] for one in found)
    torch.testing.assert_close(actual, wanted)
    assert_equal(*found)


@pytest.mark.parametrize(("chunk", "dtype"), cases.combined(chunk=[None, 1, 4], dtype=FLOATS))
def test_a_network_with_a_fused_readout_equals_its_layers_one_by_one(chunk, dtype):
    torch.manual_seed(0)
    lower, upper = LIF(7, WIDE, bias=True).to(dtype), LIS(WIDE, FEW, bias=True, decay=0.8).to(dtype)
    upper.bias.data.copy_(normal(FEW))
    xs, net = (normal(11, 5, 7, seed=2) > 0.3).to(dtype) * 0.7, Sequential(lower, upper)
    outputs, signal = upper.run(lower.run(xs)), normal(5, FEW).to(dtype)
    wanted, below = net.save_state(), net.backward(signal)
    net.reset()
    found = net.run(xs, chunk=chunk)
    torch.testing.assert_close((found, net.save_state(), net.backward(signal)), (outputs, wanted, below))
    net.reset()
    assert torch.equal(net.run(xs[:, 2:4].contiguous(), chunk=chunk), found[:, 2:4]), "a sample is not its neighbours'"
    net.reset()
    torch.testing.assert_close(net.run(xs, reduce="mean", window=3, chunk=chunk), outputs[-3:].mean(dim=0))


def test_the_choice_of_fused_readouts_and_sparse_products():
    """Through the readout in the same scan, from a wide layer to a narrow one of the same precision; else, by the share
    that fires, by rows of weights or a dense product."""

    def goes(width=WIDE, readout=FEW, precision=torch.float32, dtype=torch.float32, neuron="lis", form="computed"):
        below = Traits("lif", form, torch.empty(width, 7, dtype=dtype), dtype)
        return fuses_readout(below, Traits(neuron, "weight", torch.empty(readout, width), precision))

    assert goes()
    for other in (
        {"width": WIDE - 1}, {"readout": FEW + 1}, {"precision": torch.bfloat16}, {"dtype": torch.float64},
        {"neuron": None}, {"form": "module"},
    ):  # fmt: skip
        assert not goes(**other), other
    for dtype, least in DENSE_FROM.items():
        assert is_sparse(least, WIDE, dtype, drawn=False)
        assert not any(is_sparse(1.01 * least, 9 * WIDE, dtype, drawn=drawn) for drawn in (True, False))
        assert is_sparse(least, 1, dtype, drawn=True) and not is_sparse(0.51 * least, WIDE // 2, dtype, drawn=False)


@dataclass(frozen=True)
class Plain(Triangle):
    """A surrogate of a user's own, without a compiled form."""

    compiled = None


SURROGATES = [FastSigmoid(3.0), Arctan(1.5), Triangle(0.4), Plain(0.4)]


@pytest.mark.parametrize(
    ("surrogate", "dtype", "for_each_neuron"),
    cases.combined(surrogate=SURROGATES, dtype=FLOATS, for_each_neuron=(False, True)),
)
def test_slopes_of_spikes_equal_those_of_autograd(surrogate, dtype, for_each_neuron):
    steps, batch, count = 5, 3, 7
    currents, start = 0.8 * normal(steps, batch, count).to(dtype), normal(batch, count, seed=1).to(dtype)
    decay, threshold = torch.tensor(0.75, dtype=dtype), torch.linspace(0.5, 1.25, count, dtype=dtype)
    threshold = threshold if for_each_neuron else threshold[3]
    before, found = start, []
    for current in currents:
        given = current.clone().requires_grad_()
        output, after = F.lif_step(given, before, decay, threshold, surrogate)
        found.append((output.detach(), torch.autograd.grad(output.sum(), given)[0], before))
        before = after.detach()
    wanted = [torch.stack(values) for values in zip(*found, strict=True)]
    assert 0 < wanted[0].mean() < 1
    spikes, membranes, raised = run_lif_steps(currents, start, (decay, threshold))
    slopes = times_slopes(torch.full_like(raised, 2), raised, threshold, surrogate) / 2
    torch.testing.assert_close([spikes, slopes, membranes, start], [*wanted, before])
    torch.testing.assert_close(raised, decay * membranes + currents)
