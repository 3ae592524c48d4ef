"""Surrogates; backpropagation through time, whole and truncated, against autograd through the oracle's plain loop."""

import pytest
import torch

from tests.common import BATCH, IN, OUT, draw_weights, normal
from tests.kernel_cases import combined
from tests.oracle import unrolled
from tracetorch.encode import poisson
from tracetorch.nn import LI, LIF, LIS, Sequential
from tracetorch.rules import BPTT, TruncatedBPTT
from tracetorch.rules.surrogate import SURROGATES, Arctan, FastSigmoid, Triangle

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


AT_MINUS_HALF = {
    FastSigmoid(): 1 / 36, FastSigmoid(slope=3.0): 4 / 25, Triangle(): 0.15, Triangle(height=1.0): 0.5,
    Arctan(): 1 / (1 + (torch.pi / 2) ** 2), Arctan(alpha=1.0): 0.5 / (1 + (torch.pi / 4) ** 2),
}  # fmt: skip


@pytest.mark.parametrize(("surrogate", "half"), AT_MINUS_HALF.items(), ids=str)
def test_the_derivative_of_a_surrogate_is_that_of_its_value(surrogate, half):
    x = torch.linspace(-2.05, 2.05, 83, dtype=torch.float64, requires_grad=True)  # not where the triangle has corners
    (slope,) = torch.autograd.grad(surrogate.value(x).sum(), x)
    torch.testing.assert_close(surrogate.derivative(x.detach()), slope, rtol=1e-12, atol=1e-12)
    assert surrogate.derivative(torch.tensor(-0.5).double()).item() == pytest.approx(half, rel=1e-12)


@pytest.mark.parametrize(("surrogate", "middle"), [(FastSigmoid(), 0.0), (Arctan(), 0.5), (Triangle(), 0.15)])
def test_the_value_of_a_surrogate_at_the_threshold(surrogate, middle):
    assert surrogate.value(torch.zeros(1)).item() == pytest.approx(middle)


@pytest.mark.parametrize(
    ("name", "surrogate", "through_reset", "read", "k", "streamed"),
    combined(
        name=NETS,
        surrogate=SURROGATES,
        through_reset=(False, True),
        read=("steps", "last", 3, 20, None),  # the outputs, the last of them, or their mean over a window
        k=(None, 6.0, 100),  # a whole number may come as a float
        streamed=(False, True),
    ),
)
def test_bptt_is_autograd_through_a_plain_loop_from_a_state_k_steps_ago(
    name, surrogate, through_reset, read, k, streamed
):
    net, reference = lively(name), lively(name)
    stream = poisson(torch.full((BATCH, IN), 0.4, dtype=torch.float64), 24, seed=2)
    options = {"surrogate": surrogate, "through_reset": through_reset}
    rule = TruncatedBPTT(net, k=k, **options) if k else BPTT(net, **options)
    rule.reset()
    reading = {} if read in ("steps", "last") else {"reduce": "mean", "window": read}
    found = rule.forward(stream if streamed else stream.dense(), **reading)
    signal = torch.randn_like(found) if read == "steps" else normal(BATCH, OUT)
    rule.backward(signal)
    before, smooth = 18 if k == 6 else 0, SURROGATES[surrogate](through_reset=through_reset)
    wanted = unrolled(reference, stream.dense(), smooth, forget_before=(before,))
    wanted = torch.cat([wanted[:before].detach(), wanted[before:]])
    wanted = wanted[-(read or 24) :].mean(dim=0) if reading else wanted
    torch.testing.assert_close(found, wanted.detach(), rtol=1e-12, atol=1e-12)
    (wanted[-1] if read == "last" else wanted).backward(signal)
    for name, parameter in reference.named_parameters():
        assert (parameter.grad is None) is (net.get_parameter(name).grad is None)
        if parameter.grad is not None:
            assert parameter.grad.abs().max() > 0
            torch.testing.assert_close(net.get_parameter(name).grad, parameter.grad, rtol=1e-9, atol=1e-9)
