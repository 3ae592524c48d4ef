"""A chunk of time taken at once is its steps one after another, each with a graph of its own."""

from collections import namedtuple

import torch

from tests.common import BATCH, IN, LAYERS, OUT, STEPS, Row, build, each, normal, spikes
from tracetorch import functional as F
from tracetorch.nn import LIF
from tracetorch.rules.passage import add_gradient, go_through
from tracetorch.rules.surrogate import Triangle
from tracetorch.rules.unrolled import using

SURROGATE = Triangle(height=1.0)


class Tiring(LIF):
    """Neurons with something more to remember: each spike raises their threshold for a while."""

    state_type = namedtuple("TiringState", ("weariness", *F.LIFState._fields))
    kernel = None

    def step(self, current, state):
        threshold = self.threshold + 0.3 * state.weariness
        fired, membrane = F.lif_step(current, state.membrane, self.decay, threshold, self.surrogate)
        return fired, state._replace(membrane=membrane, weariness=0.7 * state.weariness + fired)


ROWS = [
    *(row for row in LAYERS if row.of not in ("Sequential", "feedforward")),
    Row("Tiring", "Tiring", lambda: Tiring(IN, OUT, decay=0.8), ("weight", "raw_decay", "raw_threshold"), "spikes"),
]


def stepwise(layer, xs, signal):
    """Outputs, slopes, signals at the currents and gradients of decays and thresholds, a step at a time."""
    found, now, raw = [], layer.copy_state(BATCH), learnable_raw(layer)
    with using(layer, SURROGATE):
        for x, told in zip(xs, signal, strict=True):
            current = torch.nn.functional.linear(x, layer.weight, layer.bias).detach().requires_grad_()
            output, now = layer.step(current, now)
            now = type(now)(*(value.detach() for value in now))
            slope = torch.autograd.grad(output.sum(), current, retain_graph=True)
            wanted = [current, *raw.values()]
            rest = torch.autograd.grad(output, wanted, told, allow_unused=True, materialize_grads=True)
            found.append((output.detach(), *slope, *rest))
    outputs, slopes, at_current, *rest = map(torch.stack, zip(*found, strict=True))
    return outputs, slopes, at_current, dict(zip(raw, [value.sum(dim=0) for value in rest], strict=True))


def learnable_raw(layer):
    """Decays and thresholds, but not that of a free trace, which no step reads."""
    named = {name: value for name, value in layer.named_parameters() if value.requires_grad}
    return {name: value for name, value in named.items() if name in ("raw_decay", "raw_threshold")}


@each(ROWS)
def test_a_passage_is_its_steps(row):
    layer, signal = build(row), normal(19, BATCH, OUT)
    layer.run(spikes()[:5])
    xs, start = spikes()[5:], layer.copy_state(BATCH)
    outputs, slopes, at_current, others = stepwise(layer, xs, signal)
    passage = go_through(layer, xs, start, SURROGATE)
    assert not layer.spiking or 0 < outputs.mean() < 1
    torch.testing.assert_close(passage.outputs, outputs)
    torch.testing.assert_close(passage.slope(), slopes.flatten(0, 1), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(passage.pull(signal.flatten(0, 1)), at_current.flatten(0, 1), rtol=1e-12, atol=1e-12)
    for name, value in others.items():
        assert value.abs().max() > 0 or not layer.spiking
        torch.testing.assert_close(layer.get_parameter(name).grad, value, rtol=1e-12, atol=1e-12)


@each(ROWS)
def test_after_it_the_layer_is_where_its_own_run_would_be(row):
    layer, xs = build(row), spikes()
    layer.run(xs[:5])
    start = layer.copy_state(BATCH)
    kept = [value.clone() for value in start]
    passage = go_through(layer, xs[5:], start, SURROGATE)
    assert all(torch.equal(value, before) for value, before in zip(start, kept, strict=True))
    assert all(torch.equal(value, before) for value, before in zip(layer.state, kept, strict=True))
    layer.run(xs[5:])
    for name in {*layer.state._fields} - {"second"}:  # traces of the trace, which no passage reads
        torch.testing.assert_close(getattr(passage.after, name), getattr(layer.state, name), rtol=1e-12, atol=1e-12)


@each([row for row in ROWS if "weight" in row.learned])
def test_weights_learn_from_the_trace_that_their_neuron_has(row):
    layer, xs, delta = build(row), spikes(), normal(STEPS, BATCH, OUT)
    go_through(layer, xs, layer.copy_state(BATCH), SURROGATE).learn(delta.flatten(0, 1))
    weight, bias = torch.zeros(OUT, IN).double(), torch.zeros(OUT).double()
    decay = layer.trace_decay.detach().flatten()
    for neuron in range(OUT):
        group = neuron * layer.groups // OUT
        kept = decay[group] if layer.groups > 1 else decay
        trace, ones = torch.zeros(BATCH, IN).double(), torch.zeros(BATCH).double()
        for step in range(STEPS):
            trace = kept * trace + xs[step]
            ones = layer.decay.detach().expand(OUT)[neuron] * ones + 1
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
