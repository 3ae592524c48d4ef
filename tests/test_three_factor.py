"""Three factors: eligibilities are sums of what each action would have taught; exact in time for a tied readout."""

import pytest
import torch
from torch import Tensor

from tests.common import normal
from tracetorch.nn import LI, LIF, LIS, Sequential
from tracetorch.rules import ThreeFactor

IN, OUT, BATCH, ACTIONS, STEPS = 5, 4, 3, 4, 6
DECAY = 0.8
READOUTS = pytest.mark.parametrize(
    "make",
    [
        lambda: LIS(IN, OUT, bias=True),
        lambda: LI(IN, OUT, bias=True),
        lambda: LIS(IN, OUT, decay=[0.6, 0.95], bias=True),
    ],
    ids=["LIS", "LI", "groups"],
)


def spikes(batch: int = BATCH, seed: int = 0) -> Tensor:
    """(actions, steps, batch, IN)."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(ACTIONS, STEPS, batch, IN, generator=generator) < 0.4).double()


def hidden_net() -> Sequential:
    torch.manual_seed(0)
    net = Sequential(LIF(IN, 7, bias=True), LIS(7, OUT, bias=True)).double()
    net[0].weight.data.mul_(2).add_(0.2)
    return net


def gradients(net: Sequential) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


@READOUTS
def test_a_readouts_gradient_is_reinforce_through_time_with_discounted_eligibility(make):
    torch.manual_seed(0)
    net, xs = Sequential(make().double()), spikes()
    chosen = torch.randint(OUT, (ACTIONS, BATCH), generator=torch.Generator().manual_seed(1))
    rewards, rule = normal(ACTIONS, BATCH, seed=2), ThreeFactor(net, decay=DECAY)
    for part, action, reward in zip(xs, chosen, rewards, strict=True):
        p = torch.softmax(rule.net.run(part)[-1], -1) if isinstance(net[0], LI) else rule.forward(part)[-1]
        rule.observe(torch.nn.functional.one_hot(action, OUT) - p)
        rule.backward(-reward)
    layer = net[0]
    weight, bias = layer.weight.detach().clone().requires_grad_(), layer.bias.detach().clone().requires_grad_()
    membrane, objective = torch.zeros(BATCH, OUT).double(), torch.zeros(()).double()
    for at, part in enumerate(xs):
        for x in part:
            membrane = layer.neuron.decay.detach() * membrane + x @ weight.T + bias
        later = DECAY ** torch.arange(ACTIONS - at).double()
        returns = later @ rewards[at:]
        objective = objective + (torch.log_softmax(membrane, -1).gather(1, chosen[at][:, None])[:, 0] * returns).sum()
    wanted = torch.autograd.grad(-objective, [weight, bias])
    torch.testing.assert_close([layer.weight.grad, layer.bias.grad], list(wanted), rtol=0, atol=1e-9)


@pytest.mark.parametrize("at", ["logits", "output"])
def test_eligibilities_are_the_explicit_sum_over_the_actions(at):
    """Sample by sample: what `backward` of the network would have taught at each action, and how long ago that was."""
    net, xs, scores = hidden_net(), spikes(), normal(ACTIONS, BATCH, OUT)
    modulation, rule = normal(BATCH, seed=3), ThreeFactor(net, decay=DECAY)
    wanted: dict[str, Tensor] = {}
    for number, (part, score) in enumerate(zip(xs, scores, strict=True)):
        rule.forward(part)
        rule.observe(score, at=at)
        weighted = DECAY ** (ACTIONS - 1 - number) * modulation[:, None] * score
        net.backward(weighted, at=at, return_input_grad=False)
    for name, value in gradients(net).items():
        if name.endswith(("weight", "bias")):
            wanted[name] = value
    net.zero_grad()
    rule.backward(modulation)
    found = gradients(net)
    assert (
        found.keys()
        == wanted.keys()
        == {f"layers.{at}.connection.{kind}" for at in (0, 1) for kind in ("weight", "bias")}
    )
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-12)


def test_what_went_with_what_is_kept_and_averages_lose_it():
    """Two things are seen in turn, each with an action of its own: apart, score and input average to nothing."""
    torch.manual_seed(0)
    net = Sequential(LI(2, 2, decay=0.01).double())
    rule, score_trace = ThreeFactor(net, decay=0.99), torch.zeros(1, 2).double()
    for seen, action in [(0, 0), (1, 1)] * 20:
        x = torch.nn.functional.one_hot(torch.tensor([seen]), 2).double()
        rule.forward(x[None])
        score = torch.nn.functional.one_hot(torch.tensor([action]), 2) - 0.5
        rule.observe(score)
        score_trace = 0.99 * score_trace + score
    rule.backward(torch.tensor([1.0]).double())
    kept = net[0].weight.grad.clone()
    assert kept[0, 0] > 5 and kept[1, 1] > 5 and kept[0, 1] < -5 and kept[1, 0] < -5
    net.zero_grad()
    net.backward(score_trace)
    assert net[0].weight.grad.abs().max() < 1


def test_the_last_layer_alone_may_have_them_and_the_others_learn_from_the_trace_of_the_score():
    net, xs, scores = hidden_net(), spikes(), normal(ACTIONS, BATCH, OUT)
    modulation, rule, every = normal(BATCH, seed=3), ThreeFactor(net, decay=DECAY, layers="last"), None
    both, trace = ThreeFactor(net, decay=DECAY), torch.zeros(BATCH, OUT).double()
    for part, score in zip(xs, scores, strict=True):
        rule.forward(part)
        rule.observe(score)
        both.observe(score)
        trace = DECAY * trace + score
    rule.backward(modulation)
    found = gradients(net)
    net.zero_grad()
    both.backward(modulation)
    every = gradients(net)
    net.zero_grad()
    net.backward(modulation[:, None] * trace, at="logits", return_input_grad=False)
    by_trace = gradients(net)
    for name in ("layers.1.connection.weight", "layers.1.connection.bias"):
        torch.testing.assert_close(found[name], every[name])
        assert not torch.allclose(found[name], by_trace[name])
    for name in ("layers.0.connection.weight", "layers.0.connection.bias", "layers.0.neuron.raw_threshold"):
        torch.testing.assert_close(found[name], by_trace[name])


def test_a_sample_that_begins_anew_answers_for_nothing_that_was_before():
    net, xs, scores = hidden_net(), spikes(), normal(ACTIONS, BATCH, OUT)
    rule, done = ThreeFactor(net, decay=DECAY), torch.tensor([False, True, False])
    rule.forward(xs[0])
    rule.observe(scores[0])
    rule.reset(done)
    only = torch.tensor([0.0, 1, 0]).double()
    rule.backward(only)  # a reward for the last action may come as late as this
    assert gradients(net)["layers.1.connection.weight"].abs().sum() > 0
    net.zero_grad()
    rule.forward(xs[1])
    rule.observe(scores[1])
    rule.backward(only)
    found = gradients(net)
    net.zero_grad()
    fresh = ThreeFactor(net, decay=DECAY)
    fresh.reset()
    fresh.forward(xs[1])
    fresh.observe(scores[1])
    fresh.backward(only)
    for name, value in gradients(net).items():
        torch.testing.assert_close(found[name], value)


def test_what_is_kept_does_not_grow():
    net, rule = hidden_net(), None
    rule = ThreeFactor(net, decay=DECAY)
    sizes = set()
    for part, score in zip(spikes(), normal(ACTIONS, BATCH, OUT), strict=True):
        rule.forward(part)
        rule.observe(score)
        rule.backward(torch.ones(BATCH))
        sizes.add(sum(value.numel() for value in rule.state_dict()["kept"].values()))
    assert sizes == {BATCH * (IN * 7 + 7 + 7 * OUT + OUT)}


def test_it_goes_on_from_a_saved_state():
    def act(rule, number):
        rule.forward(spikes()[number])
        rule.observe(normal(ACTIONS, BATCH, OUT)[number])

    one, other = (ThreeFactor(hidden_net(), decay=DECAY, layers="last") for _ in range(2))
    act(one, 0)
    one.reset(torch.tensor([True, False, False]))
    other.net.load_state(one.net.save_state())
    other.load_state_dict(one.state_dict())
    for rule in (one, other):
        act(rule, 1)
        rule.backward(torch.ones(BATCH).double())
    for name, value in gradients(one.net).items():
        assert torch.equal(gradients(other.net)[name], value)


def test_a_saved_state_and_the_lanes_given_stay_as_they_are():
    rule, lanes = ThreeFactor(hidden_net(), decay=DECAY), torch.tensor([True, False, False])
    scores = normal(ACTIONS, BATCH, OUT)

    def act() -> dict[str, Tensor]:
        rule.forward(spikes()[1])
        rule.observe(scores[1])
        return {name: value.clone() for name, value in rule._kept.items()}

    act()
    rule.reset(lanes)
    lanes.logical_not_()
    saved, before = rule.state_dict(), rule.net.save_state()
    first = act()
    assert torch.equal(saved["new"], torch.tensor([True, False, False]))
    for _ in range(2):
        rule.load_state_dict(saved)
        rule.net.load_state(before)
        again = act()
        assert all(torch.equal(again[name], value) for name, value in first.items())


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"decay": 1.0}, "decay must be at least 0 and below 1"), ({"layers": "first"}, 'layers must be "all" or "last"')],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        ThreeFactor(hidden_net(), **settings)


def test_a_reward_for_nothing_is_refused():
    with pytest.raises(RuntimeError, match=r"call rule\.observe"):
        ThreeFactor(hidden_net()).backward(torch.ones(BATCH))
