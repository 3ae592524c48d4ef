"""Reflect on average: the policy gradient of a small bandit, within three standard errors."""

import pytest
import torch
from torch import Tensor

from tracetorch.loss import Reflect

PAYS = torch.tensor([0.2, 0.5, 0.9, -0.3]).double()
CHANCES = torch.softmax(torch.tensor([0.3, -0.2, 0.5, 0.0]).double(), 0)
UPHILL = CHANCES * (PAYS - CHANCES @ PAYS)  # the policy gradient: d E[reward]/d logits
LANES, TRIALS = 20_000, 12


def play_bandit(late: int, **settings) -> Tensor:
    """What each trial teaches, uphill, (trials, num_envs, actions); noisy rewards, of `late` actions ago."""
    generator = torch.Generator().manual_seed(0)
    chosen = torch.multinomial(CHANCES, TRIALS * LANES, replacement=True, generator=generator).view(TRIALS, LANES)
    pays = torch.cat([torch.zeros(late, LANES).double(), PAYS[chosen]])[:TRIALS]
    rewards = pays + torch.randn(TRIALS, LANES, generator=generator, dtype=torch.float64)
    reflect, taught = Reflect(**settings), []
    for action, reward in zip(chosen, rewards, strict=True):
        reflect.observe(CHANCES.expand(LANES, -1), action)
        taught.append(-LANES * reflect(reward)[1])
    return torch.stack(taught)


def assert_on_average(taught: Tensor, wanted: Tensor) -> None:
    """Within three standard errors, small enough to see a wrong sign, or a factor of 1.2. Lanes are samples."""
    error = taught.std(dim=0) / len(taught) ** 0.5
    assert ((taught.mean(dim=0) - wanted).abs() < 3 * error).all()
    assert (wanted.abs() > 15 * error).any()


@pytest.mark.parametrize("baseline", [[], [0.9], [0.5, 0.9]])
@pytest.mark.parametrize("per_sample", [False, True])
def test_on_average_it_is_the_policy_gradient_of_a_bandit(baseline, per_sample):
    """Whatever past rewards were expected to say of the next."""
    taught = play_bandit(0, baseline=baseline, per_sample=per_sample)
    assert_on_average(taught.mean(dim=0), UPHILL)


@pytest.mark.parametrize("late", [0, 1, 3])
def test_on_average_a_late_reward_teaches_as_much_as_its_action_is_remembered(late):
    taught = play_bandit(late, decay=0.8, baseline=[])
    assert_on_average(taught[late:].mean(dim=0), 0.8**late * UPHILL)


@pytest.mark.parametrize("per_sample", [False, True])
def test_a_baseline_takes_away_a_known_part_of_what_is_still_remembered(per_sample):
    """At λ > 0 the rewards that were got for actions still in the trace are also those that are expected."""
    decay, keep = 0.8, 0.9
    taught = play_bandit(0, decay=decay, baseline=keep, per_sample=per_sample)[-1]
    ago = torch.arange(1, TRIALS).double()
    lost = float((decay * (decay * keep) ** (ago - 1)).sum() / (keep ** (ago - 1)).sum())
    assert lost > 0.3
    assert_on_average(taught, (1 - (lost if per_sample else lost / LANES)) * UPHILL)
