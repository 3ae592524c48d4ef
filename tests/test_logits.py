"""A signal at the logits goes the way of one at the output, from behind the softmax on."""

import pytest
import torch

from tests.common import normal
from tracetorch.loss import cross_entropy, cross_entropy_with_logits
from tracetorch.nn import LI, LIF, LIS, Sequential
from tracetorch.nn.local_gradient import average_current
from tracetorch.rules import BPTT, Trace

IN, OUT, BATCH, TIME = 5, 4, 3, 12


def run_net(**settings) -> tuple[Sequential, torch.Tensor]:
    torch.manual_seed(0)
    net = Sequential(LIF(IN, 7), LIS(7, OUT, bias=True, **settings)).double()
    net[0].weight.data.mul_(2).add_(0.2)
    return net, net.run((normal(TIME, BATCH, IN) > 0).double())[-1]


def taught(net: Sequential) -> list[torch.Tensor]:
    found = [p.grad.clone() for p in net.parameters() if p.grad is not None]
    net.zero_grad()
    return found


@pytest.mark.parametrize("settings", [{}, {"decay": [0.6, 0.95]}, {"trace_decay": 0.7}], ids=["tied", "groups", "free"])
def test_through_the_softmax_a_signal_at_the_output_is_one_at_the_logits(settings):
    net, _ = run_net(**settings)
    layer, signal = net[1], normal(BATCH, OUT)
    average = layer.average_input()
    p = layer.neuron.steady_state(average_current(layer, average), layer.state.steps).detach()
    at_logits = p * (signal - (p * signal).sum(-1, keepdim=True))
    below = net.backward(signal)
    wanted = taught(net)
    torch.testing.assert_close(net.backward(at_logits, at="logits"), below, rtol=0, atol=1e-12)
    torch.testing.assert_close(taught(net), wanted, rtol=0, atol=1e-12)


def test_it_is_the_gradient_of_ordinary_autograd_through_time():
    torch.manual_seed(0)
    net, xs, signal = Sequential(LIS(IN, OUT).double()), normal(TIME, BATCH, IN), normal(BATCH, OUT)
    net.run(xs)
    Trace(net).backward(signal, at="logits")
    weight, decay = net[0].weight.detach().clone().requires_grad_(), net[0].neuron.decay.detach()
    membrane = torch.zeros(BATCH, OUT).double()
    for x in xs:
        membrane = decay * membrane + x @ weight.T
    wanted = torch.autograd.grad(membrane, weight, signal)[0]
    torch.testing.assert_close(net[0].weight.grad, wanted, rtol=0, atol=1e-12)


def test_cross_entropy_teaches_the_same_at_the_logits_as_at_the_output():
    net, p = run_net()
    target = torch.tensor([0, 3, 1])
    net.backward(cross_entropy(p, target, floor=1e-15)[1], return_input_grad=False)
    wanted = taught(net)
    net.backward(cross_entropy_with_logits(p.log(), target)[1], at="logits", return_input_grad=False)
    torch.testing.assert_close(taught(net), wanted, rtol=1e-9, atol=1e-12)


def test_the_output_of_a_leaky_integrator_is_its_logits():
    torch.manual_seed(0)
    net, signal = Sequential(LIF(IN, 7), LI(7, OUT)).double(), normal(BATCH, OUT)
    net.run((normal(TIME, BATCH, IN) > 0).double())
    net.backward(signal)
    wanted = taught(net)
    net.backward(signal, at="logits")
    assert all(torch.equal(*pair) for pair in zip(taught(net), wanted, strict=True))


def test_where_there_are_no_logits_a_signal_at_them_is_refused():
    net = Sequential(LIF(IN, OUT))
    net.run(torch.ones(TIME, BATCH, IN))
    with pytest.raises(ValueError, match=r"LIF has no logits: give it a signal at its output"):
        net.backward(torch.ones(BATCH, OUT), at="logits")
    with pytest.raises(ValueError, match='at must be "output" or "logits", got \'membrane\''):
        net.backward(torch.ones(BATCH, OUT), at="membrane")
    with pytest.raises(ValueError, match="BPTT takes signals at the output"):
        BPTT(net).backward(torch.ones(BATCH, OUT), at="logits")
