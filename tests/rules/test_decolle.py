"""DECOLLE: local gradients are those of backpropagation through time; no error comes from above."""

import pytest
import torch
from torch.nn.functional import one_hot, smooth_l1_loss

from tests.common import BATCH, IN, OUT, gradients, normal, spikes
from tracetorch.nn import LI, LIF, LIS, Sequential
from tracetorch.rules import DECOLLE
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


PENALTIES = {"membrane_penalty": 0.8, "silence_penalty": 0.3, "min_rate": 0.35}


def smooth_network():
    torch.manual_seed(0)
    return Sequential(LI(IN, 8), LIS(8, OUT)).double()


def learned(net, signal, options=None, **label):
    rule = DECOLLE(net, surrogate=TRIANGLE, seed=3, **options or {})
    rule.forward(spikes(STEPS), **({} if signal.ndim == 3 else {"reduce": "mean", "window": 70}))
    rule.backward_label(signal, **label)
    return rule


def run(layer, xs):
    """Spikes with a surrogate, and (m − θ)/θ of each step, by autograd through time but not through the reset."""
    threshold, membrane, outputs, excess = layer.neuron.threshold.detach(), 0.0, [], []
    for current in torch.nn.functional.linear(xs, layer.weight, layer.bias):
        membrane = layer.neuron.decay.detach() * membrane + current
        excess.append((membrane - threshold) / threshold)
        outputs.append(TRIANGLE(membrane, threshold))
        membrane = membrane - threshold * outputs[-1].detach()
    return torch.stack(outputs), torch.stack(excess)


def check_local_losses(rule, counted, target):
    """Each hidden layer's gradient against autograd of torch's loss, and of the penalties."""
    values = spikes(STEPS)
    for number, readout in enumerate(rule.local_readouts()):
        layer = network()[number]
        inputs, (values, excess) = values.detach(), run(layer, values.detach())
        wanted = one_hot(target.expand(STEPS, BATCH)[counted], OUT).double()
        rates = torch.stack(
            [step[mask].sum() / max(1, mask.sum() * step.shape[1]) for step, mask in zip(values, counted, strict=True)]
        )
        shares = counted.sum(dim=1).double() / counted.sum()
        loss = smooth_l1_loss((values @ readout.t())[counted], wanted)
        loss = loss + rule.membrane_penalty * excess[counted].relu().mean()
        loss = loss + rule.silence_penalty * (shares * (rule.min_rate - rates).relu()).sum()
        loss.backward()
        assert inputs.any() and 0.01 < float(values.detach().mean()) < 0.9
        if rule.silence_penalty:
            assert 0 < int((rates < rule.min_rate)[counted.any(dim=1)].sum()) < int(counted.any(dim=1).sum())
        for name in ("weight", "bias") if number == 0 else ("weight",):
            one, other = getattr(rule.net[number], name).grad, getattr(layer, name).grad
            assert float(other.abs().max()) > 1e-6
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("options", [{}, PENALTIES], ids=["plain", "penalties"])
def test_each_hidden_layer_learns_by_bptt_from_its_local_loss(options):
    counted = torch.zeros(STEPS, BATCH, dtype=torch.bool)
    counted[-70:] = True
    check_local_losses(learned(network(), normal(BATCH, OUT), options, target=TARGET), counted, TARGET)


def test_targets_at_steps_count_where_they_are_given():
    counted = normal(STEPS, BATCH) > 0.5
    target = torch.where(counted, torch.arange(STEPS)[:, None] % OUT, -1)
    rule = learned(network(), normal(STEPS, BATCH, OUT), PENALTIES, target=target, counted=counted)
    check_local_losses(rule, counted, target)


def test_no_error_comes_from_above_and_the_readout_learns_from_the_signal_alone():
    found = [gradients(learned(network(sign), normal(BATCH, OUT), target=TARGET).net) for sign in (1.0, -3.0)]
    other = gradients(learned(network(), 2 * normal(BATCH, OUT), target=TARGET).net)
    for name, value in found[0].items():
        is_hidden = not name.startswith("layers.2")
        assert torch.equal(value, found[1][name]) is is_hidden
        torch.testing.assert_close(other[name], value if is_hidden else 2 * value)
    smooth = [
        gradients(learned(smooth_network(), normal(BATCH, OUT), options, target=TARGET).net)
        for options in ({}, PENALTIES)
    ]
    torch.testing.assert_close(*smooth, rtol=0, atol=0)  # the penalties are for layers that spike
    assert not torch.equal(DECOLLE(network(), seed=1).local_readouts()[0], DECOLLE(network()).local_readouts()[0])


def test_a_signal_without_a_target_is_refused():
    rule = DECOLLE(network())
    rule.forward(spikes(STEPS))
    with pytest.raises(RuntimeError, match=r"learns from labels: call rule.backward_label\(signal, target=target\)"):
        rule.backward(normal(BATCH, OUT))
