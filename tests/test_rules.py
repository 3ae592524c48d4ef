"""Every rule of the table has `reset`, `forward` and `backward`; `Trace` is the network's own run and backward."""

import re
from functools import partial

import pytest
import torch

from tests.common import BATCH, IN, LAYERS, OUT, RULES, build, each, normal, spikes
from tests.tiny_training import PATTERNS, train
from tracetorch.encode import poisson
from tracetorch.rules import OTTT, EProp, Trace, TruncatedBPTT
from tracetorch.rules.surrogate import Triangle
from tracetorch.tasks import Patterns

NET = next(row for row in LAYERS if row.name == "network")


@each(RULES)
def test_a_rule_runs_the_networks_own_dynamics(row):
    net, plain, xs = build(NET), build(NET), spikes()
    rule = row.make(net)
    rule.reset()
    torch.testing.assert_close(rule.forward(xs), plain.run(xs), rtol=1e-12, atol=1e-12)
    rule.reset()
    plain.reset()
    for _ in range(2):  # the state goes on from one stretch to the next
        mean = rule.forward(xs, reduce="mean", window=5)
        torch.testing.assert_close(mean, plain.run(xs, reduce="mean", window=5), rtol=1e-12, atol=1e-12)


@each(RULES)
def test_a_rule_adds_to_every_learnable_gradient_and_to_no_other(row):
    net = build(NET)
    net[0].neuron.raw_threshold.requires_grad_(False)
    rule = row.make(net)
    sums = []
    for _ in range(2):
        rule.reset()
        rule.forward(spikes())
        rule.backward(normal(BATCH, OUT))
        gradients = {name: value.grad for name, value in net.named_parameters() if value.grad is not None}
        assert set(gradients) == set(NET.learned) - {"layers.0.neuron.raw_threshold"}
        sums.append({name: value.clone() for name, value in gradients.items()})
    assert all(torch.allclose(value, 2 * sums[0][name]) for name, value in sums[1].items())


@each(RULES)
def test_without_a_graph_it_is_the_networks_own_run_to_the_bit(row):
    net, plain, xs = build(NET), build(NET), spikes()
    rule = row.make(net)
    with torch.no_grad():
        assert torch.equal(rule.forward(xs, reduce="mean"), plain.run(xs, reduce="mean"))
    assert torch.equal(net[1].state.neuron.membrane, plain[1].state.neuron.membrane)


@each(RULES)
def test_what_a_rule_gives_has_no_graph_and_the_state_neither(row):
    net = build(NET)
    rule = row.make(net)
    rule.reset()
    assert not rule.forward(spikes()).requires_grad
    assert not any(value.requires_grad for layer in net for value in layer.state.tensors)


@each(RULES)
def test_the_state_after_it_is_the_networks_own(row):
    net, plain, xs = build(NET), build(NET), spikes()
    row.make(net).forward(xs)
    plain.run(xs)
    for layer, other in zip(net, plain, strict=True):
        for value, wanted in zip(layer.state.tensors, other.state.tensors, strict=True):
            torch.testing.assert_close(value, wanted, rtol=1e-12, atol=1e-12)


@each(RULES)
def test_begin_forgets_the_sequence_before(row):
    net = build(NET)
    rule = row.make(net)
    rule.reset()
    wanted = rule.forward(spikes())
    rule.reset()
    assert torch.equal(rule.forward(spikes()), wanted)
    rule.reset()
    rule.forward(spikes()[:, :1])  # another batch size


@pytest.mark.parametrize("streamed", [False, True])
def test_trace_is_run_and_backward(streamed):
    net, plain = build(NET), build(NET)
    rule, signal = Trace(net), normal(BATCH, OUT)
    rates = torch.full((BATCH, IN), 0.4, dtype=torch.float64)
    xs = poisson(rates, 24, seed=2) if streamed else spikes()
    rule.reset()
    for window in (None, 7):
        assert torch.equal(rule.forward(xs, reduce="mean", window=window), plain.run(xs, reduce="mean", window=window))
        assert rule.backward(signal) is None and plain.backward(signal).shape == (BATCH, IN)
    assert all(torch.equal(net.get_parameter(name).grad, plain.get_parameter(name).grad) for name in NET.learned)
    assert rule.net is net


def test_one_seed_gives_every_rule_the_same_weights_spikes_and_without_learning_the_same_outputs(tmp_path):
    """Through the whole loop: of the same run with every rule, at a step size of 0."""
    ends, records = [], []
    for row in RULES:
        seen = []

        class Seen(Patterns):
            def train_batch(self, number, seen=seen):
                batch = super().train_batch(number)
                seen.append(batch.xs.dense())
                return batch

        still = partial(torch.optim.SGD, lr=0.0)
        task = Seen(**PATTERNS, seed=3)
        run = train(tmp_path, name=row.name, seed=3, task=task, rule=row.make, optimizer=still, log_every=1)
        checkpoint = torch.load(run.folder.checkpoint("latest"), weights_only=True)
        ends.append((checkpoint["net"], torch.stack(seen)))
        kept = ("update", "loss", *task.metrics)
        records.append([{name: line[name] for name in kept if name in line} for line in run.folder.records()])
    for (net, seen), found in zip(ends, records, strict=True):
        assert seen.any() and torch.equal(seen, ends[0][1])
        assert all(torch.equal(value, ends[0][0][name]) for name, value in net.items())
        assert len(found) == len(records[0]) >= 4
        for line, wanted in zip(found, records[0], strict=True):
            assert line == pytest.approx(wanted, rel=1e-6)


@each(RULES)
@pytest.mark.parametrize("graph", [True, False])
@pytest.mark.parametrize(
    ("reading", "phrase"),
    [
        ({"reduce": "sum"}, "reduce must be None (all outputs) or \"mean\", got 'sum'"),
        ({"reduce": "mean", "window": 0}, "window=0 needs"),
        ({"reduce": "mean", "window": 1000}, "window=1000 needs"),
        ({"window": 3}, "window=3 needs"),
    ],
    ids=str,
)
def test_a_rule_refuses_what_the_networks_own_run_refuses(row, graph, reading, phrase):
    rule = row.make(build(NET))
    with torch.set_grad_enabled(graph), pytest.raises(ValueError, match=re.escape(phrase)):
        rule.forward(spikes(), **reading)


@each(RULES)
def test_a_rule_refuses_what_has_no_steps_or_no_batch(row):
    rule = row.make(build(NET))
    with pytest.raises(ValueError, match="at least 1 step"):
        rule.forward(spikes()[:0])
    with pytest.raises(ValueError, match="expects \\(time, batch, features\\)"):
        rule.forward(spikes()[:, 0])


@each(RULES)
def test_a_network_in_which_nothing_can_be_learnt_stays_as_it_is(row):
    net = build(NET).requires_grad_(False)
    rule = row.make(net)
    rule.forward(spikes())
    rule.backward(normal(BATCH, OUT))
    assert all(parameter.grad is None for parameter in net.parameters())


@pytest.mark.parametrize("make", [EProp, OTTT])
def test_a_rule_of_single_steps_refuses_a_surrogate_through_resets(make):
    with pytest.raises(ValueError, match="through_reset=True is for BPTT"):
        make(build(NET), surrogate=Triangle(through_reset=True))


def test_a_whole_number_of_steps_may_come_as_a_float():
    net, plain, xs = build(NET), build(NET), spikes()
    whole, same = TruncatedBPTT(net, k=5.0), TruncatedBPTT(plain, k=5)
    assert torch.equal(whole.forward(xs), same.forward(xs))
