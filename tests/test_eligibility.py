"""What e-prop remembers from stretch to stretch of a sequence; errors, looks and checkpoints do no harm to it."""

import pytest
import torch

from tests.common import BATCH, IN, OUT, draw_weights, normal, spikes
from tests.test_bptt import gradients, lively
from tracetorch.nn import LI, LIF, Sequential
from tracetorch.rules import EProp


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize("learnt", ["every", "last"])
def test_stretch_by_stretch_it_remembers_what_came_before(learnt):
    """Three stretches of a sequence, learnt from at each end or at the last; in the latter a sample starts again."""
    found = []
    for parts in ([6, 9, 9], [24]):
        net, xs = lively("LIF-LI"), spikes()
        if learnt == "last" and len(parts) == 1:
            xs[:6, 1] = 0  # what a sample that starts again after 6 steps has not seen
        rule = EProp(net)
        rule.reset()
        for at, part in enumerate(xs.split(parts)):
            rule.forward(part, reduce="mean", window=3)
            if learnt == "every" or at == len(parts) - 1:
                net.zero_grad()
                rule.backward(normal(BATCH, OUT))
            if at == 0 and len(parts) > 1 and learnt == "last":
                rule.reset(torch.tensor([False, True, False]))
        found.append(gradients(net))
    for name in ("layers.0.connection.weight", "layers.1.connection.weight"):
        assert found[0][name].abs().max() > 0
        torch.testing.assert_close(found[0][name], found[1][name], rtol=1e-9, atol=1e-9)


def test_masked_samples_begin_anew_with_biases_and_groups_too():
    """As if what these samples saw before had been nothing: a run of the rest alone, for them."""
    mask = torch.tensor([False, True, False])
    found = []
    for whole in (True, False):
        torch.manual_seed(3)
        net = Sequential(LIF(IN, 6, decay=torch.tensor([0.5, 0.9]), threshold=0.6, bias=True), LI(6, OUT)).double()
        draw_weights(net[0], -0.2, 0.8)
        rule, signal = EProp(net), normal(BATCH, OUT)
        rule.reset()
        if whole:
            rule.forward(spikes()[:9])
            rule.backward(signal)
            rule.reset(mask)
        net.zero_grad()
        rule.forward(spikes()[9:])
        rule.backward(signal * mask[:, None])  # of those alone that started again
        found.append(gradients(net))
    for name, value in found[1].items():
        torch.testing.assert_close(found[0][name], value, rtol=1e-9, atol=1e-9)
    assert found[0]["layers.0.connection.bias"].any() and found[0]["layers.0.connection.weight"].any()


def streams(rule, *what):
    """Stretches of one sequence, learnt from at the last alone; what is a number of steps, or something to do."""
    xs, at = spikes(), 0
    rule.reset()
    for part in what:
        if callable(part):
            part(rule, xs)
        else:
            rule.forward(xs[at : at + part], reduce="mean")
            at += part
    rule.net.zero_grad()
    rule.backward(normal(BATCH, OUT))
    return gradients(rule.net)["layers.0.connection.weight"]


def an_odd_input(rule, xs):
    with pytest.raises(ValueError, match=r"features|shape"):
        rule.forward(xs[..., :-1])


def an_odd_signal(rule, xs):
    with pytest.raises(ValueError, match=r"expected a signal of shape \(3, 4\), got"):
        rule.backward(normal(BATCH, OUT)[:, :1])


def a_look_without_learning(rule, xs):
    with torch.no_grad():
        rule.forward(xs[:1])


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize("error", [an_odd_input, an_odd_signal])
def test_after_an_error_it_goes_on_as_if_it_had_not_been(error):
    found = streams(EProp(lively("LIF-LI")), 9, error, 15)
    torch.testing.assert_close(found, streams(EProp(lively("LIF-LI")), 9, 15), rtol=1e-9, atol=1e-9)


def test_a_look_without_autograd_ends_all_eligibilities():
    found = streams(EProp(lively("LIF-LI")), 9, a_look_without_learning, 15)
    again = streams(EProp(lively("LIF-LI")), 9, lambda rule, xs: rule.backward(normal(BATCH, OUT)),
                    a_look_without_learning, 15)  # fmt: skip
    torch.testing.assert_close(found, again, rtol=1e-9, atol=1e-9)


def test_a_checkpoint_holds_its_eligibilities():
    def reload(rule, xs):
        rule.backward(normal(BATCH, OUT))
        state = rule.state_dict()
        rule._eligibilities = rule._none_yet()
        rule.load_state_dict(state)

    found = streams(EProp(lively("LIF-LI")), 9, reload, 15)
    torch.testing.assert_close(found, streams(EProp(lively("LIF-LI")), 9, 15), rtol=1e-9, atol=1e-9)


@pytest.mark.usefixtures("chunk")
def test_a_state_that_was_saved_stays_as_it_is():
    """So that one can go back to it, more than once."""
    rule, found = EProp(lively("LIF-LI")), []
    for xs in spikes().split(8)[:2]:
        rule.forward(xs, reduce="mean")
        rule.backward(normal(BATCH, OUT))
    saved, before = rule.state_dict(), rule.net.save_state()
    for _ in range(3):
        rule.load_state_dict(saved)
        rule.net.load_state(before)
        rule.net.zero_grad()
        for xs in spikes().split(8)[2:] * 2:
            rule.forward(xs, reduce="mean")
            rule.backward(normal(BATCH, OUT))
        rule.reset(torch.tensor([True, False, False]))
        found.append(gradients(rule.net))
    for name, value in found[0].items():
        assert value.any() and all(torch.equal(value, again[name]) for again in found[1:])


@pytest.mark.parametrize("above", [LI, LIF])
def test_eligibilities_are_formed_only_if_a_signal_may_meet_them(chunk, above):
    rule = EProp(Sequential(lively("LIF-LI")[0], above(5, OUT).double()))
    for stretch in (1, 2):
        rule.forward(spikes(), reduce="mean")
        rule.backward(normal(BATCH, OUT))
        (eligibility,) = rule._eligibilities
        assert (eligibility.weight is not None) is (above is LI and (chunk == 5 or stretch == 2))
