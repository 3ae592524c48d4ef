"""E-prop: its definition, written out; where it equals backpropagation through time, and where it is known not to."""

import pytest
import torch

from tests.common import BATCH, IN, OUT, draw_weights, normal, spikes
from tests.test_bptt import gradients, lively
from tracetorch.encode import poisson
from tracetorch.nn import LI, LIF, LIS, Sequential
from tracetorch.rules import BPTT, EProp, stepwise
from tracetorch.rules.surrogate import Triangle


def definition(net, xs, signal, window, surrogate, feedback):
    """Σ_t L_j(t)·ē_ji(t) for every synapse and sample on its own, by plain loops."""
    hidden, readout = net
    sums = [torch.zeros_like(layer.weight) for layer in net]
    for sample in range(BATCH):
        v, y = torch.zeros(hidden.out_features).double(), torch.zeros(OUT).double()
        trace, filtered = torch.zeros(IN).double(), torch.zeros(hidden.out_features).double()
        eligibility = torch.zeros_like(hidden.weight)
        for step, x in enumerate(xs[:, sample]):
            trace = hidden.neuron.decay * trace + x
            raised = hidden.neuron.decay * v + hidden.weight @ x
            fired = (raised > hidden.neuron.threshold).double()
            v = raised - hidden.neuron.threshold * fired
            pseudo = (
                surrogate.derivative((raised - hidden.neuron.threshold) / hidden.neuron.threshold)
                / hidden.neuron.threshold
            )
            eligibility = readout.neuron.decay * eligibility + torch.outer(pseudo, trace)
            y = readout.neuron.decay * y + readout.weight @ fired
            filtered = readout.neuron.decay * filtered + fired
            if step < len(xs) - window:
                continue
            error = signal[sample] / window
            if isinstance(readout, LIS):
                p = torch.softmax(y, dim=-1)
                error = p * (error - p @ error)
            sums[0] += (feedback.T @ error)[:, None] * eligibility
            sums[1] += torch.outer(error, filtered)
    return sums


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize("feedback", ["symmetric", "random"])
@pytest.mark.parametrize("window", [1, 7, 24])
@pytest.mark.parametrize("readout", [LI, LIS])
@pytest.mark.parametrize("streamed", [False, True])
def test_its_weight_gradient_is_its_definition(feedback, window, readout, streamed):
    net = Sequential(lively("LIF-LI")[0], readout(5, OUT, decay=0.9).double())
    stream = poisson(torch.full((BATCH, IN), 0.4, dtype=torch.float64), 24, seed=2)
    signal, rule = normal(BATCH, OUT), EProp(net, feedback=feedback, seed=4)
    rule.reset()
    rule.forward(stream if streamed else stream.dense(), reduce="mean", window=window)
    rule.backward(signal)
    (sent_down,) = rule.feedback_weights()
    assert torch.equal(sent_down, net[1].weight) is (feedback == "symmetric")
    with torch.no_grad():
        wanted = definition(net, stream.dense(), signal, window, Triangle(), sent_down)
    for layer, value in zip(net, wanted, strict=True):
        assert value.abs().max() > 0
        torch.testing.assert_close(layer.weight.grad, value, rtol=1e-9, atol=1e-9)


def both(net, reference, *, reduce, **options):
    """Gradients of e-prop and of BPTT with the same surrogate, of the same network on the same input."""
    signal = normal(BATCH, OUT)
    for rule in (EProp(net, **options), BPTT(reference, surrogate="triangle")):
        rule.reset()
        rule.forward(spikes(), reduce=reduce)
        rule.backward(signal)
    return gradients(net), gradients(reference)


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize("reduce", [None, "mean"])
@pytest.mark.parametrize(
    ("hidden", "readout"),
    [
        (lambda: LIF(IN, 6, decay=0.8, threshold=0.6, bias=True), lambda: LI(6, OUT, decay=0.9, bias=True)),
        (lambda: LIF(IN, 6, decay=torch.tensor([0.5, 0.9]), threshold=0.6, bias=True), lambda: LIS(6, OUT, decay=0.7)),
    ],
    ids=["LI", "groups-LIS"],
)
def test_next_to_the_readout_nothing_is_dropped(hidden, readout, reduce):
    def make():
        torch.manual_seed(3)
        net = Sequential(hidden(), readout()).double()
        draw_weights(net[0], -0.2, 0.8)
        return net

    found, wanted = both(make(), make(), reduce=reduce)
    for name in [name for name in wanted if name.endswith(("weight", "bias"))]:
        assert wanted[name].abs().max() > 0
        torch.testing.assert_close(found[name], wanted[name], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("reduce", [None, "mean"])
def test_however_time_is_cut_into_chunks_it_is_the_same_gradient(reduce, monkeypatch):
    """Down to single steps; with groups, free traces, biases, and a sequence that is under way already."""
    found = []
    for size in (1, 5, 23, 64):
        monkeypatch.setattr(stepwise, "CHUNK", size)
        net = lively("LIF-LIF-LIS")
        net[2].connection.bias = torch.nn.Parameter(torch.full((OUT,), 0.1).double())
        rule = EProp(net, surrogate="arctan")
        rule.reset()
        rule.forward(spikes()[:3])
        rule.forward(spikes()[3:], reduce=reduce)
        rule.backward(normal(BATCH, OUT))
        found.append(gradients(net))
    assert len(found[0]) == 10 and all(value.abs().max() > 0 for value in found[0].values())
    for other in found[1:]:
        for name, value in found[0].items():
            torch.testing.assert_close(other[name], value, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("options", [{}, {"feedback": "random"}], ids=str)
def test_known_limit_further_down_and_with_random_feedback_it_is_another_gradient(options):
    found, wanted = both(lively("LIF-LIF-LIS"), lively("LIF-LIF-LIS"), reduce="mean", **options)
    name = "layers.0.connection.weight" if not options else "layers.1.connection.weight"
    agreement = float(torch.nn.functional.cosine_similarity(found[name].flatten(), wanted[name].flatten(), dim=0))
    assert abs(agreement) < 0.95, agreement


@pytest.mark.usefixtures("chunk")
def test_a_network_that_fires_to_the_end_has_no_filter():
    found, wanted = both(lively("LIF"), lively("LIF"), reduce="mean")
    torch.testing.assert_close(
        found["layers.0.connection.weight"], wanted["layers.0.connection.weight"], rtol=1e-9, atol=1e-9
    )


def test_random_feedback_follows_its_seed_and_stays():
    net = lively("LIF-LI")
    first, same, other = (EProp(net, feedback="random", seed=seed).feedback_weights()[0] for seed in (1, 1, 2))
    assert torch.equal(first, same) and not torch.equal(first, other)


def test_what_cannot_be_is_told():
    with pytest.raises(ValueError, match="feedback must be symmetric or random, got 'adaptive'"):
        EProp(lively("LIF-LI"), feedback="adaptive")
    several = Sequential(LIF(IN, 4), LI(4, OUT, decay=torch.tensor([0.5, 0.9])))
    with pytest.raises(ValueError, match="needs a single one"):
        EProp(several)
    with pytest.raises(RuntimeError, match="nothing was run"):
        EProp(lively("LIF-LI")).backward(normal(BATCH, OUT))
