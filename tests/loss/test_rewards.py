"""Reflect and ActorCritic against REINFORCE and TD(0), exactly and on average; baselines, mixtures and resets."""

import math

import pytest
import torch
from torch import Tensor

from tests.common import normal
from tracetorch.loss import ActorCritic, Reflect

ACTIONS, BATCH, TIME = 4, 3, 7
HALF = torch.full((1, 2), 0.5)
LOGITS, REWARD = normal(BATCH, ACTIONS), normal(BATCH, seed=2)
TAKEN = torch.randint(ACTIONS, (TIME, BATCH), generator=torch.Generator().manual_seed(1))


def teach(reflect: Reflect, rewards) -> Tensor:
    """A sequence of actions, each with its rewards, one for each sample. Returns: the last signal."""
    for reward in map(torch.as_tensor, rewards):
        reflect.observe(HALF.to(reward).expand(len(reward), -1), torch.ones(reward.shape, dtype=torch.int64))
        signal = reflect(reward)[1]
    return signal


@pytest.mark.parametrize(("decay", "baseline"), [(0.0, [0.9]), (0.8, []), (0.8, [0.9])])
def test_for_constant_input_reflect_is_reinforce_with_discounted_eligibility(decay, baseline):
    rewards, reflect = normal(TIME, BATCH, seed=2), Reflect(decay=decay, baseline=baseline)
    found, advantages, logits = torch.zeros(BATCH, ACTIONS).double(), [], LOGITS.clone().requires_grad_()
    for action, reward in zip(TAKEN, rewards, strict=True):
        reflect.observe(torch.softmax(LOGITS, -1), action)
        found += reflect(reward)[1]
        advantages.append(-reflect.modulation * BATCH)
    logs = torch.log_softmax(logits, -1).expand(TIME, -1, -1).gather(2, TAKEN[..., None])[..., 0]
    powers = decay ** (torch.arange(TIME) - torch.arange(TIME)[:, None]).clamp(min=0).double()
    returns = powers.triu() @ (torch.stack(advantages) if baseline else rewards)  # Σ_{s ≥ t} λ^(s − t)·r(s)
    wanted = torch.autograd.grad(-(logs * returns).sum() / BATCH, logits)[0]
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-9)


@pytest.mark.parametrize("at", ["logits", "output"])
def test_the_score_and_the_bonus_are_the_gradients_of_log_p_and_of_the_exploration_bonus(at):
    logits = LOGITS.clone().requires_grad_()
    p = torch.softmax(logits, -1)
    worth = (-0.3 * p * p.log()).sum(-1).mean() + 0.2 * (ACTIONS * p).log().mean()
    reflect = Reflect(entropy=0.3, uniform=0.2, baseline=[], at=at)
    reflect.observe(p.detach(), TAKEN[0])
    loss, signal = reflect(torch.zeros(BATCH))
    raised = p.detach() + 1e-3
    at_output = (0.3 * (raised.log() + 1) - 0.2 / (ACTIONS * raised)) / BATCH
    wanted = at_output if at == "output" else torch.autograd.grad(-worth, logits, retain_graph=True)[0]
    torch.testing.assert_close(signal, wanted, rtol=0, atol=1e-12)
    torch.testing.assert_close(loss, -worth.detach())
    assert torch.equal(signal, reflect.bonus)
    chosen = torch.nn.functional.one_hot(TAKEN[0], ACTIONS)
    torch.testing.assert_close(reflect.score, (chosen / raised) if at == "output" else (chosen - p.detach()))


PAYS = torch.tensor([0.2, 0.5, 0.9, -0.3]).double()
CHANCES = torch.softmax(torch.tensor([0.3, -0.2, 0.5, 0.0]).double(), 0)
UPHILL = CHANCES * (PAYS - CHANCES @ PAYS)  # the policy gradient: d E[reward]/d logits
LANES, TRIALS = 20_000, 12
LOST = float((0.8 * 0.72 ** torch.arange(TRIALS - 1)).sum() / (0.9 ** torch.arange(TRIALS - 1)).sum())
"""The share of a reward that a mean of past ones, β = .9, takes away from what is still remembered at λ = .8."""


@pytest.mark.parametrize(
    ("late", "first", "settings", "wanted"),
    [
        (0, 0, {"baseline": []}, 1),
        (0, 0, {"baseline": [0.5, 0.9]}, 1),
        (0, 0, {"baseline": 0.9, "per_sample": True}, 1),
        (1, 1, {"decay": 0.8, "baseline": []}, 0.8),
        (3, 3, {"decay": 0.8, "baseline": []}, 0.8**3),
        (0, TRIALS - 1, {"decay": 0.8, "baseline": 0.9}, 1 - LOST / LANES),
        (0, TRIALS - 1, {"decay": 0.8, "baseline": 0.9, "per_sample": True}, 1 - LOST),
    ],
)
def test_the_mean_signal_is_the_policy_gradient_scaled_by_the_eligibility(late, first, settings, wanted):
    """Noisy rewards, of `late` actions ago; small enough an error to see a wrong sign, or a factor of 1.2."""
    generator = torch.Generator().manual_seed(0)
    chosen = torch.multinomial(CHANCES, TRIALS * LANES, replacement=True, generator=generator).view(TRIALS, LANES)
    pays = torch.cat([torch.zeros(late, LANES).double(), PAYS[chosen]])[:TRIALS]
    rewards = pays + torch.randn(TRIALS, LANES, generator=generator, dtype=torch.float64)
    reflect, taught = Reflect(**settings), []
    for action, reward in zip(chosen, rewards, strict=True):
        reflect.observe(CHANCES.expand(LANES, -1), action)
        taught.append(-LANES * reflect(reward)[1])
    mean = torch.stack(taught[first:]).mean(dim=0)
    error = mean.std(dim=0) / LANES**0.5
    assert ((mean.mean(dim=0) - wanted * UPHILL).abs() < 3 * error).all()
    assert (wanted * UPHILL.abs() > 15 * error).any() and LOST > 0.3


def test_an_end_clears_the_eligibility_of_its_environment():
    reflect = Reflect(decay=0.9, baseline=[])
    reflect.observe(HALF.expand(2, -1), torch.tensor([0, 0]))
    reflect(torch.ones(2), done=torch.tensor([True, False]))
    reflect.observe(HALF.expand(2, -1), torch.tensor([1, 1]))
    loss, signal = reflect(torch.ones(2))
    assert signal[0].tolist() == [0.25, -0.25]
    assert signal[1].tolist() == pytest.approx([(-0.5 * 0.9 + 0.5) / 2, (0.5 * 0.9 - 0.5) / 2])
    assert float(loss) == pytest.approx(2.9 / 2 * math.log(2))


def test_a_baseline_is_the_mean_of_past_rewards_without_the_present_one():
    rewards, judged = [[1.0, 3.0], [4.0, 0.0], [5.0, 7.0]], []
    for reflect in (Reflect(baseline=0.5), Reflect(baseline=0.5, per_sample=True)):
        judged.append([])
        for reward in rewards:
            teach(reflect, [reward])
            judged[-1].append(pytest.approx((-2 * reflect.modulation).tolist()))
    assert judged[0] == [[1, 3], [2, -2], [5 - 2, 7 - 2]]
    assert judged[1] == [[1, 3], [3, -3], [5 - 4.5 / 1.5, 7 - 1.5 / 1.5]]
    reflect.reset()
    with pytest.raises(ValueError, match="a baseline of 2 samples, each with a mean of its own, got 4 rewards"):
        teach(reflect, [torch.ones(4)])


def test_the_mixture_of_baselines_descends_their_squared_error():
    """Rewards are noise about a constant mean: the long average predicts better than the last reward."""
    reflect, rewards = Reflect(baseline=[0.0, 0.98], mixture_rate=0.05), normal(400, 1, seed=4) + 2
    teach(reflect, rewards[:-1])
    raw, (got, ones) = reflect.baseline.state_dict().values()
    raw = raw.double().requires_grad_()
    (slope,) = torch.autograd.grad((rewards[-1] - raw.softmax(0) @ (got / ones)).square().mean(), raw)
    teach(reflect, rewards[-1:])
    torch.testing.assert_close(reflect.baseline.state_dict()["raw"].double(), (raw - 0.05 * slope).detach())
    short, long = reflect.baseline.mixture.tolist()
    assert long > 0.8 and short + long == pytest.approx(1)


def test_the_mixture_of_time_scales_ascends_their_agreement_with_the_signal():
    """The reward is for the action three steps before: only a long eligibility is correlated with it."""
    generator, reflect = torch.Generator().manual_seed(0), Reflect(decay=[0.0, 0.8], baseline=[], mixture_rate=0.1)
    past = [torch.zeros(64, dtype=torch.int64)] * 3
    for trial in range(302):
        past = [*past[1:], torch.randint(2, (64,), generator=generator)]
        reflect.mixture_rate, raw, taught = (
            0.1 if trial < 301 else 0.0,
            *map(reflect.state_dict().get, ("raw", "taught")),
        )
        reflect.observe(HALF.expand(64, -1), past[-1])
        signal = reflect(2.0 * past[0] - 1)[1]
        if trial == 300:
            length, share = signal.norm() * taught.flatten(1).norm(dim=1).max(), raw.softmax(0)
            agrees = (taught * signal).sum(dim=(1, 2)) / length
            wanted = raw + 0.1 * share * (agrees - share @ agrees)
    torch.testing.assert_close(reflect.state_dict()["raw"], wanted)  # and then it stays
    short, long = reflect.mixture.tolist()
    assert long > short and short + long == pytest.approx(1)


OUTPUT, UPCOMING = LOGITS, normal(BATCH, ACTIONS, seed=1)  # the last of each is the value
ACTION, OVER = torch.tensor([0, 2, 1]), torch.tensor([False, True, False])


@pytest.mark.parametrize(("critic", "discount"), [(0.0, 1.0), (0.7, 0.9), (0.7, 0.0)])
def test_actor_critic_gives_the_gradients_of_td_and_policy_and_ignores_values_after_an_end(critic, discount):
    def judged(upcoming):
        loss.observe(OUTPUT, ACTION)
        return loss(REWARD, OVER, upcoming)

    loss, output = ActorCritic(discount=discount, unit=5.0, critic=critic, entropy=0.1, uniform=0.2), OUTPUT.clone()
    value, signal = judged(UPCOMING)
    error = REWARD + discount * 5 * UPCOMING[:, -1] * ~OVER - 5 * OUTPUT[:, -1]
    torch.testing.assert_close(-loss.modulation * BATCH, error)
    p, estimate = torch.softmax(output.requires_grad_()[:, :-1], -1), 5 * output[:, -1]
    log, worth = p.log().gather(1, ACTION[:, None])[:, 0], 0.2 * (3 * p).log().mean(-1) - 0.1 * (p * p.log()).sum(-1)
    torch.testing.assert_close(value, (error.square() / 2 - error * log - worth).mean().detach())
    objective = (-error * log - worth + critic / 5 * (error + estimate.detach() - estimate).square() / 2).mean()
    torch.testing.assert_close(signal, torch.autograd.grad(objective, output)[0], rtol=0, atol=1e-12)
    torch.testing.assert_close(loss.modulation[:, None] * loss.score + loss.bonus, signal)
    assert torch.equal(judged(UPCOMING + 100 * OVER[:, None])[1], signal)


@pytest.mark.parametrize(
    ("loss", "settings", "message"),
    [
        (Reflect, {"decay": 1.0}, r"decay: each decay must be at least 0 and below 1, got \[1.0\]"),
        (Reflect, {"decay": [0.5, 0.9], "mixture": [1.0]}, "a weight above 0 for each of 2 decays"),
        (Reflect, {"decay": []}, r"decay needs at least one time scale, such as 0.9 or .*, got \[\]"),
        (Reflect, {"mixture": [0.0]}, "a weight above 0"),
        (Reflect, {"uniform": -1}, "entropy and uniform must be at least 0"),
        (Reflect, {"entropy": math.inf}, "entropy and uniform must be at least 0 and finite"),
        (Reflect, {"uniform": math.inf}, "entropy and uniform must be at least 0 and finite"),
        (Reflect, {"mixture_rate": -1}, "mixture_rate must be at least 0"),
        (Reflect, {"mixture_rate": math.inf}, "mixture_rate must be at least 0 and finite"),
        (Reflect, {"at": "membrane"}, 'at must be "logits" or "output"'),
        (ActorCritic, {"discount": 1.1}, "discount must lie between 0 and 1, got 1.1"),
        (ActorCritic, {"discount": -0.1}, "discount must lie between 0 and 1"),
        (ActorCritic, {"unit": 0.0}, "unit must be above 0"),
        (ActorCritic, {"critic": -1.0}, "critic must be at least 0"),
    ],
)
def test_invalid_settings_are_refused(loss, settings, message):
    with pytest.raises(ValueError, match=message):
        loss(**settings)


@pytest.mark.parametrize(("loss", "more"), [(Reflect(), ()), (ActorCritic(), (OVER, UPCOMING))])
def test_invalid_rewards_and_outputs_are_refused(loss, more):
    with pytest.raises(RuntimeError, match="no action was observed: call"):
        loss(REWARD, *more)
    loss.observe(UPCOMING.softmax(-1), ACTION)
    for reward in (REWARD * math.nan, torch.ones(2)):
        with pytest.raises(ValueError, match="a reward must be a finite number for each of 3 samples"):
            loss(reward, *more)
    if more:
        with pytest.raises(ValueError, match=r"shape of the output that was observed, \(3, 4\), got \(3, 3\)"):
            loss(REWARD, OVER, UPCOMING[:, :3])
    else:
        with pytest.raises(ValueError, match=r"output was \(3, 4\) before and is \(1, 2\): call reflect\.reset"):
            loss.observe(HALF, torch.tensor([1]))
