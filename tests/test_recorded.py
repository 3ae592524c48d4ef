"""A current that membranes and spikes are a record of is the product's, saves it, and is void once anything changed."""

import copy
from functools import partial

import pytest
import torch

import tracetorch as tt
from tests.common import BATCH, IN, OUT, STEPS, normal, spikes
from tracetorch.nn import LI, LIF, LIS, Sequential, learning, recorded

HIDDEN = 5
FIXED = ("weight", "bias", "threshold")
_FREE = {"trace_decay": 0.8}


@pytest.fixture(autouse=True)
def _however_few(monkeypatch):
    monkeypatch.setattr(recorded, "MANY", 1)


def made(readout=LIS, dtype=torch.float64, above=None, **neuron):
    """Two hidden layers and a readout that all forget alike, with weights large enough that neurons fire."""
    torch.manual_seed(0)
    first = LIF(IN, HIDDEN, **{"learn": FIXED, "bias": True, "threshold": torch.linspace(0.5, 1.5, HIDDEN)} | neuron)
    second = LIF(HIDDEN, HIDDEN, **{"learn": FIXED, "bias": True} | (above or {}))
    net = Sequential(first, second, readout(HIDDEN, OUT, learn="weight")).to(dtype)
    for layer in net:
        layer.weight.data.mul_(2).add_(0.1)
        if layer.bias is not None:
            layer.bias.data.uniform_(-0.1, 0.1)
    return net


def is_on_record(net, at=0):
    """Whether it is; to ask takes it off."""
    return recorded.current(net[at], net[at + 1]) is not None


def gradients(net, signal):
    net.zero_grad()
    net.backward(signal)
    return {name: parameter.grad for name, parameter in net.named_parameters() if parameter.requires_grad}


def without_records(net, signal):
    """The gradients by way of the products."""
    for layer in net:
        layer.record = None
    return gradients(net, signal)


@pytest.mark.parametrize("readout", [LI, LIS])
@pytest.mark.parametrize("steps", [1, 2, STEPS, 40 * STEPS])
@pytest.mark.parametrize("chunk", [None, 7])
def test_what_is_on_record_is_the_product(readout, steps, chunk):
    net, xs = made(readout), spikes(steps)
    net.run(xs, reduce="mean", chunk=chunk)
    for below, above in zip(list(net)[:-1], list(net)[1:], strict=True):
        current, scale = recorded.current(below, above)
        average = below.average_input()
        torch.testing.assert_close(below.state.trace * scale, average, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(current, learning.average_current(below, average), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rate", ["line", "logistic"])
def test_it_gives_the_gradients_that_the_products_give(dtype, rate):
    net, signal = made(dtype=dtype, rate=rate), normal(BATCH, OUT).to(dtype)
    mean = net.run(spikes().to(dtype), reduce="mean")
    assert 0 < net[1].average_input().mean() < 1 and torch.isfinite(mean).all()
    found, wanted = gradients(net, signal), without_records(net, signal)
    assert set(found) == set(wanted) and all(gradient.abs().sum() > 0 for gradient in found.values())
    torch.testing.assert_close(found, wanted, rtol=1e-9 if dtype == torch.float64 else 1e-3, atol=1e-6)
    if dtype == torch.float64:
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)


def test_it_saves_the_product(monkeypatch):
    net, taken, real = made(), [], learning.average_current
    monkeypatch.setattr(learning, "average_current", lambda layer, average: taken.append(layer) or real(layer, average))
    net.run(spikes(), reduce="mean")
    net.backward(normal(BATCH, OUT))
    assert taken == [net[2]]
    net.backward(normal(BATCH, OUT))  # weights may have been written to past torch's back
    assert taken == [net[2], net[2], net[1], net[0]]


def _optimizer(net, **options):
    gradients(net, normal(BATCH, OUT))
    torch.optim.Adam(net.parameters(), **options).step()


def _again(net):
    old = net[0].record
    net.reset()
    for x in spikes(STEPS):
        net(x)
    net[0].record = old


@torch.no_grad()
def _by_hand(net):
    net.backward(normal(BATCH, OUT))
    for parameter in net.parameters():
        if parameter.grad is not None:
            parameter.data -= 0.1 * parameter.grad


CHANGES = {
    "an optimizer's step": _optimizer,
    "a fused optimizer's step": partial(_optimizer, fused=True),
    "a weight": lambda net: net[0].weight.detach().add_(0.1),
    "steps by hand": _by_hand,
    "another weight": lambda net: setattr(net[0].weight, "data", net[0].weight.data.clone()),
    "a threshold": lambda net: net[0].raw_threshold.detach().add_(0.1),
    "a step more": lambda net: net(spikes()[0]),
    "a run more": lambda net: net.run(spikes()),
    "a step of the layer alone": lambda net: net[0](spikes()[0]),
    "a run of the one above alone": lambda net: net[1].run(normal(STEPS, BATCH, HIDDEN)),
    "a state given": lambda net: net.load_state(net.save_state()),
    "a state written to": lambda net: net[0].state.membrane.zero_(),
    "a trace written to": lambda net: net[0].state.trace.mul_(2),
    "the trace above written to": lambda net: net[1].state.trace.mul_(2),
    "the steps of a lane": lambda net: net[0].state.steps[1:].fill_(1),
    "some lanes forgotten": lambda net: net.reset(torch.tensor([True] + [False] * (BATCH - 1))),
    "all lanes forgotten": lambda net: net.reset(torch.ones(BATCH, dtype=torch.bool)),
    "reset, then step by step": lambda net: (net.reset(), [net(x) for x in spikes()]),
    "an old record": _again,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_once_anything_changed_it_is_void(change):
    net, signal = made(), normal(BATCH, OUT)
    net.run(spikes())
    assert net[0].record
    change(net)
    kept = net[0].record
    assert not is_on_record(net)
    net[0].record = kept
    found = gradients(net, signal)
    torch.testing.assert_close(found, without_records(net, signal), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("lanes", [None, torch.ones(BATCH, dtype=torch.bool)])
def test_a_run_that_begins_with_memories_is_not_recorded(lanes):
    net = made()
    net.run(spikes())
    net.reset(lanes)
    net.run(spikes())
    assert is_on_record(net) == (lanes is None)  # lanes keep a state, though a blank one


UNLIKE = {
    "decays": {"decay": 0.8},
    "groups": {"decay": torch.full((HIDDEN,), 0.9)},
    "free-trace": _FREE,
    "bank": {"bank": [0.97]},
    "decay-learns": {"learn": ["weight", "decay"]},
}


@pytest.mark.parametrize("neuron", UNLIKE.values(), ids=UNLIKE)
def test_who_remembers_otherwise_keeps_no_record(neuron):
    net = made(**neuron)
    net.run(spikes())
    assert not is_on_record(net) and is_on_record(net, at=1)


@pytest.mark.parametrize("above", [{"decay": 0.8}, _FREE], ids=["decay", "free-trace"])
def test_nor_is_there_one_if_the_layer_above_remembers_otherwise(above):
    net = made(above=above)
    net.run(spikes())
    assert not is_on_record(net)


def test_rounded_weights_leave_no_record_of_those_that_learn():
    net = made(dtype=torch.float32)
    net.precision = torch.bfloat16
    net.run(spikes().float())
    assert not is_on_record(net)


def test_what_was_inferred_does_no_harm():
    net = made()
    with torch.inference_mode():
        net.run(spikes())
    net[1].reset()
    with torch.inference_mode():
        net[1].run(normal(STEPS, BATCH, HIDDEN))
    net.reset()
    net.run(spikes())
    found, wanted = gradients(net, normal(BATCH, OUT)), gradients(made_and_run(), normal(BATCH, OUT))
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)


def made_and_run():
    net = made()
    net.run(spikes())
    return net


def test_nobody_and_no_time_leave_no_record():
    net = made()
    net.run(torch.zeros(STEPS, 0, IN, dtype=torch.float64))
    assert not net[0].record


def test_a_copy_has_no_record_of_the_other_network():
    net = made()
    net.run(spikes())
    other = copy.deepcopy(net)
    assert net[0].record and not other[0].record


def test_small_layers_are_not_asked(monkeypatch):
    monkeypatch.setattr(recorded, "MANY", IN * HIDDEN + 1)
    net = made()
    net.run(spikes())
    assert not is_on_record(net)


def test_training_with_records_is_training(monkeypatch):
    losses = []
    for many in (1, 10**9):
        monkeypatch.setattr(recorded, "MANY", many)
        net, rates = made(dtype=torch.float32), torch.rand(BATCH, IN, generator=torch.Generator().manual_seed(3))
        rule, optimizer = tt.rules.Trace(net), torch.optim.Adam(net.parameters(), 0.01)
        for update in range(20):
            rule.begin()
            mean = rule.forward(tt.encode.poisson(rates, STEPS, update), reduce="mean")
            assert (net[0].record is not None) == (many == 1)
            loss, signal = tt.loss.cross_entropy(mean, torch.arange(BATCH) % OUT)
            rule.backward(signal)
            optimizer.step()
            optimizer.zero_grad()
        losses.append(float(loss))
    assert losses[0] == pytest.approx(losses[1], rel=0.05) and losses[0] < 1.2
