"""Backpropagation through time, whole and truncated, against ordinary autograd through the oracle's plain loop."""

import pytest
import torch

from tests.common import BATCH, IN, OUT, draw_weights, normal, spikes
from tests.oracle import unrolled
from tracetorch.encode import poisson
from tracetorch.nn import LI, LIF, LIS, Sequential
from tracetorch.rules import BPTT, TruncatedBPTT
from tracetorch.rules.surrogate import Arctan, FastSigmoid, Triangle

SURROGATES = [FastSigmoid(), FastSigmoid(slope=3.0), Arctan(), Arctan(alpha=1.0), Triangle(), Triangle(height=1.0)]
NETS = {
    "LIF-LI": lambda: Sequential(LIF(IN, 5, decay=0.8, threshold=0.6), LI(5, OUT, decay=0.9)),
    "LIF-LIF-LIS": lambda: Sequential(
        LIF(IN, 6, decay=torch.tensor([0.5, 0.9]), threshold=0.5),
        LIF(6, 5, decay=0.7, threshold=0.3, bias=True),
        LIS(5, OUT, decay=0.8, trace_decay=0.6),
    ),
    "LIF": lambda: Sequential(LIF(IN, OUT, threshold=torch.tensor([0.4, 0.6, 0.8, 1.0]))),
}


def lively(name):
    """A network that fires."""
    torch.manual_seed(3)
    net = NETS[name]().double()
    for layer in net:
        draw_weights(layer, -0.2, 0.8)
    return net


def loop(net, xs, surrogate, *, detach_before=0):
    """All outputs by ordinary autograd; what came before a step is detached."""
    assert unrolled(Sequential(net[0]), xs, surrogate).sum() > 10, "a network that does not fire proves nothing"
    outputs = unrolled(net, xs, surrogate, forget_before=(detach_before,))
    return torch.cat([outputs[:detach_before].detach(), outputs[detach_before:]])


def gradients(net):
    return {name: value.grad for name, value in net.named_parameters() if value.grad is not None}


def assert_same(net, reference):
    found, wanted = gradients(net), gradients(reference)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert value.abs().max() > 0
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("surrogate", SURROGATES, ids=repr)
def test_the_derivative_is_that_of_the_value(surrogate):
    x = torch.linspace(-2.05, 2.05, 83, dtype=torch.float64, requires_grad=True)  # not where the triangle has corners
    (slope,) = torch.autograd.grad(surrogate.value(x).sum(), x)
    torch.testing.assert_close(surrogate.derivative(x.detach()), slope, rtol=1e-12, atol=1e-12)
    membrane = (1 + 0.5 * x.detach()).requires_grad_()
    spikes_ = surrogate(membrane, torch.tensor(0.5, dtype=torch.float64))
    assert torch.equal(spikes_.detach(), (membrane > 0.5).double())
    (slope,) = torch.autograd.grad(spikes_.sum(), membrane)
    torch.testing.assert_close(slope, surrogate.derivative((membrane.detach() - 0.5) / 0.5) / 0.5, rtol=1e-12, atol=0)


@pytest.mark.parametrize("through_reset", [False, True])
@pytest.mark.parametrize("surrogate", [FastSigmoid, Arctan, Triangle])
@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("window", [None, 7])
def test_bptt_is_autograd_through_a_plain_loop(name, surrogate, through_reset, window):
    net, reference, xs, signal = lively(name), lively(name), spikes(), normal(BATCH, OUT)
    rule = BPTT(net, surrogate=surrogate(through_reset=through_reset))
    rule.reset()
    mean = rule.forward(xs, reduce="mean", window=window)
    rule.backward(signal)
    wanted = loop(reference, xs, surrogate(through_reset=through_reset))[-(window or len(xs)) :].mean(dim=0)
    torch.testing.assert_close(mean, wanted.detach(), rtol=1e-12, atol=1e-12)
    wanted.backward(signal)
    assert_same(net, reference)


@pytest.mark.parametrize("name", NETS)
def test_without_reduction_the_signal_is_that_of_every_step_or_of_the_last(name):
    xs, signals = spikes(), normal(24, BATCH, OUT)
    for signal in (signals, signals[0]):
        net, reference = lively(name), lively(name)
        rule = BPTT(net)
        rule.reset()
        rule.forward(xs)
        rule.backward(signal)
        outputs = loop(reference, xs, FastSigmoid())
        (outputs if signal.ndim == 3 else outputs[-1]).backward(signal)
        assert_same(net, reference)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("k", [24, 100])
def test_truncated_as_late_as_the_sequence_is_long_it_is_bptt(name, k):
    net, reference, xs, signal = lively(name), lively(name), spikes(), normal(BATCH, OUT)
    for rule in (TruncatedBPTT(net, k=k), BPTT(reference)):
        rule.reset()
        rule.forward(xs, reduce="mean", window=10)
        rule.backward(signal)
    assert all(torch.equal(value, gradients(reference)[key]) for key, value in gradients(net).items())


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("window", [None, 3, 20])
@pytest.mark.parametrize("streamed", [False, True])
def test_truncated_it_is_autograd_from_a_state_that_is_a_fact(name, window, streamed):
    net, reference, signal = lively(name), lively(name), normal(BATCH, OUT)
    stream = poisson(torch.full((BATCH, IN), 0.4, dtype=torch.float64), 24, seed=2)
    xs = stream.dense()
    rule = TruncatedBPTT(net, k=6)
    rule.reset()
    mean = rule.forward(stream if streamed else xs, reduce="mean", window=window)
    rule.backward(signal)
    wanted = loop(reference, xs, FastSigmoid(), detach_before=18)[-(window or 24) :].mean(dim=0)
    torch.testing.assert_close(mean, wanted.detach(), rtol=1e-12, atol=1e-12)
    wanted.backward(signal)
    assert_same(net, reference)


def test_a_learning_moment_makes_what_came_before_a_fact():
    net, reference, xs, signal = lively("LIF-LI"), lively("LIF-LI"), spikes(), normal(BATCH, OUT)
    rule = BPTT(net)
    rule.reset()
    rule.forward(xs[:14], reduce="mean")
    rule.forward(xs[14:], reduce="mean")
    rule.backward(signal)
    loop(reference, xs, FastSigmoid(), detach_before=14)[14:].mean(dim=0).backward(signal)
    assert_same(net, reference)


@pytest.mark.parametrize("make", [BPTT, lambda net: TruncatedBPTT(net, k=5)])
def test_what_cannot_be_is_told(make):
    rule = make(lively("LIF-LI"))
    with pytest.raises(RuntimeError, match="nothing was run"):
        rule.backward(normal(BATCH, OUT))
    rule.forward(spikes(), reduce="mean")
    with pytest.raises(ValueError, match="expected a signal of shape"):
        rule.backward(normal(BATCH, OUT + 1))
    rule.backward(normal(BATCH, OUT))
    with pytest.raises(RuntimeError, match="nothing was run"):
        rule.backward(normal(BATCH, OUT))


def test_wrong_arguments_are_told():
    net = lively("LIF-LI")
    with pytest.raises(ValueError, match="surrogate must be one of fast_sigmoid, arctan, triangle, got 'sigmoid'"):
        BPTT(net, surrogate="sigmoid")
    with pytest.raises(ValueError, match="k must be a whole number of steps, at least 1, got 0"):
        TruncatedBPTT(net, k=0)
