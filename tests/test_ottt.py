"""Online training through time: its trace formula, written out; where it is exact, and where it is known not to be."""

import pytest
import torch

from tests.common import BATCH, IN, OUT, normal, spikes
from tests.test_bptt import gradients, lively
from tracetorch.encode import poisson
from tracetorch.nn import LI, LIS, Sequential
from tracetorch.rules import BPTT, OTTT, stepwise
from tracetorch.rules.surrogate import Arctan, Triangle


def formula(net, xs, signal, window, surrogate):
    """Weight gradients of a LIF layer and a readout above it, Σ_t δ(t)·â(t)ᵀ, by plain sums."""
    hidden, readout = net
    membrane, above = (torch.zeros(BATCH, layer.out_features, dtype=torch.float64) for layer in net)
    trace_in, trace_hidden = torch.zeros(BATCH, IN, dtype=torch.float64), torch.zeros_like(membrane)
    sums = [torch.zeros_like(layer.weight) for layer in net]
    for step, x in enumerate(xs):
        trace_in = hidden.neuron.decay * trace_in + x
        raised = hidden.neuron.decay * membrane + x @ hidden.weight.T
        fired = (raised > hidden.neuron.threshold).double()
        membrane = raised - hidden.neuron.threshold * fired
        trace_hidden = readout.neuron.decay * trace_hidden + fired
        above = readout.neuron.decay * above + fired @ readout.weight.T
        if step < len(xs) - window:
            continue
        delta = signal / window
        if isinstance(readout, LIS):
            p = torch.softmax(above, dim=-1)
            delta = p * (delta - (p * delta).sum(dim=-1, keepdim=True))
        sums[1] += delta.T @ trace_hidden
        slope = (
            surrogate.derivative((raised - hidden.neuron.threshold) / hidden.neuron.threshold) / hidden.neuron.threshold
        )
        sums[0] += ((delta @ readout.weight) * slope).T @ trace_in
    return sums


@pytest.mark.parametrize("chunk", [5, 64])
@pytest.mark.parametrize("window", [1, 7, 24])
@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("readout", [LI, LIS])
@pytest.mark.parametrize("surrogate", [Arctan(), Triangle(height=1.0)], ids=repr)
def test_its_weight_gradient_is_the_trace_formula(chunk, window, streamed, readout, surrogate, monkeypatch):
    monkeypatch.setattr(stepwise, "CHUNK", chunk)
    net = Sequential(lively("LIF-LI")[0], readout(5, OUT, decay=0.9).double())
    stream = poisson(torch.full((BATCH, IN), 0.4, dtype=torch.float64), 24, seed=2)
    signal = normal(BATCH, OUT)
    rule = OTTT(net, surrogate=surrogate)
    rule.reset()
    mean = rule.forward(stream if streamed else stream.dense(), reduce="mean", window=window)
    rule.backward(signal)
    with torch.no_grad():
        wanted = formula(net, stream.dense(), signal, window, surrogate)
    assert mean.shape == signal.shape
    for layer, value in zip(net, wanted, strict=True):
        assert value.abs().max() > 0
        torch.testing.assert_close(layer.weight.grad, value, rtol=1e-9, atol=1e-9)


def both(name, *, reduce):
    """Gradients of OTTT and of BPTT, of the same network on the same input."""
    net, reference, signal = lively(name), lively(name), normal(BATCH, OUT)
    for rule in (OTTT(net), BPTT(reference)):
        rule.reset()
        rule.forward(spikes(), reduce=reduce)
        rule.backward(signal)
    return gradients(net), gradients(reference)


@pytest.mark.parametrize("reduce", [None, "mean"])
@pytest.mark.parametrize(
    ("name", "exact"), [("LIF-LI", ["layers.1.connection.weight"]), ("LIF", ["layers.0.connection.weight"])]
)
def test_the_last_layers_weights_get_the_gradient_of_bptt(name, exact, reduce):
    found, wanted = both(name, reduce=reduce)
    for key in exact:
        torch.testing.assert_close(found[key], wanted[key], rtol=1e-9, atol=1e-9)


def test_known_limit_what_reaches_the_output_through_membranes_above_is_lost():
    found, wanted = both("LIF-LI", reduce=None)
    left, right = (grads["layers.0.connection.weight"].flatten() for grads in (found, wanted))
    agreement = float(torch.nn.functional.cosine_similarity(left, right, dim=0))
    assert 0.3 < agreement < 0.9, agreement


def test_the_gradient_is_at_the_last_step_where_every_output_was_given():
    net, other, signal = lively("LIF-LI"), lively("LIF-LI"), normal(BATCH, OUT)
    one, two = OTTT(net), OTTT(other)
    one.forward(spikes())
    one.backward(signal)
    two.forward(spikes(), reduce="mean", window=1)
    two.backward(signal)
    assert all(torch.equal(value, gradients(other)[name]) for name, value in gradients(net).items())


def test_the_state_goes_on_from_one_stretch_to_the_next():
    net, other, signal = lively("LIF-LI"), lively("LIF-LI"), normal(BATCH, OUT)
    parts, whole = OTTT(net), OTTT(other)
    parts.forward(spikes()[:10])
    parts.forward(spikes()[10:])
    parts.backward(signal)
    whole.forward(spikes())
    whole.backward(signal)
    for name, value in gradients(net).items():
        torch.testing.assert_close(value, gradients(other)[name], rtol=1e-12, atol=1e-12)
    with pytest.raises(RuntimeError, match="nothing was run"):
        whole.backward(signal)
