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


def cases(neuron, above, kind, below, how, dtype):
    """The two layers; what drives the one above is made by the one below."""
    nothing = torch.zeros(STEPS, BATCH, OUT)
    lower = case(neuron, INPUTS[kind](STEPS, BATCH, IN), BELOW[below], dtype)
    return lower, case(above, nothing, ABOVE[how], dtype, neurons=3)


def written(lower, upper):
    """What both have written, but for the outputs between them."""
    lower.out.outputs = None
    return lower.written() | {f"{name}, above": value for name, value in upper.written().items()}


def expected(*how):
    """What the reference writes, in two scans."""
    lower, upper = cases(*how)
    lower.out.outputs = torch.empty(STEPS, BATCH, OUT, dtype=lower.membrane.dtype)
    scanned(reference, lower)
    scanned(reference, upper._replace(synaptic=upper.synaptic._replace(xs=lower.out.outputs)))
    return written(lower, upper)


LAYERS = {"neuron": ["lif", "li"], "above": NEURONS, "kind": ["draws", "few-spikes", "real"], "below": BELOW}


@pytest.mark.parametrize([*LAYERS, "how", "dtype"], combined(**LAYERS, how=ABOVE, dtype=FLOATS))
def test_one_scan_of_two_layers_writes_what_two_write(neuron, above, kind, below, how, dtype):
    lower, upper = cases(neuron, above, kind, below, how, dtype)
    lower.out.readout = FusedReadout(above, *upper.synaptic[1:3], upper.membrane, upper.constants, upper.out)
    scanned(cpu, lower)
    actual, wanted = written(lower, upper), expected(neuron, above, kind, below, how, dtype)
    # Spikes times eighths can be added in any order; sums of other outputs, and exponentials, differ in the last place.
    close = [name for name in wanted if name.endswith(", above") and (neuron != "lif" or above == "lis")]
    torch.testing.assert_close(
        [actual.pop(name).to(dtype) for name in close], [wanted.pop(name).to(dtype) for name in close]
    )
    same(actual, wanted)


def layers(width=WIDE, readout=FEW, **settings):
    torch.manual_seed(0)
    return tt.nn.LIF(7, width, bias=True, **settings), tt.nn.LIS(width, readout, bias=True, decay=0.8)


def taken(monkeypatch):
    """How often, from here on, a scan goes on."""
    seen, scan = [], backends.scan
    monkeypatch.setattr(backends, "scan", lambda *how: (seen.append(how[-1].readout is not None), scan(*how)))
    return seen


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("chunk", [None, 1, 4])
def test_a_network_that_goes_on_does_what_its_layers_do_one_by_one(chunk, dtype, monkeypatch):
    lower, upper = (layer.to(dtype) for layer in layers())
    with torch.no_grad():
        upper.bias.copy_(normal(FEW))
    xs = (normal(11, 5, 7, seed=2) > 0.3).to(dtype) * 0.7
    outputs = upper.run(lower.run(xs))
    wanted = [layer.save_state() for layer in (lower, upper)]
    net, went = tt.nn.Sequential(lower, upper), taken(monkeypatch)
    net.reset()
    torch.testing.assert_close(net.run(xs, chunk=chunk), outputs)
    torch.testing.assert_close([layer.save_state() for layer in (lower, upper)], wanted)
    net.reset()
    torch.testing.assert_close(net.run(xs, reduce="mean", window=3, chunk=chunk), outputs[-3:].mean(dim=0))
    assert went
    assert all(went)


def test_what_learns_is_the_same(monkeypatch):
    net, xs = tt.nn.Sequential(*layers()), normal(9, 5, 7, seed=2)

    def gradients():
        net.reset()
        net.zero_grad()
        net.backward(net.run(xs, reduce="mean"), return_input_grad=False)
        return [parameter.grad for parameter in net.parameters()]

    at_once = gradients()
    monkeypatch.setattr(backends, "fuses_readout", lambda below, above: False)
    torch.testing.assert_close(gradients(), at_once)


def test_a_sample_is_not_touched_by_the_others_beside_it():
    net, xs = tt.nn.Sequential(*layers()), normal(9, 5, 7, seed=2)
    whole = net.run(xs)
    net.reset()
    assert torch.equal(net.run(xs[:, 2:4].contiguous()), whole[:, 2:4])


def test_it_goes_on_only_from_a_wide_layer_to_a_narrow_one_of_the_same_precision():
    def goes(
        width=WIDE, readout=FEW, precision=torch.float32, dtype=torch.float32, neuron="lis", below_form="computed"
    ):
        below = Traits("lif", below_form, torch.empty(width, 7, dtype=dtype), dtype)
        return backends.fuses_readout(below, Traits(neuron, "weight", torch.empty(readout, width), precision))

    assert goes()
    assert not goes(width=WIDE - 1)
    assert not goes(readout=FEW + 1)
    assert not goes(precision=torch.bfloat16)
    assert not goes(dtype=torch.float64)
    assert not goes(neuron=None)
    assert not goes(below_form="module")


def test_neurons_without_a_kernel_take_their_own_steps(monkeypatch):
    class Own(tt.nn.neurons.LIS):
        kernel = None

        def step(self, current, state):
            steps.append(current.shape)
            return super().step(current, state)

    steps, went = [], taken(monkeypatch)
    net = tt.nn.Sequential(layers()[0], tt.nn.Layer(WIDE, 3, neuron=Own))
    net.run(normal(4, 2, 7), chunk=4)
    assert steps == [(2, 3)] * 4
    assert not any(went)


def test_a_readout_of_another_width_is_refused():
    net = tt.nn.Sequential(layers()[0], tt.nn.LIS(WIDE, 2))
    net.layers[1] = tt.nn.LIS(9, 2)
    with pytest.raises(ValueError, match=r"LIS\(9, 2\) takes 9 inputs, got the shape \(192,\)"):
        net.run(torch.zeros(2, 3, 7))
