"""The rule own_part: the direction of its gradient is that of the trace rule, and its state can be restored."""

import pytest
import torch

import tracetorch as tt
from tracetorch.cli.templates.rule import OwnPart


def network():
    """A network with the same weights at each call."""
    torch.manual_seed(0)
    return tt.nn.Sequential(tt.nn.LIF(4, 8), tt.nn.LI(8, 2))


def gradients(rule, xs, signal):
    """The gradients of all weights after a sequence, as one vector."""
    rule.reset()
    rule.forward(xs, reduce="mean")
    rule.net.zero_grad()
    rule.backward(signal)
    return torch.cat([weight.grad.flatten() for weight in rule.net.parameters()])


def test_the_gradient_is_that_of_the_trace_rule_up_to_a_positive_factor():
    xs, signal = torch.rand(20, 3, 4), torch.randn(3, 2)
    own, trace = gradients(OwnPart(network()), xs, signal), gradients(tt.rules.Trace(network()), xs, signal)
    assert trace.any()
    torch.testing.assert_close(own * signal.norm(), trace)


def test_its_state_is_restored_and_a_wrong_decay_refused():
    rule, restored = OwnPart(network()), OwnPart(network())
    gradients(rule, torch.rand(20, 3, 4), torch.randn(3, 2))
    restored.load_state_dict(rule.state_dict())
    assert restored.peak == rule.peak > 0
    with pytest.raises(ValueError, match="decay must lie in"):
        OwnPart(network(), decay=1.0)
