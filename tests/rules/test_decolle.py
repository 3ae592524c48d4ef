"""DECOLLE: local gradients are those of backpropagation through time; no error comes from above."""

import pytest
import torch
from torch.nn.functional import one_hot, smooth_l1_loss

from tests.common import BATCH, IN, OUT, gradients, normal, spikes
from tracetorch.nn import LIF, LIS, Sequential
from tracetorch.rules import BPTT, DECOLLE
from tracetorch.rules.surrogate import Triangle

STEPS = 150  # over two chunks
TARGET = torch.arange(BATCH) % OUT
TRIANGLE = Triangle(height=1.0)


def network(sign=1.0):
    torch.manual_seed(0)
    layers = LIF(IN, 8, decay=[0.6, 0.95], bias=True), LIF(8, 5, decay=torch.full((5,), 0.9)), LIS(5, OUT)
    net = Sequential(*layers).double()
    for layer in net:
        layer.weight.data.mul_(2).add_(0.2)
    net[2].weight.data.mul_(sign)
    return net


def learned(net, signal, **label):
    rule = DECOLLE(net, surrogate=TRIANGLE, seed=3)
    rule.forward(spikes(STEPS), **({} if signal.ndim == 3 else {"reduce": "mean", "window": 70}))
    rule.backward_label(signal, **label)
    return rule


def check_local_losses(rule, counted, target):
    """Each hidden layer's gradient against BPTT of a network of this layer alone, and torch's loss."""
    values = spikes(STEPS)
    for number, readout in enumerate(rule.local_readouts()):
        alone = Sequential(network()[number])
        bptt = BPTT(alone, surrogate=TRIANGLE)
        values, inputs = bptt.forward(values), values
        leaf = values.clone().requires_grad_()
        wanted = one_hot(target.expand(STEPS, BATCH)[counted], OUT).double()
        loss = smooth_l1_loss((leaf @ readout.t())[counted], wanted)
        bptt.backward(torch.autograd.grad(loss, leaf)[0])
        assert inputs.any() and 0.01 < float(values.mean()) < 0.9
        for name in ("weight", "bias") if number == 0 else ("weight",):
            one, other = getattr(rule.net[number], name).grad, getattr(alone[0], name).grad
            assert float(other.abs().max()) > 1e-6
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_each_hidden_layer_learns_by_bptt_from_its_local_loss():
    counted = torch.zeros(STEPS, BATCH, dtype=torch.bool)
    counted[-70:] = True
    check_local_losses(learned(network(), normal(BATCH, OUT), target=TARGET), counted, TARGET)


def test_targets_at_steps_count_where_they_are_given():
    counted = normal(STEPS, BATCH) > 0.5
    target = torch.where(counted, torch.arange(STEPS)[:, None] % OUT, -1)
    rule = learned(network(), normal(STEPS, BATCH, OUT), target=target, counted=counted)
    check_local_losses(rule, counted, target)


def test_no_error_comes_from_above_and_the_readout_learns_from_the_signal_alone():
    found = [gradients(learned(network(sign), normal(BATCH, OUT), target=TARGET).net) for sign in (1.0, -3.0)]
    other = gradients(learned(network(), 2 * normal(BATCH, OUT), target=TARGET).net)
    for name, value in found[0].items():
        is_hidden = not name.startswith("layers.2")
        assert torch.equal(value, found[1][name]) is is_hidden
        torch.testing.assert_close(other[name], value if is_hidden else 2 * value)
    assert not torch.equal(DECOLLE(network(), seed=1).local_readouts()[0], DECOLLE(network()).local_readouts()[0])


def test_a_signal_without_a_target_is_refused():
    rule = DECOLLE(network())
    rule.forward(spikes(STEPS))
    with pytest.raises(RuntimeError, match=r"learns from labels: call rule.backward_label\(signal, target=target\)"):
        rule.backward(normal(BATCH, OUT))
