"""E-prop and OTTT in chunks of time, and eligibilities between learning moments; for BPTT see test_oracle."""

from functools import partial

import pytest
import torch

from tests.common import BATCH, IN, LAYERS, OUT, STEPS, build, draw_weights, each, gradients, normal, spikes
from tests.rules.test_bptt import lively
from tracetorch import backends
from tracetorch.encode import poisson
from tracetorch.nn import LIF, LIS, Sequential, neurons
from tracetorch.nn.network import as_stream
from tracetorch.rules import BPTT, OTTT, EProp, Trace, stepwise
from tracetorch.rules.stepwise import run_chunk
from tracetorch.rules.surrogate import Triangle

WEIGHT = "layers.0.connection.weight"


def assert_close(found, wanted):
    assert wanted.abs().max() > 0
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)


@each([row for row in LAYERS if row.name in ("LIF-groups-bias", "LIF-free-trace-per-input", "LIS-free-trace")])
def test_weights_use_the_trace_of_their_neuron(row):
    layer, delta, wanted = build(row), normal(STEPS, BATCH, OUT), 0
    (activity,) = run_chunk(Sequential(layer), as_stream(spikes(), None, None), Triangle())
    activity.learn(delta.clone(), slice(0, STEPS))
    layer.reset()
    groups = layer.input_trace.groups
    for x, one in zip(spikes(), delta, strict=True):
        layer(x)
        trace = layer.state.trace.view(groups, BATCH, IN)
        wanted += torch.einsum("bgo,gbi->goi", one.view(BATCH, groups, -1), trace).flatten(0, 1)
    assert_close(layer.weight.grad, wanted)


def learn(rule, signal=None):
    rule.backward(normal(BATCH, OUT) if signal is None else signal)


def learned(rule, *what, xs=None, signal=None, **reading):
    """Gradients of the last of several stretches; `what`: numbers of steps, or something to do between."""
    xs, at = spikes() if xs is None else xs, 0
    rule.reset()
    for part in what:
        if callable(part):
            part(rule)
        else:
            rule.forward(xs[at : at + part], **{"reduce": "mean"} | reading)
            at += part
    rule.net.zero_grad()
    learn(rule, signal)
    return gradients(rule.net)


def learned_at_steps(rule, xs, signal):
    """Gradients of a signal at every step of a sequence."""
    rule.reset()
    rule.forward(xs)
    rule.net.zero_grad()
    rule.backward(signal)
    return gradients(rule.net)


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize("make", [EProp, OTTT])
def test_a_signal_at_every_step_is_the_sum_of_its_parts(make):
    """The same at each step is that of the mean; and the gradient is linear in the signal."""
    net, xs = lively("LIF-LIF-LIS"), spikes()
    rule, signal = make(net, surrogate="arctan"), normal(BATCH, OUT)
    of_mean = learned(rule, STEPS, signal=signal)
    of_steps = learned_at_steps(rule, xs, (signal / STEPS).expand(STEPS, BATCH, OUT))
    one, other = normal(STEPS, BATCH, OUT), normal(STEPS, BATCH, OUT).flip(0)
    whole, first, second = (learned_at_steps(rule, xs, part) for part in (one + other, one, other))
    for name, value in of_mean.items():
        assert_close(of_steps[name], value)
        assert_close(first[name] + second[name], whole[name])


@pytest.mark.parametrize("make", [EProp, OTTT])
def test_a_tied_readout_gets_the_gradient_of_bptt_at_every_step(make):
    signal = normal(STEPS, BATCH, OUT)
    found, wanted = (learned_at_steps(one(grouped()), spikes(), signal) for one in (make, BPTT))
    assert_close(found["layers.1.connection.weight"], wanted["layers.1.connection.weight"])
    if make is EProp:  # and the layer below it
        surrogates = (one(grouped(), surrogate="triangle") for one in (EProp, BPTT))
        hidden = [learned_at_steps(rule, spikes(), signal)[WEIGHT] for rule in surrogates]
        assert_close(*hidden)


def test_the_trace_rule_takes_the_sum_over_the_steps_at_its_present_trace():
    net, signal = lively("LIF-LIF-LIS"), normal(STEPS, BATCH, OUT)
    found = learned_at_steps(Trace(net), spikes(), signal)
    rule = Trace(net)
    rule.reset()
    rule.forward(spikes())
    net.zero_grad()
    rule.backward(signal.sum(dim=0))
    for name, value in gradients(net).items():
        assert_close(found[name], value)


def grouped():
    """Hidden neurons of two decays, with biases."""
    torch.manual_seed(3)
    hidden = LIF(IN, 6, decay=torch.tensor([0.5, 0.9]), threshold=0.6, bias=True).double()
    draw_weights(hidden, -0.2, 0.8)
    return Sequential(hidden, LIS(6, OUT, decay=0.7, bias=True).double())


@pytest.mark.parametrize("reduce", [None, "mean"])
@pytest.mark.parametrize("make", [EProp, OTTT])
def test_the_gradient_does_not_depend_on_the_chunks(make, reduce, monkeypatch):
    """Down to single steps; with groups, free traces, biases, streams, and a sequence that is under way already."""
    found, stream = [], poisson(torch.full((BATCH, IN), 0.4, dtype=torch.float64), 24, seed=2)
    for size in (1, 5, 64):
        monkeypatch.setattr(stepwise, "CHUNK", size)
        net = lively("LIF-LIF-LIS")
        net[2].connection.bias = torch.nn.Parameter(torch.full((OUT,), 0.1).double())
        xs = stream if size == 5 else stream.dense()
        found.append(learned(make(net, surrogate="arctan"), 3, 21, xs=xs, reduce=reduce))
    assert len(found[0]) == 10
    for name, value in found[0].items():
        assert_close(found[1][name], value)
        assert_close(found[2][name], value)


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize("reduce", [None, "mean"])
@pytest.mark.parametrize(
    ("rule", "make"), [(EProp, grouped), (EProp, lambda: lively("LIF")), (OTTT, lambda: lively("LIF"))]
)
def test_eprop_equals_bptt_below_the_readout_and_both_rules_do_in_the_last_layer(rule, make, reduce):
    """A network that fires to the end has no filter."""
    found = learned(rule(make(), surrogate="triangle"), 24, reduce=reduce)
    wanted = learned(BPTT(make(), surrogate="triangle"), 24, reduce=reduce)
    for name in [name for name in wanted if name.endswith(("weight", "bias"))]:
        assert_close(found[name], wanted[name])


def test_with_a_spiking_readout_eprop_has_no_filter_and_equals_ottt():
    def make():
        torch.manual_seed(3)
        net = Sequential(LIF(IN, 6, threshold=0.6), LIF(6, OUT, threshold=0.3)).double()
        for layer in net:
            draw_weights(layer, -0.2, 0.8)
        return net

    assert_close(
        learned(EProp(make(), surrogate="arctan"), 24)[WEIGHT], learned(OTTT(make(), surrogate="arctan"), 24)[WEIGHT]
    )


def test_random_feedback_replaces_the_weights_above_and_follows_its_seed():
    rule = EProp(lively("LIF-LI"), feedback="random", seed=4)
    (feedback,) = rule.feedback_weights()
    other = EProp(lively("LIF-LI"))
    other.net[1].weight.data.copy_(feedback)
    assert_close(learned(rule, 24)[WEIGHT], learned(other, 24)[WEIGHT])
    same, another = (EProp(lively("LIF-LI"), feedback="random", seed=of).feedback_weights()[0] for of in (4, 5))
    assert torch.equal(feedback, same) and not torch.equal(feedback, another)


def train_hidden(rule, on):
    rule.net[0].requires_grad_(on)


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((), ()),
        ((learn,), (learn,)),
        ((learn, partial(train_hidden, on=False)), (learn, partial(train_hidden, on=True))),
    ],
    ids=["one-learning-moment", "three", "frozen-for-a-while"],
)
def test_eligibilities_continue_from_part_to_part_of_a_sequence(first, second):
    found = learned(EProp(grouped()), 6, *first, 9, *second, 9, window=3)
    wanted = learned(EProp(grouped()), 24, window=3)
    for name in (WEIGHT, "layers.0.connection.bias", "layers.1.connection.weight"):
        assert_close(found[name], wanted[name])


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize("between", [(), (learn,)], ids=["no-learning-moment", "one"])
def test_a_masked_reset_clears_the_eligibilities_of_its_samples(between):
    """As if what these samples saw before had been nothing: a run of the rest alone, for them."""
    mask = torch.tensor([False, True, False])
    signal, alone = normal(BATCH, OUT) * mask[:, None], EProp(grouped())
    found = learned(EProp(grouped()), 4, learn, 5, *between, lambda rule: rule.reset(mask), 15, signal=signal)
    alone.forward(spikes()[9:], reduce="mean")
    alone.backward(signal)
    for name, value in gradients(alone.net).items():
        assert_close(found[name], value)


def former(saved, net):
    """Eligibilities as they were saved before: with an input trace at every step, and weights by group."""
    found = []
    for at, one in enumerate(saved["eligibilities"]):
        (xs, slope, trace, steps), layer = one["last"], net[at]
        groups, decay = layer.input_trace.groups, layer.trace_decay.detach()
        traces, ones = [trace], [(1 - layer.neuron.decay**steps) / (1 - layer.neuron.decay)]
        for x in xs:
            traces.append(decay * traces[-1] + x)
            ones.append(layer.neuron.decay * ones[-1] + 1)
        by_group = one["by_sample"].unflatten(1, (groups, -1)).transpose(0, 1).flatten(0, 1)
        last = [torch.stack(traces[1:], dim=1), torch.stack(ones[1:]).detach(), slope.flatten(0, 1)]
        found.append({"last": last, "weight": by_group, "bias": one["bias"]})
    return {"eligibilities": found}


def test_saved_eligibilities_stay_as_they_are_while_the_rule_that_saved_or_loaded_them_goes_on():
    rule, found = EProp(grouped()), []
    for part in spikes()[:16].split(8):
        rule.forward(given := part.clone(), reduce="mean")
        learn(rule)
        given.zero_()  # after `backward` the input is the caller's again
    saved, state = rule.state_dict(), rule.net.save_state()
    assert "_given" not in vars(rule._eligibilities[0].last)  # the input that was drawn to save it
    before = str(saved)
    for other, loaded in ((rule, saved), (EProp(grouped()), saved), (EProp(grouped()), former(saved, rule.net))):
        other.load_state_dict(loaded)
        other.net.load_state(state)
        other.net.zero_grad()
        other.reset(torch.tensor([False, True, False]))
        other.forward(spikes()[16:], reduce="mean")
        learn(other)
        assert str(saved) == before
        found.append(gradients(other.net))
    for name, value in found[0].items():
        assert_close(found[1][name], value)
        assert_close(found[2][name], value)


@pytest.mark.usefixtures("chunk")
def test_hooks_own_neurons_and_other_devices_give_the_same_gradients(monkeypatch):
    """With hooks the whole stretch runs again; without compiled scans, and with own neurons, in torch."""

    class OwnLIF(neurons.LIF):
        kernel = None

    class OwnLIS(neurons.LIS):
        kernel = None

    for make in (EProp, OTTT):
        found = []
        for kind in ("compiled", "hooked", "torch", "own"):
            net = lively("LIF-LIF-LIS")
            if kind == "hooked":
                net[1].register_forward_hook(lambda *_: None)
            if kind == "torch":
                monkeypatch.setattr(backends, "sums_slopes", lambda *_: False)
            if kind == "own":
                for layer in net:
                    layer.neuron.__class__ = OwnLIF if layer.neuron.spiking else OwnLIS
                    layer.neuron.kernel = None
            found.append(learned(make(net, surrogate="arctan"), 7, learn, 17, window=7))
            monkeypatch.undo()
        for name, value in found[0].items():
            for other in found[1:]:
                assert_close(other[name], value)


def test_a_refused_input_or_signal_changes_nothing():
    def errors(rule):
        with pytest.raises(ValueError, match=r"expected a signal of shape \(3, 4\), got \(3, 1\)"):
            rule.backward(normal(BATCH, OUT)[:, :1])
        with pytest.raises(ValueError, match=r"features|shape"):
            rule.forward(spikes()[..., :-1])

    assert_close(learned(EProp(grouped()), 9, errors, 15)[WEIGHT], learned(EProp(grouped()), 9, 15)[WEIGHT])


@torch.no_grad()
def look(rule):
    rule.forward(spikes()[:1])


def test_a_forward_without_autograd_ends_all_eligibilities():
    assert_close(learned(EProp(grouped()), 9, look, 15)[WEIGHT], learned(EProp(grouped()), 9, learn, look, 15)[WEIGHT])
