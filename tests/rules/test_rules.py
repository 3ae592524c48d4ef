"""Every rule of the table runs the network and learns from labels; `Trace` is the network's own run and backward."""

from functools import partial

import pytest
import torch

from tests.common import BATCH, LAYERS, OUT, RULES, build, each, normal, spikes
from tracetorch.functional import MembraneState
from tracetorch.nn import LI, LIF, Layer, Sequential, neurons
from tracetorch.rules import (
    BPTT,
    DECOLLE,
    ESDRTRL,
    OTPE,
    OTTT,
    STLLR,
    CoarseBPTT,
    EProp,
    ThreeFactor,
    Trace,
    TruncatedBPTT,
)
from tracetorch.rules.surrogate import Arctan, Triangle

CONV = torch.nn.Conv2d(1, 6, 3)
NET = next(row for row in LAYERS if row.name == "network")
TARGET = torch.arange(BATCH)
close = partial(torch.testing.assert_close, rtol=1e-12, atol=1e-12)


@each(RULES)
def test_a_rule_runs_the_networks_own_dynamics(row):
    net, plain, xs = build(NET), build(NET), spikes()
    rule = row.make(net)
    rule.reset()
    outputs = rule.forward(xs)
    close(outputs, plain.run(xs))
    close(rule.forward(xs, reduce="mean", window=5), plain.run(xs, reduce="mean", window=5))  # the state goes on
    assert not outputs.requires_grad
    for layer, other in zip(net, plain, strict=True):
        for value, wanted in zip(layer.state.tensors, other.state.tensors, strict=True):
            assert not value.requires_grad
            close(value, wanted)
    rule.reset()
    assert torch.equal(rule.forward(xs), outputs)
    rule.reset()
    plain.reset()
    with torch.no_grad():  # another batch size; to the bit
        assert torch.equal(rule.forward(xs[:, :1], reduce="mean"), plain.run(xs[:, :1], reduce="mean"))
    assert torch.equal(net[1].state.neuron.membrane, plain[1].state.neuron.membrane)


@each(RULES)
def test_a_rule_adds_to_every_learnable_gradient_and_to_no_other(row):
    net = build(NET)
    fixed = {"layers.0.neuron.raw_threshold", "layers.1.connection.weight"}
    for name in fixed:
        net.get_parameter(name).requires_grad_(False)
    rule = row.make(net)
    sums = []
    for _ in range(2):
        rule.reset()
        rule.forward(spikes())
        rule.backward_label(normal(BATCH, OUT), target=TARGET)
        gradients = {name: value.grad for name, value in net.named_parameters() if value.grad is not None}
        assert set(gradients) == set(NET.learned) - fixed
        sums.append({name: value.clone() for name, value in gradients.items()})
    assert all(torch.allclose(value, 2 * sums[0][name]) for name, value in sums[1].items())
    net.zero_grad()
    net.requires_grad_(False)
    rule.forward(spikes())
    rule.backward_label(normal(BATCH, OUT), target=TARGET)
    assert all(parameter.grad is None for parameter in net.parameters())


@each(RULES)
def test_what_the_networks_own_run_refuses_and_signals_that_do_not_fit_are_refused(row):
    rule = row.make(build(NET))
    with pytest.raises(ValueError, match="at least 1 step"):
        rule.forward(spikes()[:0])
    with pytest.raises(ValueError, match=r"expects \(time, batch, features\)"):
        rule.forward(spikes()[:, 0])
    with pytest.raises(ValueError, match=r"expects a (chunk|step) of shape"):
        rule.forward(spikes()[..., :5])
    for graph in (True, False):
        with torch.set_grad_enabled(graph), pytest.raises(ValueError, match=r"window=1000 (needs|must)"):
            rule.forward(spikes(), reduce="mean", window=1000)
    rule.forward(spikes(), reduce="mean")
    with pytest.raises(ValueError, match=r"expect(s|ed) a signal of shape \(3, 4\), got \(3, 5\)"):
        rule.backward_label(normal(BATCH, OUT + 1), target=TARGET)
    rule.backward_label(normal(BATCH, OUT), target=TARGET)
    for forget in () if rule.is_online else (lambda: None, rule.reset, torch.no_grad()(lambda: rule.forward(spikes()))):
        forget()
        with pytest.raises(RuntimeError, match="nothing was run since the last learning moment"):
            rule.backward_label(normal(BATCH, OUT), target=TARGET)
        rule.forward(spikes())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(BPTT, surrogate="sigmoid"), "surrogate must be one of fast_sigmoid, arctan, triangle, got 'sigmoid'"),
        (partial(BPTT, window=0), "window must be a whole number of steps, at least 1, or None, got 0"),
        (partial(BPTT, window=1.5), "window must be a whole number of steps, at least 1, or None, got 1.5"),
        (partial(TruncatedBPTT, k=None), "k must be a whole number of steps, at least 1, got None"),
        (partial(TruncatedBPTT, k=0), "k must be a whole number of steps, at least 1, got 0"),
        (partial(TruncatedBPTT, k=1.5), "k must be a whole number"),
        (partial(CoarseBPTT, stretches=0), "stretches must be at least 1, got 0"),
        (partial(CoarseBPTT, spacing="octaves"), 'spacing must be "uniform" or "log", got \'octaves\''),
        (partial(EProp, surrogate=Triangle(through_reset=True)), "through_reset=True is for BPTT"),
        (partial(DECOLLE, membrane_penalty=-1.0), "membrane_penalty must be at least 0 and finite, got -1"),
        (partial(DECOLLE, min_rate=2.0), "min_rate must be from 0 to 1, got 2"),
        (partial(EProp, feedback="adaptive"), "feedback must be symmetric or random, got 'adaptive'"),
        (lambda net: EProp(Sequential(LIF(4, 4), LI(4, 4, decay=[0.5, 0.9]))), "needs a single one, got 2"),
        (partial(CoarseBPTT, decay=-0.1), "decay must be at least 0 and below 1, got -0.1"),
        (partial(ThreeFactor, decay=1.0), "decay must be at least 0 and below 1, got 1"),
        (partial(ThreeFactor, layers="first"), 'layers must be "all" or "last", got \'first\''),
        (lambda net: Arctan(alpha=0.0), "alpha must be above 0 and finite, got 0"),
        (lambda net: Triangle(height=torch.inf), "height must be above 0 and finite, got inf"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make(build(NET))


class WithoutSlope(neurons.LIF):
    decays_alone = True

    def step(self, current, state):
        membrane = self.decay * state.membrane + current
        spikes = (membrane > self.threshold).to(membrane.dtype)
        return spikes, MembraneState(membrane - self.threshold * spikes)


class ResetToZero(WithoutSlope):
    decays_alone = True

    def step(self, current, state):
        membrane = self.decay * state.membrane + current
        spikes = self.surrogate(membrane, self.threshold)
        return spikes, MembraneState(membrane * (1 - spikes.detach()))


@pytest.mark.parametrize(
    "place", [lambda neuron: Layer(4, 6, neuron=neuron), lambda neuron: Layer(CONV, neuron=neuron)]
)
def test_a_neuron_whose_steps_have_other_derivatives_than_a_rule_needs_is_refused(place):
    for neuron, rules, why in (
        (WithoutSlope, (BPTT, EProp, OTTT), "its output has no derivative: make spikes by"),
        (ResetToZero, (EProp, OTTT), "ResetToZero says `decays_alone = True`"),
    ):
        for rule in rules:
            if rule is BPTT or place(neuron=neuron).in_features:
                with pytest.raises(ValueError, match=f"would train .* wrongly: {why}"):
                    rule(Sequential(place(neuron=neuron)))
    assert BPTT(Sequential(place(neuron=ResetToZero))) and Trace(Sequential(place(neuron=WithoutSlope)))
    zero = Sequential(LIF(4, 6, reset="zero"), LI(6, 2))
    for rule in (DECOLLE, ESDRTRL, OTPE, OTTT, STLLR, EProp):
        with pytest.raises(
            ValueError, match=r"would train LIF\(4, 6\) wrongly: .*; choose reset=subtract, or rule=trace"
        ):
            rule(zero)
    assert all(rule(zero) for rule in (BPTT, CoarseBPTT, ThreeFactor, Trace))
