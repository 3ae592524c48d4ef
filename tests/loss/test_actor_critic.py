"""Actor and critic: the error of TD(0), what an end is and what is none, and signals that are slopes."""

import pytest
import torch
from torch import Tensor

from tests.common import normal
from tracetorch.loss import ActorCritic

ACTIONS, BATCH = 3, 4
REWARD = torch.tensor([1.0, -2.0, 0.5, 0.0]).double()
ACTION = torch.tensor([0, 2, 1, 1])
OVER = torch.tensor([False, True, False, True])


def judged(output: Tensor, upcoming: Tensor, **settings) -> tuple[ActorCritic, Tensor, Tensor]:
    loss = ActorCritic(**settings)
    loss.observe(output, ACTION)
    return loss, *loss(REWARD, OVER, upcoming)


def test_the_error_is_that_of_td_and_nothing_comes_after_an_end():
    output, upcoming = normal(BATCH, ACTIONS + 1), normal(BATCH, ACTIONS + 1, seed=1)
    loss, _, _ = judged(output, upcoming, discount=0.9, unit=5.0)
    error = -loss.modulation * BATCH
    value, after = 5 * output[:, -1], 5 * upcoming[:, -1]
    wanted = [REWARD[at] + (0 if OVER[at] else 0.9 * after[at]) - value[at] for at in range(BATCH)]
    torch.testing.assert_close(error, torch.stack(wanted))
    worse = upcoming + 100 * OVER[:, None]  # whatever the network says of what is over
    assert torch.equal(
        judged(output, worse, discount=0.9, unit=5.0)[2], judged(output, upcoming, discount=0.9, unit=5.0)[2]
    )


@pytest.mark.parametrize("critic", [0.0, 0.7])
def test_the_signal_teaches_the_actor_the_policy_gradient_and_the_critic_to_come_closer(critic):
    output, upcoming = normal(BATCH, ACTIONS + 1).requires_grad_(), normal(BATCH, ACTIONS + 1, seed=1)
    loss, _, signal = judged(output.detach(), upcoming, critic=critic, entropy=0.1, unit=2.0)
    error = -loss.modulation * BATCH
    p = torch.softmax(output[:, :-1], -1)
    log, entropy = p.log().gather(1, ACTION[:, None])[:, 0], -(p * p.log()).sum(-1)
    value = output[:, -1] * 2
    target = error + value.detach()
    objective = (-error * log - 0.1 * entropy + critic / 2 * (target - value).square() / 2).mean()
    torch.testing.assert_close(signal, torch.autograd.grad(objective, output)[0], rtol=0, atol=1e-12)
    torch.testing.assert_close(loss.modulation[:, None] * loss.score + loss.bonus, signal)


def test_the_loss_is_what_it_says():
    output, upcoming = normal(BATCH, ACTIONS + 1), normal(BATCH, ACTIONS + 1, seed=1)
    loss, value, _ = judged(output, upcoming, entropy=0.1)
    error, p = -loss.modulation * BATCH, torch.softmax(output[:, :-1], -1)
    log, entropy = p.log().gather(1, ACTION[:, None])[:, 0], -(p * p.log()).sum(-1)
    torch.testing.assert_close(value, (error.square() / 2 - error * log - 0.1 * entropy).mean())


def test_a_chain_is_learnt_to_its_discounted_value():
    """Three places one after another, a reward of 1 at the end of the last: values γ², γ, 1."""
    values = torch.zeros(3, 2).double()  # an output for the one action, one for the value
    loss = ActorCritic(discount=0.5, unit=1.0, critic=1.0, entropy=0.0)
    for _ in range(200):
        for place in range(3):
            last = torch.tensor([place == 2])
            loss.observe(values[place][None], torch.tensor([0]))
            _, signal = loss(last.double(), last, values[(place + 1) % 3][None])
            values[place] -= 0.5 * signal[0]
    torch.testing.assert_close(values[:, 1], torch.tensor([0.25, 0.5, 1.0]).double(), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"discount": 1.1}, "discount must lie between 0 and 1"),
        ({"unit": 0.0}, "unit must be above 0"),
        ({"critic": -1.0}, "critic must be at least 0"),
        ({"entropy": -1.0}, "entropy and uniform must be at least 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        ActorCritic(**settings)


def test_a_reward_for_nothing_is_refused():
    with pytest.raises(RuntimeError, match=r"call loss\.observe"):
        ActorCritic()(REWARD, OVER, normal(BATCH, ACTIONS + 1))


def test_a_reward_that_is_not_finite_is_refused():
    loss = ActorCritic()
    loss.observe(torch.zeros(2, 3), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="a reward must be a finite number for each of 2 samples"):
        loss(torch.tensor([0.0, torch.nan]), torch.zeros(2, dtype=torch.bool), torch.zeros(2, 3))
