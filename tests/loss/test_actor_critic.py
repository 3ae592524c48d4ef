"""Actor and critic: the error of TD(0), what an end is and what is none, and signals that are slopes."""

import pytest
import torch
from torch import Tensor

from tests.common import normal
from tracetorch.loss import ActorCritic

OUTPUT, UPCOMING = normal(4, 4), normal(4, 4, seed=1)  # 4 samples; 3 actions and the value
REWARD, ACTION = torch.tensor([1.0, -2.0, 0.5, 0.0]).double(), torch.tensor([0, 2, 1, 1])
OVER = torch.tensor([False, True, False, True])


def judged(upcoming: Tensor = UPCOMING, **settings) -> tuple[ActorCritic, Tensor, Tensor]:
    loss = ActorCritic(**settings)
    loss.observe(OUTPUT, ACTION)
    return loss, *loss(REWARD, OVER, upcoming)


@pytest.mark.parametrize("critic", [0.0, 0.7])
def test_loss_and_signal_are_those_of_td_and_the_policy_gradient_and_nothing_comes_after_an_end(critic):
    settings = {"discount": 0.9, "unit": 5.0, "critic": critic, "entropy": 0.1, "uniform": 0.2}
    loss, value, signal = judged(**settings)
    output = OUTPUT.clone().requires_grad_()
    error = REWARD + 0.9 * 5 * UPCOMING[:, -1] * ~OVER - 5 * OUTPUT[:, -1]
    torch.testing.assert_close(-loss.modulation * 4, error)
    p, estimate = torch.softmax(output[:, :-1], -1), 5 * output[:, -1]
    log, worth = p.log().gather(1, ACTION[:, None])[:, 0], 0.2 * (3 * p).log().mean(-1) - 0.1 * (p * p.log()).sum(-1)
    torch.testing.assert_close(value, (error.square() / 2 - error * log - worth).mean().detach())
    objective = (-error * log - worth + critic / 5 * (error + estimate.detach() - estimate).square() / 2).mean()
    torch.testing.assert_close(signal, torch.autograd.grad(objective, output)[0], rtol=0, atol=1e-12)
    torch.testing.assert_close(loss.modulation[:, None] * loss.score + loss.bonus, signal)
    assert torch.equal(judged(UPCOMING + 100 * OVER[:, None], **settings)[2], signal)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"discount": 1.1}, "discount must lie between 0 and 1, got 1.1"),
        ({"discount": -0.1}, "discount must lie between 0 and 1"),
        ({"unit": 0.0}, "unit must be above 0"),
        ({"critic": -1.0}, "critic must be at least 0"),
        ({"entropy": -1.0}, "entropy and uniform must be at least 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        ActorCritic(**settings)


def test_a_reward_for_nothing_or_that_is_not_finite_is_refused():
    loss = ActorCritic()
    with pytest.raises(RuntimeError, match=r"call loss\.observe"):
        loss(REWARD, OVER, UPCOMING)
    loss.observe(OUTPUT, ACTION)
    with pytest.raises(ValueError, match="a reward must be a finite number for each of 4 samples"):
        loss(REWARD * torch.nan, OVER, UPCOMING)
    with pytest.raises(ValueError, match=r"shape of the output that was observed, \(4, 4\), got \(4, 3\)"):
        loss(REWARD, OVER, UPCOMING[:, :3])
