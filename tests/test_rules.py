"""Every rule of the table has `begin`, `forward` and `backward`; `Trace` is the network's own run and backward."""

import pytest
import torch

from tests.common import BATCH, IN, LAYERS, OUT, RULES, build, each, normal, spikes
from tracetorch.encode import poisson
from tracetorch.rules import Trace

NET = next(row for row in LAYERS if row.name == "network")


@each(RULES)
def test_a_rule_runs_the_networks_own_dynamics(row):
    net, plain, xs = build(NET), build(NET), spikes()
    rule = row.make(net)
    rule.begin()
    torch.testing.assert_close(rule.forward(xs), plain.run(xs), rtol=1e-12, atol=1e-12)
    rule.begin()
    plain.reset()
    for _ in range(2):  # the state goes on from one stretch to the next
        mean = rule.forward(xs, reduce="mean", window=5)
        torch.testing.assert_close(mean, plain.run(xs, reduce="mean", window=5), rtol=1e-12, atol=1e-12)


@each(RULES)
def test_a_rule_adds_to_every_learnable_gradient_and_to_no_other(row):
    net = build(NET)
    net[0].raw_threshold.requires_grad_(False)
    rule = row.make(net)
    sums = []
    for _ in range(2):
        rule.begin()
        rule.forward(spikes())
        rule.backward(normal(BATCH, OUT))
        gradients = {name: value.grad for name, value in net.named_parameters() if value.grad is not None}
        assert set(gradients) == set(NET.learned) - {"layers.0.raw_threshold"}
        sums.append({name: value.clone() for name, value in gradients.items()})
    assert all(torch.allclose(value, 2 * sums[0][name]) for name, value in sums[1].items())


@each(RULES)
def test_without_a_graph_it_is_the_networks_own_run_to_the_bit(row):
    net, plain, xs = build(NET), build(NET), spikes()
    rule = row.make(net)
    with torch.no_grad():
        assert torch.equal(rule.forward(xs, reduce="mean"), plain.run(xs, reduce="mean"))
    assert torch.equal(net[1].state.membrane, plain[1].state.membrane)


@each(RULES)
def test_what_a_rule_gives_has_no_graph_and_the_state_neither(row):
    net = build(NET)
    rule = row.make(net)
    rule.begin()
    assert not rule.forward(spikes()).requires_grad
    assert not any(value.requires_grad for layer in net for value in layer.state)


@each(RULES)
def test_the_state_after_it_is_the_networks_own(row):
    net, plain, xs = build(NET), build(NET), spikes()
    row.make(net).forward(xs)
    plain.run(xs)
    for layer, other in zip(net, plain, strict=True):
        for value, wanted in zip(layer.state, other.state, strict=True):
            torch.testing.assert_close(value, wanted, rtol=1e-12, atol=1e-12)


@each(RULES)
def test_begin_forgets_the_sequence_before(row):
    net = build(NET)
    rule = row.make(net)
    rule.begin()
    wanted = rule.forward(spikes())
    rule.begin()
    assert torch.equal(rule.forward(spikes()), wanted)
    rule.begin()
    rule.forward(spikes()[:, :1])  # another batch size


@pytest.mark.parametrize("streamed", [False, True])
def test_trace_is_run_and_backward(streamed):
    net, plain = build(NET), build(NET)
    rule, signal = Trace(net), normal(BATCH, OUT)
    rates = torch.full((BATCH, IN), 0.4, dtype=torch.float64)
    xs = poisson(rates, 24, seed=2) if streamed else spikes()
    rule.begin()
    for window in (None, 7):
        assert torch.equal(rule.forward(xs, reduce="mean", window=window), plain.run(xs, reduce="mean", window=window))
        assert rule.backward(signal) is None and plain.backward(signal).shape == (BATCH, IN)
    assert all(torch.equal(net.get_parameter(name).grad, plain.get_parameter(name).grad) for name in NET.learned)
    assert rule.net is net
