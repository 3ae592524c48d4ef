"""Reflect: REINFORCE to rounding where it says so, the policy gradient on average, what it forgets and expects."""

import math

import pytest
import torch
from torch import Tensor

from tests.common import normal
from tracetorch.loss import Reflect
from tracetorch.nn import LI, LIS, Sequential

ACTIONS, BATCH, TIME = 4, 3, 7
HALF = torch.full((1, 2), 0.5)


def draws(*shape: int, seed: int = 1) -> Tensor:
    return torch.randint(ACTIONS, shape, generator=torch.Generator().manual_seed(seed))


def teach(reflect: Reflect, rewards, action: int = 1) -> Tensor:
    """A sequence of actions, each with its rewards, one for each sample. Returns: the last signal."""
    for reward in map(torch.as_tensor, rewards):
        reflect.observe(HALF.to(reward).expand(len(reward), -1), torch.full(reward.shape, action))
        signal = reflect(reward)[1]
    return signal


# ── where it is exact ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("decay", "baseline"), [(0.0, [0.9]), (0.8, []), (0.8, [0.9])])
def test_where_always_the_same_is_seen_it_is_reinforce_with_discounted_eligibility(decay, baseline):
    logits, actions, rewards = normal(BATCH, ACTIONS), draws(TIME, BATCH), normal(TIME, BATCH, seed=2)
    reflect, found, judged = Reflect(decay=decay, baseline=baseline), torch.zeros(BATCH, ACTIONS).double(), []
    for action, reward in zip(actions, rewards, strict=True):
        reflect.observe(torch.softmax(logits, -1), action)
        found += reflect(reward)[1]
        judged.append(-reflect.modulation * BATCH)
    logits.requires_grad_()
    logs = torch.log_softmax(logits, -1).expand(TIME, -1, -1).gather(2, actions[..., None])[..., 0]
    advantages = torch.stack(judged)
    torch.testing.assert_close(advantages if not baseline else rewards, rewards)
    powers = decay ** (torch.arange(TIME) - torch.arange(TIME)[:, None]).clamp(min=0).double()
    returns = powers.triu() @ advantages  # Σ_{s ≥ t} λ^(s − t)·r(s)
    wanted = torch.autograd.grad(-(logs * returns).sum() / BATCH, logits)[0]
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("make", "at"), [(LI, "logits"), (LIS, "logits"), (LIS, "output")])
def test_for_a_tied_readout_and_its_present_output_it_is_reinforce_through_time(make, at):
    torch.manual_seed(0)
    net, xs = Sequential(make(5, ACTIONS, bias=True).double()), normal(TIME, BATCH, 5)
    action, reward, reflect = draws(BATCH), normal(BATCH, seed=3), Reflect(baseline=[], at=at)
    output = net.run(xs)[-1]
    reflect.observe(output if make is LIS else torch.softmax(output, -1), action)
    net.backward(reflect(reward)[1], at=at)
    layer = net[0]
    weight, bias = layer.weight.detach().clone().requires_grad_(), layer.bias.detach().clone().requires_grad_()
    membrane = torch.zeros(BATCH, ACTIONS).double()
    for x in xs:
        membrane = layer.neuron.decay.detach() * membrane + x @ weight.T + bias
    log = torch.log_softmax(membrane, -1).gather(1, action[:, None])[:, 0]
    if at == "output":  # its logarithm has a floor: d log(p + ε)
        log = (log.exp() + 1e-3).log()
    wanted = torch.autograd.grad(-(log * reward).mean(), [weight, bias])
    torch.testing.assert_close([layer.weight.grad, layer.bias.grad], list(wanted), rtol=0, atol=1e-9)


@pytest.mark.parametrize("at", ["logits", "output"])
def test_the_bonus_is_the_slope_of_what_exploring_is_worth(at):
    logits = normal(BATCH, ACTIONS).requires_grad_()
    p = torch.softmax(logits, -1)
    worth = (-0.3 * p * p.log()).sum(-1).mean() + 0.2 * (ACTIONS * p).log().mean()
    reflect = Reflect(entropy=0.3, uniform=0.2, baseline=[], at=at)
    reflect.observe(p.detach(), draws(BATCH))
    loss, signal = reflect(torch.zeros(BATCH))
    if at == "logits":
        wanted = torch.autograd.grad(-worth, logits, retain_graph=True)[0]
    else:
        raised = p.detach() + 1e-3
        wanted = (0.3 * (raised.log() + 1) - 0.2 / (ACTIONS * raised)) / BATCH
    torch.testing.assert_close(signal, wanted, rtol=0, atol=1e-12)
    torch.testing.assert_close(loss, -worth.detach())
    assert torch.equal(signal, reflect.bonus)


def test_only_the_pull_to_the_uniform_is_left_where_a_policy_has_settled():
    for bonus, pull in (("entropy", 0.0), ("uniform", 0.5)):
        reflect = Reflect(**{bonus: 1.0})
        reflect.observe(torch.tensor([[0.0, 60.0]]).double().softmax(-1), torch.tensor([1]))
        assert reflect.bonus[0].tolist() == pytest.approx([-pull, pull], abs=1e-20)


def test_the_signal_is_the_slope_of_the_loss():
    start, actions, direction = normal(BATCH, ACTIONS), draws(TIME, BATCH), normal(BATCH, ACTIONS, seed=5)

    def told(logits: Tensor) -> tuple[Tensor, Tensor]:
        reflect = Reflect(decay=[0.5, 0.9], mixture=[1.0, 2.0], baseline=[], entropy=0.1)
        for action in actions:
            reflect.observe(torch.softmax(logits, -1), action)
        return reflect(normal(BATCH, seed=2))

    ends = [float(told(start + by * direction)[0]) for by in (1e-6, -1e-6)]
    assert (ends[0] - ends[1]) / 2e-6 == pytest.approx(float((told(start)[1] * direction).sum()), rel=1e-6)


# ── the policy gradient of a small bandit, within three standard errors ─────────────────────────────────────────────

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
def test_on_average_it_is_the_policy_gradient_as_much_as_actions_are_remembered(late, first, settings, wanted):
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


# ── what is forgotten, and what is expected ─────────────────────────────────────────────────────────────────────────


def test_what_was_done_before_an_end_has_nothing_to_do_with_what_comes_after():
    reflect = Reflect(decay=0.9, baseline=[])
    reflect.observe(HALF.expand(2, -1), torch.tensor([0, 0]))
    reflect(torch.ones(2), done=torch.tensor([True, False]))
    reflect.observe(HALF.expand(2, -1), torch.tensor([1, 1]))
    loss, signal = reflect(torch.ones(2))
    assert signal[0].tolist() == [0.25, -0.25]
    assert signal[1].tolist() == pytest.approx([(-0.5 * 0.9 + 0.5) / 2, (0.5 * 0.9 - 0.5) / 2])
    assert float(loss) == pytest.approx(2.9 / 2 * math.log(2))


def test_a_baseline_is_the_mean_of_past_rewards_or_of_those_of_each_sample_and_never_of_the_one_that_it_judges():
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


def test_a_mixture_of_expectations_learns_which_stretch_of_the_past_tells():
    """Rewards that jump about a mean that stays: the long run tells more than the last."""
    reflect = Reflect(baseline=[0.0, 0.98], mixture_rate=0.05)
    teach(reflect, normal(400, 1, seed=4) + 2)
    short, long = reflect.baseline.mixture.tolist()
    assert long > 0.8 and short + long == pytest.approx(1)


def test_a_mixture_of_time_scales_learns_for_how_long_an_action_answers_and_then_stays():
    """The reward is for the action three before: only a long memory has anything to do with it."""
    generator, reflect = torch.Generator().manual_seed(0), Reflect(decay=[0.0, 0.8], baseline=[], mixture_rate=0.1)
    past = [torch.zeros(64, dtype=torch.int64)] * 3
    for trial in range(301):
        past = [*past[1:], torch.randint(2, (64,), generator=generator)]
        reflect.mixture_rate, before = 0.1 if trial < 300 else 0.0, reflect.mixture
        reflect.observe(HALF.expand(64, -1), past[-1])
        reflect(2.0 * past[0] - 1)
    short, long = reflect.mixture.tolist()
    assert long > short and short + long == pytest.approx(1) and torch.equal(before, reflect.mixture)


def test_it_goes_on_from_a_saved_state_that_does_not_grow():
    def go_on(reflect, start, stop):
        for step in range(start, stop):
            reflect.observe(torch.softmax(normal(BATCH, ACTIONS, seed=step), -1), draws(BATCH, seed=step))
            last = reflect(normal(BATCH, seed=step + 50), done=torch.tensor([step == 3, False, False]))
            kept = reflect.state_dict()
            sizes.add(sum(value.numel() for value in [*kept.pop("baseline").values(), *kept.values()]))
        return last

    settings, sizes = {"decay": [0.5, 0.9], "baseline": [0.5, 0.9], "mixture_rate": 0.1, "entropy": 0.1}, set()
    whole, first, second = (Reflect(**settings) for _ in range(3))
    wanted = go_on(whole, 0, 6)
    go_on(first, 0, 3)
    second.load_state_dict(first.state_dict())
    assert torch.equal(go_on(second, 3, 6)[1], wanted[1]) and len(sizes) == 1


def test_an_output_of_lower_precision_leaves_no_trace_in_later_ones():
    def life(first: torch.dtype) -> Tensor:
        reflect = Reflect(decay=[0.3, 0.7], mixture=[0.3, 0.7], baseline=[0.9, 0.1])
        for dtype in (first, torch.float64):
            reflect.reset()
            reflect.baseline.load_state_dict({"raw": torch.zeros(2), "sums": torch.zeros(0)})
            signal = teach(reflect, torch.ones(3, 1, dtype=dtype))
        return signal

    assert torch.equal(life(torch.bfloat16), life(torch.float64))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"decay": 1.0}, r"decay: each decay must be at least 0 and below 1, got \[1.0\]"),
        ({"baseline": [0.5, -1]}, "baseline: each decay must be"),
        ({"decay": [0.5, 0.9], "mixture": [1.0]}, "a weight above 0 for each of 2 decays"),
        ({"decay": []}, r"decay needs at least one time scale, such as 0.9 or .*, got \[\]"),
        ({"mixture": [0.0]}, "a weight above 0"),
        ({"uniform": -1}, "entropy and uniform must be at least 0"),
        ({"entropy": math.inf}, "entropy and uniform must be at least 0 and finite"),
        ({"mixture_rate": -1}, "mixture_rate must be at least 0"),
        ({"at": "membrane"}, 'at must be "logits" or "output"'),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Reflect(**settings)


def test_rewards_and_outputs_that_make_no_sense_are_refused():
    reflect = Reflect(decay=0.5)
    with pytest.raises(RuntimeError, match=r"call reflect\.observe"):
        reflect(torch.ones(1))
    reflect.observe(HALF, torch.tensor([1]))
    for reward in (torch.tensor([math.nan]), torch.tensor([1.0, 2.0])):
        with pytest.raises(ValueError, match="a reward must be a finite number for each of 1 samples"):
            reflect(reward)
    with pytest.raises(ValueError, match=r"output was \(1, 2\) before and is \(3, 2\): call reflect\.reset"):
        reflect.observe(HALF.expand(3, -1), torch.tensor([1, 0, 1]))
