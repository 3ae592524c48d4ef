"""A scan that goes on through the layer above writes what two scans write, and is taken where it is faster."""

import pytest
import torch

import tracetorch as tt
from tests.common import normal
from tests.kernel_cases import BATCH, FLOATS, IN, INPUTS, NEURONS, OUT, STEPS, Setup, case, combined, same, scanned
from tracetorch import backends
from tracetorch.backends import FusedReadout, cpu, reference
from tracetorch.backends.dispatch import FEW, WIDE, Traits

BELOW = {"one": Setup("one", True, (), "one"), "groups": Setup("groups", False, (), "sensitivities-of-groups")}
ABOVE = {
    "outputs": Setup("no-trace", False, ("outputs",)),
    "total": Setup("no-trace", True, ("total",)),
    "traced": Setup("no-trace", True, ("outputs", "total"), "sensitivities-of-groups"),
}
CASES = {"neuron": ["lif", "li"], "above": NEURONS, "kind": ["draws", "few-spikes", "real"], "below": BELOW}


@pytest.mark.parametrize([*CASES, "how", "dtype"], combined(**CASES, how=ABOVE, dtype=FLOATS))
def test_one_scan_of_two_layers_writes_what_two_write(neuron, above, kind, below, how, dtype):
    found = []
    for fuses in (True, False):
        lower = case(neuron, INPUTS[kind](STEPS, BATCH, IN), BELOW[below], dtype)
        upper = case(above, torch.zeros(STEPS, BATCH, OUT), ABOVE[how], dtype, neurons=3)  # made by the one below
        if fuses:
            lower.out.readout = FusedReadout(above, *upper.synaptic[1:3], upper.membrane, upper.constants, upper.out)
            scanned(cpu, lower)
        else:
            lower.out.outputs = torch.empty(STEPS, BATCH, OUT, dtype=dtype)
            scanned(reference, lower)
            scanned(reference, upper._replace(synaptic=upper.synaptic._replace(xs=lower.out.outputs)))
            lower.out.outputs = None
        found.append(lower.written() | {f"{name}, above": value for name, value in upper.written().items()})
    # Spikes times eighths can be added in any order; sums of other outputs, and exponentials, differ in the last place.
    close = [name for name in found[1] if name.endswith(", above") and (neuron != "lif" or above == "lis")]
    actual, wanted = ([one.pop(name).to(dtype) for name in close] for one in found)
    torch.testing.assert_close(actual, wanted)
    same(*found)


def layers():
    torch.manual_seed(0)
    return tt.nn.LIF(7, WIDE, bias=True), tt.nn.LIS(WIDE, FEW, bias=True, decay=0.8)


@pytest.mark.parametrize(("chunk", "dtype"), combined(chunk=[None, 1, 4], dtype=FLOATS))
def test_a_network_that_goes_on_does_what_its_layers_do_one_by_one(chunk, dtype, monkeypatch):
    lower, upper = (layer.to(dtype) for layer in layers())
    with torch.no_grad():
        upper.bias.copy_(normal(FEW))
    xs, net = (normal(11, 5, 7, seed=2) > 0.3).to(dtype) * 0.7, tt.nn.Sequential(lower, upper)
    outputs, signal = upper.run(lower.run(xs)), normal(5, FEW).to(dtype)
    wanted, below = net.save_state(), net.backward(signal)
    went, scan = [], backends.scan
    monkeypatch.setattr(backends, "scan", lambda *how: (went.append(how[-1].readout is not None), scan(*how)))
    net.reset()
    found = net.run(xs, chunk=chunk)
    torch.testing.assert_close((found, net.save_state(), net.backward(signal)), (outputs, wanted, below))
    for samples in (slice(2, 4), slice(None)):  # none is touched by the others
        net.reset()
        assert torch.equal(net.run(xs[:, samples].contiguous(), chunk=chunk), found[:, samples])
    net.reset()
    torch.testing.assert_close(net.run(xs, reduce="mean", window=3, chunk=chunk), outputs[-3:].mean(dim=0))
    assert went and all(went)


def test_it_goes_on_only_from_a_wide_layer_to_a_narrow_one_of_the_same_precision():
    def goes(width=WIDE, readout=FEW, precision=torch.float32, dtype=torch.float32, neuron="lis", form="computed"):
        below = Traits("lif", form, torch.empty(width, 7, dtype=dtype), dtype)
        return backends.fuses_readout(below, Traits(neuron, "weight", torch.empty(readout, width), precision))

    assert goes()
    for other in (
        {"width": WIDE - 1}, {"readout": FEW + 1}, {"precision": torch.bfloat16}, {"dtype": torch.float64},
        {"neuron": None}, {"form": "module"},
    ):  # fmt: skip
        assert not goes(**other), other


def test_a_readout_of_another_width_is_refused():
    net = tt.nn.Sequential(layers()[0], tt.nn.LIS(WIDE, 2))
    net.layers[1] = tt.nn.LIS(9, 2)
    with pytest.raises(ValueError, match=r"LIS\(9, 2\) takes 9 inputs, got the shape \(192,\)"):
        net.run(torch.zeros(2, 3, 7))
