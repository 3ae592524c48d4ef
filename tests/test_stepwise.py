"""A chunk of time taken at once is its steps one after another, each with a graph of its own."""

from collections import namedtuple
from functools import partial

import torch

from tests.common import BATCH, IN, LAYERS, OUT, STEPS, Row, build, each, normal, spikes
from tracetorch import functional as F
from tracetorch.nn import Layer
from tracetorch.nn.neurons import LIF
from tracetorch.rules.bptt import using
from tracetorch.rules.stepwise import add_gradient, run_stepwise
from tracetorch.rules.surrogate import Triangle

SURROGATE = Triangle(height=1.0)


class Tiring(LIF):
    """Neurons with a second state: each spike raises their threshold for a while."""

    state_type = namedtuple("TiringState", ("membrane", "weariness"))
    kernel = None

    def step(self, current, state):
        threshold = self.threshold + 0.3 * state.weariness
        fired, membrane = F.lif_step(current, state.membrane, self.decay, threshold, self.surrogate)
        return fired, self.state_type(membrane, 0.7 * state.weariness + fired)


ROWS = [
    *(row for row in LAYERS if row.of not in ("Sequential", "feedforward")),
    Row(
        "Tiring",
        "Tiring",
        lambda: Layer(IN, OUT, neuron=partial(Tiring, decay=0.8)),
        ("connection.weight", "neuron.raw_decay", "neuron.raw_threshold"),
        "spikes",
    ),
]


def stepwise(layer, xs, signal):
    """Outputs, slopes, signals at the currents and gradients of decays and thresholds, a step at a time."""
    found, now, raw = [], layer.own_state(BATCH).neuron, learnable_raw(layer)
    with using(layer, SURROGATE):
        for x, told in zip(xs, signal, strict=True):
            current = torch.nn.functional.linear(x, layer.weight, layer.bias).detach().requires_grad_()
            output, now = layer.neuron.step(current, now)
            now = type(now)(*(value.detach() for value in now))
            slope = torch.autograd.grad(output.sum(), current, retain_graph=True)
            wanted = [current, *raw.values()]
            rest = torch.autograd.grad(output, wanted, told, allow_unused=True, materialize_grads=True)
            found.append((output.detach(), *slope, *rest))
    outputs, slopes, at_current, *rest = map(torch.stack, zip(*found, strict=True))
    return outputs, slopes, at_current, dict(zip(raw, [value.sum(dim=0) for value in rest], strict=True))


def learnable_raw(layer):
    """Decays and thresholds, but not that of a free trace, which no step reads."""
    return {name: value for name, value in layer.neuron.named_parameters() if value.requires_grad}


@each(ROWS)
def test_the_graph_is_its_steps(row):
    layer, signal = build(row), normal(19, BATCH, OUT)
    layer.run(spikes()[:5])
    xs, start = spikes()[5:], layer.own_state(BATCH).copy()
    outputs, slopes, at_current, others = stepwise(layer, xs, signal)
    graph = run_stepwise(layer, xs, start, SURROGATE)
    assert not layer.neuron.spiking or 0 < outputs.mean() < 1
    torch.testing.assert_close(graph.outputs, outputs)
    torch.testing.assert_close(graph.slope(), slopes.flatten(0, 1), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(graph.vjp(signal.flatten(0, 1)), at_current.flatten(0, 1), rtol=1e-12, atol=1e-12)
    for name, value in others.items():
        assert value.abs().max() > 0 or not layer.neuron.spiking
        torch.testing.assert_close(layer.neuron.get_parameter(name).grad, value, rtol=1e-12, atol=1e-12)


@each(ROWS)
def test_after_it_the_layer_is_where_its_own_run_would_be(row):
    layer, xs = build(row), spikes()
    layer.run(xs[:5])
    start = layer.own_state(BATCH).copy()
    kept = [value.clone() for value in start.tensors]
    graph = run_stepwise(layer, xs[5:], start, SURROGATE)
    assert all(torch.equal(value, before) for value, before in zip(start.tensors, kept, strict=True))
    assert all(torch.equal(value, before) for value, before in zip(layer.state.tensors, kept, strict=True))
    layer.run(xs[5:])
    for name in {*layer.state.named()} - {"trace_sensitivity"}:  # traces of the trace, which no graph reads
        torch.testing.assert_close(graph.after.named()[name], layer.state.named()[name], rtol=1e-12, atol=1e-12)


@each([row for row in ROWS if "weight" in row.learned])
def test_weights_learn_from_the_trace_that_their_neuron_has(row):
    layer, xs, delta = build(row), spikes(), normal(STEPS, BATCH, OUT)
    run_stepwise(layer, xs, layer.own_state(BATCH).copy(), SURROGATE).learn(delta.flatten(0, 1))
    weight, bias = torch.zeros(OUT, IN).double(), torch.zeros(OUT).double()
    decay = layer.trace_decay.detach().flatten()
    for neuron in range(OUT):
        group = neuron * layer.input_trace.groups // OUT
        kept = decay[group] if layer.input_trace.groups > 1 else decay
        trace, ones = torch.zeros(BATCH, IN).double(), torch.zeros(BATCH).double()
        for step in range(STEPS):
            trace = kept * trace + xs[step]
            ones = layer.neuron.decay.detach().expand(OUT)[neuron] * ones + 1
            weight[neuron] += delta[step, :, neuron] @ trace
            bias[neuron] += delta[step, :, neuron] @ ones
    torch.testing.assert_close(layer.weight.grad, weight, rtol=1e-9, atol=1e-9)
    if "bias" in row.learned:
        torch.testing.assert_close(layer.bias.grad, bias, rtol=1e-9, atol=1e-9)
    else:
        assert layer.bias is None or layer.bias.grad is None


def test_what_is_fixed_gets_no_gradient():
    layer = build(next(row for row in ROWS if row.name == "LIF-frozen"))
    add_gradient(layer, "weight", torch.ones(OUT, IN))
    assert layer.weight.grad is None
