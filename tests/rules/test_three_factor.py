"""Three factors: eligibilities are sums of what each action would have taught; exact in time for a tied readout."""

from functools import partial

import pytest
import torch

from tests.common import gradients, normal
from tracetorch.loss import Reflect
from tracetorch.nn import LI, LIF, LIS, Sequential
from tracetorch.rules import CoarseBPTT, ThreeFactor, Trace

IN, OUT, BATCH, ACTIONS, STEPS, DECAY = 5, 4, 3, 4, 6, 0.8
SCORES, MODULATION, BONUS = normal(ACTIONS, BATCH, OUT), normal(BATCH, seed=3), normal(BATCH, OUT, seed=4)
XS = (normal(ACTIONS, STEPS, BATCH, IN, seed=5) > 0.3).double()


@pytest.mark.parametrize(
    ("make", "decay"), [(Trace, 0.0), (partial(ThreeFactor, decay=DECAY), DECAY)], ids=["trace", "three factors"]
)
@pytest.mark.parametrize(("kind", "decays"), [(LI, 0.9), (LIS, [0.6, 0.95])])
def test_a_readouts_gradient_is_reinforce_through_time_with_discounted_eligibility(kind, decays, make, decay):
    torch.manual_seed(0)
    rule, rewards = make(Sequential(kind(IN, OUT, decay=decays, bias=True).double())), normal(ACTIONS, BATCH, seed=2)
    reflect, chosen = Reflect(baseline=[]), SCORES.argmax(dim=-1)
    for part, action, reward in zip(XS, chosen, rewards, strict=True):
        output = rule.forward(part)[-1]
        reflect.observe(torch.softmax(output, -1) if kind is LI else output, action)
        rule.observe(reflect.score, at="logits")
        rule.backward_reward(reflect(reward)[1], modulation=reflect.modulation, bonus=None, at="logits")
    layer = rule.net[0]
    weight, bias = layer.weight.detach().clone().requires_grad_(), layer.bias.detach().clone().requires_grad_()
    membrane, objective = torch.zeros(BATCH, OUT).double(), 0.0
    for at, part in enumerate(XS):
        for x in part:
            membrane = layer.neuron.decay.detach() * membrane + x @ weight.T + bias
        returns = decay ** torch.arange(ACTIONS - at).double() @ rewards[at:]
        objective -= (torch.log_softmax(membrane, -1).gather(1, chosen[at][:, None])[:, 0] * returns).mean()
    wanted = torch.autograd.grad(objective, [weight, bias])
    torch.testing.assert_close([layer.weight.grad, layer.bias.grad], list(wanted), rtol=0, atol=1e-9)


def hidden_net() -> Sequential:
    torch.manual_seed(0)
    net = Sequential(LIF(IN, 7, bias=True), LIS(7, OUT, bias=True)).double()
    net[0].weight.data.mul_(2).add_(0.2)
    return net


@pytest.mark.parametrize("layers", ["all", "last"])
@pytest.mark.parametrize("at", ["logits", "output"])
def test_eligibilities_are_the_discounted_sum_over_the_actions_since_a_reset(at, layers):
    """What `backward` of the network would have taught at each action, and how long ago that was.

    The layers below the last learn from the trace of the score, if the last alone has eligibilities; a bonus teaches
    all of them. From a saved state one can go on more than once, and it does not grow.
    """
    weights = (DECAY ** torch.arange(3, -1, -1).double())[:, None, None].repeat(1, BATCH, 1)
    weights[0, 1] = 0  # this sample is reset after its first action
    signals, twin, mask = weights * SCORES * MODULATION[:, None], hidden_net(), torch.tensor([False, True, False])
    rule, sizes, found = ThreeFactor(hidden_net(), decay=DECAY, layers=layers), set(), []
    rule.forward(XS[0])
    rule.observe(SCORES[0], at=at)
    rule.reset(mask)
    rule.backward(mask.double())
    assert rule.net[1].weight.grad.any()  # a reward for the last action may come late
    rule.net.zero_grad()
    saved, before = rule.state_dict(), rule.net.save_state()
    mask.logical_not_()  # it was not kept
    for again in range(3):
        if again:
            rule = ThreeFactor(hidden_net(), decay=DECAY, layers=layers) if again == 1 else rule
            rule.load_state_dict(saved)
            rule.net.load_state(before)
            rule.net.zero_grad()
        for number in range(1, ACTIONS):
            rule.forward(XS[number])
            rule.observe(SCORES[number], at=at)
            sizes.add(sum(value.numel() for value in rule.state_dict()["kept"].values()))
        rule.backward_reward(SCORES[0], modulation=MODULATION, bonus=BONUS, at=at)
        found.append(gradients(rule.net))
    for number in range(ACTIONS):
        twin.run(XS[number])
        twin.backward(signals[number], at=at)
        if not number:
            twin.reset(~mask)
    wanted = {name: value for name, value in gradients(twin).items() if name.endswith(("weight", "bias"))}
    twin.zero_grad()
    if layers == "last":
        twin.backward(signals.sum(dim=0), at=at)
        wanted |= {name: value for name, value in gradients(twin).items() if name.startswith("layers.0")}
        twin.zero_grad()
    twin.backward(BONUS, at=at)
    wanted = {name: value + wanted.get(name, 0) for name, value in gradients(twin).items()}
    for one in found:
        torch.testing.assert_close(one, wanted, rtol=0, atol=1e-12)
    assert sizes == {BATCH * (7 * OUT + OUT + (OUT if layers == "last" else IN * 7 + 7))}
    assert saved["new"].tolist() == [False, True, False]


def test_a_reward_without_an_observed_score_is_refused():
    for make in (ThreeFactor, partial(CoarseBPTT, decay=DECAY)):
        rule = make(hidden_net())
        rule.forward(XS[0])
        rule.observe(SCORES[0], at="logits")
        rule.reset()
        with pytest.raises(RuntimeError, match=r"no score was observed since the start: call rule\.observe"):
            rule.backward_reward(SCORES[0], modulation=MODULATION, bonus=None, at="logits")
