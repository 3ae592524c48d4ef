"""Reflect: REINFORCE to rounding where it says so, and what it forgets and expects."""

import math

import pytest
import torch
from torch import Tensor

from tests.common import normal
from tracetorch.loss import Reflect
from tracetorch.nn import LI, LIS, Sequential

ACTIONS, BATCH, TIME = 4, 3, 7
AT = pytest.mark.parametrize("at", ["logits", "output"])


def draws(*shape: int, seed: int = 1) -> Tensor:
    return torch.randint(ACTIONS, shape, generator=torch.Generator().manual_seed(seed))


def discounted(rewards: Tensor, decay: float) -> Tensor:
    """Σ_{s ≥ t} λ^(s − t)·r(s), (time, batch)."""
    powers = decay ** (torch.arange(len(rewards)) - torch.arange(len(rewards))[:, None]).clamp(min=0).double()
    return powers.triu() @ rewards


# ── where it is exact ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("decay", [0.0, 0.8])
@pytest.mark.parametrize("baseline", [[], [0.9]])
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
    if not baseline:
        torch.testing.assert_close(advantages, rewards)
    wanted = torch.autograd.grad(-(logs * discounted(advantages, decay)).sum() / BATCH, logits)[0]
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("make", "at"), [(LI, "logits"), (LIS, "logits"), (LIS, "output")])
def test_for_a_tied_readout_and_its_present_output_it_is_reinforce_through_time(make, at):
    torch.manual_seed(0)
    net, xs = Sequential(make(5, ACTIONS, bias=True).double()), normal(TIME, BATCH, 5)
    action, reward = draws(BATCH), normal(BATCH, seed=3)
    output = net.run(xs)[-1]
    p = output if make is LIS else torch.softmax(output, -1)
    reflect = Reflect(baseline=[], at=at)
    reflect.observe(p, action)
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
@pytest.mark.parametrize("bonus", ["entropy", "uniform"])
def test_the_bonus_is_the_slope_of_what_exploring_is_worth(bonus, at):
    logits = normal(BATCH, ACTIONS).requires_grad_()
    p = torch.softmax(logits, -1)
    worth = {"entropy": -(p * p.log()).sum(-1).mean(), "uniform": (ACTIONS * p).log().mean()}[bonus]
    reflect = Reflect(**{bonus: 0.3}, baseline=[], at=at)
    reflect.observe(p.detach(), draws(BATCH))
    loss, signal = reflect(torch.zeros(BATCH))
    wanted = torch.autograd.grad(-0.3 * worth, logits, retain_graph=True)[0]
    found = signal if at == "logits" else torch.autograd.grad(p, logits, signal)[0]
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12 if at == "logits" else 2e-3)
    assert torch.equal(signal, reflect.bonus)
    torch.testing.assert_close(loss, -0.3 * worth.detach())


def test_only_the_pull_to_the_uniform_is_left_where_a_policy_has_settled():
    p = torch.softmax(torch.tensor([[0.0, 60.0]], dtype=torch.float64), -1)
    pull = {}
    for bonus in ("entropy", "uniform"):
        reflect = Reflect(**{bonus: 1.0})
        reflect.observe(p, torch.tensor([1]))
        pull[bonus] = reflect.bonus[0]
    assert pull["entropy"].abs().max() < 1e-20
    torch.testing.assert_close(pull["uniform"], torch.tensor([-0.5, 0.5], dtype=torch.float64))


@AT
def test_the_signal_is_the_slope_of_the_loss(at):
    start, actions, rewards = normal(BATCH, ACTIONS), draws(TIME, BATCH), normal(TIME, BATCH, seed=2)

    def told(logits: Tensor) -> tuple[Tensor, Tensor]:
        reflect = Reflect(decay=[0.5, 0.9], mixture=[1.0, 2.0], baseline=[])
        for action in actions:
            reflect.observe(torch.softmax(logits, -1), action)
        return reflect(rewards[0])

    direction = normal(BATCH, ACTIONS, seed=5)
    ends = [float(told(start + sign * 1e-6 * direction)[0]) for sign in (1, -1)]
    assert (ends[0] - ends[1]) / 2e-6 == pytest.approx(float((told(start)[1] * direction).sum()), rel=1e-6)


# ── what is forgotten, and what is expected ─────────────────────────────────────────────────────────────────────────


def test_what_was_done_before_an_end_has_nothing_to_do_with_what_comes_after():
    p, reflect, alone = torch.full((2, 2), 0.5), Reflect(decay=0.9, baseline=[]), Reflect(decay=0.9, baseline=[])
    reflect.observe(p, torch.tensor([0, 0]))
    reflect(torch.ones(2), done=torch.tensor([True, False]))
    for watching in (reflect, alone):
        watching.observe(p, torch.tensor([1, 1]))
    signal, fresh = reflect(torch.ones(2))[1], alone(torch.ones(2))[1]
    assert torch.equal(signal[0], fresh[0])
    assert signal[1].tolist() == pytest.approx([(-0.5 * 0.9 + 0.5) / 2, (0.5 * 0.9 - 0.5) / 2])


def test_a_baseline_is_the_mean_of_past_rewards_and_never_of_the_one_that_it_judges():
    reflect = Reflect(baseline=0.5)
    judged = []
    for reward in ([1.0, 3.0], [4.0, 0.0], [5.0, 7.0]):
        reflect.observe(torch.full((2, 2), 0.5), torch.tensor([0, 1]))
        reflect(torch.tensor(reward))
        judged.append((-2 * reflect.modulation).tolist())
    assert judged == [[1, 3], [2, -2], [5 - (2 + 0.5 * 2) / 1.5, 7 - (2 + 0.5 * 2) / 1.5]]


def test_each_sample_may_expect_what_it_got_itself():
    reflect = Reflect(baseline=0.9, per_sample=True)
    for _ in range(3):
        reflect.observe(torch.full((2, 2), 0.5), torch.tensor([0, 1]))
        signal = reflect(torch.tensor([1.0, -7.0]))[1]
    torch.testing.assert_close(signal, torch.zeros(2, 2), rtol=0, atol=1e-6)


def test_a_mixture_of_expectations_learns_which_stretch_of_the_past_tells():
    """Rewards that jump about a mean that stays: the long run tells more than the last."""
    reflect, rewards = Reflect(baseline=[0.0, 0.98], mixture_rate=0.05), normal(400, 1, seed=4) + 2
    for reward in rewards:
        reflect.observe(torch.full((1, 2), 0.5).double(), torch.tensor([0]))
        reflect(reward)
    short, long = reflect.baseline.mixture.tolist()
    assert long > 0.8 and short + long == pytest.approx(1)


def test_a_mixture_of_time_scales_learns_for_how_long_an_action_answers():
    """The reward is for the action three before: only a long memory has anything to do with it."""
    generator, num_envs = torch.Generator().manual_seed(0), 64
    reflect = Reflect(decay=[0.0, 0.8], baseline=[], mixture_rate=0.1)
    past = [torch.zeros(num_envs, dtype=torch.int64)] * 3
    p = torch.full((num_envs, 2), 0.5)
    for _ in range(300):
        action = torch.randint(2, (num_envs,), generator=generator)
        past = [*past[1:], action]
        reflect.observe(p, action)
        reflect(2.0 * past[0] - 1)
    short, long = reflect.mixture.tolist()
    assert long > short and short + long == pytest.approx(1)


def test_it_goes_on_from_a_saved_state():
    def go_on(reflect, start, stop):
        for step in range(start, stop):
            reflect.observe(torch.softmax(normal(BATCH, ACTIONS, seed=step), -1), draws(BATCH, seed=step))
            last = reflect(normal(BATCH, seed=step + 50), done=torch.tensor([step == 3, False, False]))
        return last

    settings = {"decay": [0.5, 0.9], "baseline": [0.5, 0.9], "mixture_rate": 0.1, "entropy": 0.1}
    whole, first, second = (Reflect(**settings) for _ in range(3))
    wanted = go_on(whole, 0, 6)
    go_on(first, 0, 3)
    second.load_state_dict(first.state_dict())
    found = go_on(second, 3, 6)
    assert torch.equal(found[0], wanted[0]) and torch.equal(found[1], wanted[1])


def test_nothing_is_kept_that_grows():
    reflect = Reflect(decay=[0.5, 0.9], baseline=[0.9])

    def size():
        kept = reflect.state_dict()
        return sum(v.numel() for v in [*kept.pop("baseline").values(), *kept.values()])

    sizes = set()
    for step in range(20):
        reflect.observe(torch.full((BATCH, ACTIONS), 0.25), draws(BATCH, seed=step))
        reflect(torch.ones(BATCH))
        sizes.add(size())
    assert len(sizes) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"decay": 1.0}, "decay: each decay must be at least 0 and below 1"),
        ({"baseline": [0.5, -1]}, "baseline: each decay must be"),
        ({"decay": [0.5, 0.9], "mixture": [1.0]}, "a weight above 0 for each of 2 decays"),
        ({"decay": []}, r"decay needs at least one time scale, such as 0.9 or .*, got \[\]"),
        ({"mixture": [0.0]}, "a weight above 0"),
        ({"uniform": -1}, "entropy and uniform must be at least 0"),
        ({"entropy": float("inf")}, "entropy and uniform must be at least 0 and finite"),
        ({"mixture_rate": -1}, "mixture_rate must be at least 0"),
        ({"at": "membrane"}, 'at must be "logits" or "output"'),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Reflect(**settings)


def test_a_reward_for_nothing_is_refused():
    with pytest.raises(RuntimeError, match=r"call reflect\.observe"):
        Reflect()(torch.ones(1))


def test_rewards_and_outputs_that_make_no_sense_are_refused():
    reflect = Reflect(decay=0.5)
    reflect.observe(torch.tensor([[0.5, 0.5]]), torch.tensor([1]))
    for reward in (torch.tensor([math.nan]), torch.tensor([1.0, 2.0])):
        with pytest.raises(ValueError, match="a reward must be a finite number for each of 1 samples"):
            reflect(reward)
    with pytest.raises(ValueError, match=r"output was \(1, 2\) before and is \(3, 2\): call reflect\.reset"):
        reflect.observe(torch.full((3, 2), 0.5), torch.tensor([1, 0, 1]))


def test_an_output_of_lower_precision_leaves_no_trace_in_later_ones():
    def life(first: torch.dtype) -> Tensor:
        reflect = Reflect(decay=[0.3, 0.7], mixture=[0.3, 0.7], baseline=[0.9, 0.1])
        for dtype in (first, torch.float64, torch.float64):
            reflect.reset()
            reflect.baseline.load_state_dict({"raw": torch.zeros(2), "sums": torch.zeros(0)})
            for _ in range(3):
                reflect.observe(torch.tensor([[0.25, 0.75]], dtype=dtype), torch.tensor([1]))
                _, signal = reflect(torch.tensor([1.0], dtype=dtype))
        return signal

    assert torch.equal(life(torch.bfloat16), life(torch.float64))


def test_weights_of_time_scales_stay_when_they_stop_learning():
    learning, fixed = (Reflect(decay=[0.3, 0.7], baseline=[0.9, 0.1], mixture_rate=0.5) for _ in range(2))
    for reflect in (learning, fixed):
        for reward in (1.0, 0.0, 2.0):
            reflect.observe(torch.tensor([[0.25, 0.75]]), torch.tensor([1]))
            reflect(torch.tensor([reward]))
    fixed.mixture_rate = fixed.baseline.mixture_rate = 0.0
    results = []
    for reflect in (learning, fixed):
        reflect.observe(torch.tensor([[0.25, 0.75]]), torch.tensor([1]))
        results.append(reflect(torch.tensor([1.0]))[1])
    assert torch.equal(*results)


def test_a_mean_for_each_sample_is_not_that_of_another_batch():
    reflect = Reflect(per_sample=True)
    for batch in (1, 4):
        reflect.reset()
        reflect.observe(torch.full((batch, 2), 0.5), torch.ones(batch, dtype=torch.int64))
        if batch == 1:
            reflect(torch.ones(batch))
    with pytest.raises(ValueError, match="a baseline of 1 samples, each with a mean of its own, got 4 rewards"):
        reflect(torch.ones(4))
