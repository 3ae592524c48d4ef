"""Three factors: eligibilities are sums of what each action would have taught; exact in time for a tied readout."""

import pytest
import torch
from torch import Tensor

from tests.common import normal
from tests.rules.test_bptt import gradients
from tracetorch.nn import LI, LIF, LIS, Sequential
from tracetorch.rules import ThreeFactor

IN, OUT, BATCH, ACTIONS, STEPS, DECAY = 5, 4, 3, 4, 6, 0.8
SCORES, MODULATION = normal(ACTIONS, BATCH, OUT), normal(BATCH, seed=3)
XS = (normal(ACTIONS, STEPS, BATCH, IN, seed=5) > 0.3).double()


def hidden_net() -> Sequential:
    torch.manual_seed(0)
    net = Sequential(LIF(IN, 7, bias=True), LIS(7, OUT, bias=True)).double()
    net[0].weight.data.mul_(2).add_(0.2)
    return net


def act(rule: ThreeFactor, number: int, at: str = "logits") -> None:
    rule.forward(XS[number])
    rule.observe(SCORES[number], at=at)


def taught(rule: ThreeFactor, modulation: Tensor = MODULATION) -> dict[str, Tensor]:
    """Gradients of this reward alone."""
    rule.net.zero_grad()
    rule.backward(modulation)
    return gradients(rule.net)


@pytest.mark.parametrize(("kind", "decay"), [(LI, 0.9), (LIS, [0.6, 0.95])])
def test_a_readouts_gradient_is_reinforce_through_time_with_discounted_eligibility(kind, decay):
    torch.manual_seed(0)
    net, rewards = Sequential(kind(IN, OUT, decay=decay, bias=True).double()), normal(ACTIONS, BATCH, seed=2)
    chosen, rule = SCORES.argmax(dim=-1), ThreeFactor(net, decay=DECAY)
    for part, action, reward in zip(XS, chosen, rewards, strict=True):
        output = rule.forward(part)[-1]
        p = torch.softmax(output, -1) if kind is LI else output
        rule.observe(torch.nn.functional.one_hot(action, OUT) - p)
        rule.backward(-reward)
    layer = net[0]
    weight, bias = layer.weight.detach().clone().requires_grad_(), layer.bias.detach().clone().requires_grad_()
    membrane, objective = torch.zeros(BATCH, OUT).double(), 0.0
    for at, part in enumerate(XS):
        for x in part:
            membrane = layer.neuron.decay.detach() * membrane + x @ weight.T + bias
        returns = DECAY ** torch.arange(ACTIONS - at).double() @ rewards[at:]
        objective += (torch.log_softmax(membrane, -1).gather(1, chosen[at][:, None])[:, 0] * returns).sum()
    wanted = torch.autograd.grad(-objective, [weight, bias])
    torch.testing.assert_close([layer.weight.grad, layer.bias.grad], list(wanted), rtol=0, atol=1e-9)


@pytest.mark.parametrize("at", ["logits", "output"])
def test_eligibilities_are_the_explicit_sum_over_the_actions(at):
    """What `backward` of the network would have taught at each action, and how long ago that was; they do not grow."""
    net, sizes = hidden_net(), set()
    rule = ThreeFactor(net, decay=DECAY)
    for number in range(ACTIONS):
        act(rule, number, at)
        signal = DECAY ** (ACTIONS - 1 - number) * MODULATION[:, None] * SCORES[number]
        net.backward(signal, at=at, return_input_grad=False)
        sizes.add(sum(value.numel() for value in rule.state_dict()["kept"].values()))
    wanted = {name: value for name, value in gradients(net).items() if name.endswith(("weight", "bias"))}
    torch.testing.assert_close(taught(rule), wanted, rtol=0, atol=1e-12)
    assert len(wanted) == 4 and sizes == {BATCH * (IN * 7 + 7 + 7 * OUT + OUT)}


@pytest.mark.parametrize("at", ["logits", "output"])
def test_the_last_layer_alone_may_have_them_and_the_others_learn_from_the_trace_of_the_score(at):
    net = hidden_net()
    rule, both = ThreeFactor(net, decay=DECAY, layers="last"), ThreeFactor(net, decay=DECAY)
    trace = torch.zeros(BATCH, OUT).double()
    for number in range(ACTIONS):
        act(rule, number, at)
        both.observe(SCORES[number], at=at)
        trace = DECAY * trace + SCORES[number]
    found, every = taught(rule), taught(both)
    net.zero_grad()
    net.backward(MODULATION[:, None] * trace, at=at, return_input_grad=False)
    by_trace = gradients(net)
    for name, value in found.items():
        torch.testing.assert_close(value, (by_trace if name.startswith("layers.0") else every)[name])
    assert len(found) == 6 and not torch.allclose(
        every["layers.1.connection.weight"], by_trace["layers.1.connection.weight"]
    )


def test_a_sample_that_begins_anew_answers_for_nothing_that_was_before():
    rule, fresh = ThreeFactor(hidden_net(), decay=DECAY), ThreeFactor(hidden_net(), decay=DECAY)
    done = torch.tensor([False, True, False])
    act(rule, 0)
    rule.reset(done)
    assert taught(rule, done.double())["layers.1.connection.weight"].any()  # a reward for the last action may come late
    act(rule, 1)
    act(fresh, 1)
    torch.testing.assert_close(taught(rule, done.double()), taught(fresh, done.double()))
    rule.reset()
    with pytest.raises(RuntimeError, match=r"no score was observed since the start: call rule\.observe"):
        rule.backward(MODULATION)


def test_from_a_saved_state_one_can_go_on_more_than_once():
    """The mask that was given is not kept, either."""
    rule, mask, found = ThreeFactor(hidden_net(), decay=DECAY, layers="last"), torch.tensor([True, False, False]), []
    act(rule, 0)
    rule.reset(mask)
    mask.logical_not_()
    saved, before = rule.state_dict(), rule.net.save_state()
    for again in range(3):
        if again:
            rule = ThreeFactor(hidden_net(), decay=DECAY, layers="last") if again == 2 else rule
            rule.load_state_dict(saved)
            rule.net.load_state(before)
        act(rule, 1)
        found.append(taught(rule))
        assert saved["new"].tolist() == [True, False, False] and saved["kept"]["score"].equal(SCORES[0])
    for name, value in found[0].items():
        assert value.any() and torch.equal(found[1][name], value) and torch.equal(found[2][name], value)


def test_the_bonus_of_a_loss_teaches_all_parameters():
    rule = ThreeFactor(hidden_net(), decay=DECAY)
    act(rule, 0)
    reward = taught(rule)
    rule.net.zero_grad()
    rule.net.backward(SCORES[1], at="logits", return_input_grad=False)
    bonus = gradients(rule.net)
    rule.net.zero_grad()
    rule.backward_reward(SCORES[2], modulation=MODULATION, bonus=SCORES[1], at="logits")
    torch.testing.assert_close(
        gradients(rule.net), {name: reward.get(name, 0) + value for name, value in bonus.items()}
    )
