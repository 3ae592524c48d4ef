"""The steps and averages, against numbers worked out by hand and sums written out in full."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.func import grad, vmap

from tests.common import normal
from tracetorch import functional as F

HALF, ONE, ZERO = (torch.tensor([[value]], dtype=torch.float64) for value in (0.5, 1.0, 0.0))
UNIT, CURRENTS = torch.tensor(1.0, dtype=torch.float64), torch.linspace(0, 1.2, 61, dtype=torch.float64)
DECAYS = st.floats(0.05, 0.995)


def stepped(step, xs: list[float]) -> list[list[float]]:
    """What a step gives for one input after another, from zero: what it returns, its state last."""
    state, found = (ZERO,), []
    for x in xs:
        state = step(x * ONE, state[-1])
        state = state if isinstance(state, tuple) else (state,)
        found.append([float(value) for value in state])
    return found


def test_five_steps_by_hand():
    """Halves and quarters, so every number is exact; the first membrane of LIF ties with its threshold."""
    trace = stepped(lambda x, trace: F.trace_step(x, trace, HALF), [1, 0, 1, 1, 0])
    assert trace == [[1], [0.5], [1.25], [1.625], [0.8125]]
    lif = stepped(lambda x, membrane: F.lif_step(x, membrane, HALF, ONE), [1, 0.75, 0.75, 1, 0])
    assert lif == [[0, 1], [1, 0.25], [0, 0.875], [1, 0.4375], [0, 0.21875]]
    zero = stepped(lambda x, membrane: F.lif_zero_step(x, membrane, HALF, ONE), [1, 0.75, 0.75, 1, 0])
    assert zero == [[0, 1], [1, 0], [0, 0.75], [1, 0], [0, 0]]
    li = stepped(lambda x, membrane: F.li_step(x, membrane, HALF), [1, -1, 0, 2, 0.5])
    assert li == [[1], [-0.5], [-0.25], [1.875], [1.4375]]
    # Neurons do not mix, and a reset subtracts one threshold however high the membrane.
    decay, threshold = torch.tensor([0.5, 0.25, 0.5]), torch.tensor([1.0, 2.0, 1.5])
    spikes, membrane = F.lif_step(torch.tensor([[1.0, 1.0, 5.0]]), torch.tensor([[1.0, 4.0, 0.0]]), decay, threshold)
    assert spikes.tolist() == [[1, 0, 1]] and membrane.tolist() == [[0.5, 2, 3.5]]
    spikes, membrane = F.lif_zero_step(
        torch.tensor([[1.0, 1.0, 5.0]]), torch.tensor([[2.0, 4.0, 0.0]]), decay, threshold
    )
    assert spikes.tolist() == [[1, 0, 1]] and membrane.tolist() == [[0, 2, 0]]


@given(decay=DECAYS, steps=st.integers(1, 40), seed=st.integers(0, 9))
def test_the_average_input_is_the_weighted_mean_from_the_first_step_on(decay, steps, seed):
    xs, trace, d = normal(steps, 2, 3, seed=seed), torch.zeros(2, 3, dtype=torch.float64), ONE[0, 0] * decay
    for x in xs:
        trace = F.trace_step(x, trace, d)
    weights = (decay ** torch.arange(steps - 1, -1, -1, dtype=torch.float64)).view(-1, 1, 1)
    wanted, rows = (weights * xs).sum(0) / weights.sum(), torch.tensor([[steps], [0]])
    found, uncorrected = F.average_input(trace, d, rows), F.average_input(trace, d)
    torch.testing.assert_close(found[0], wanted[0], rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(uncorrected, wanted * (1 - decay**steps), rtol=1e-10, atol=1e-12)
    assert found.isfinite().all(), "divided by zero before the first step"


@given(decay=DECAYS, current=st.floats(-5, 5), steps=st.integers(1, 60), later=st.integers(1, 10**6))
def test_the_level_is_the_membrane_under_steady_current(decay, current, steps, later):
    *_, [membrane] = stepped(lambda x, membrane: F.li_step(x, membrane, ONE * decay), [current] * steps)
    level = F.li_level(ONE * current, ONE * decay, torch.tensor([[steps]]))
    assert float(level) == pytest.approx(membrane, rel=1e-12, abs=1e-12)
    assert float(F.rise(ONE * decay, torch.tensor([[later]]))) == pytest.approx(1 - decay**later, rel=1e-9)
    last = F.li_level(ONE * current, ONE * decay)
    torch.testing.assert_close(last, F.li_level(ONE * current, ONE * decay, torch.tensor(10**6)))
    currents, n = normal(3, 4, seed=steps), torch.tensor([[1], [steps], [later]])
    for way in ((), (n,)):
        wanted = F.li_level(currents, HALF, *way).exp()
        torch.testing.assert_close(F.lis_distribution(currents, HALF, *way), wanted / wanted.sum(-1, keepdim=True))


def simulate(currents: torch.Tensor, decay: float, skip: int = 0, dynamics=F.lif_step) -> torch.Tensor:
    """Mean rate of LIF neurons (θ = 1) over (time, …) currents, after the first `skip` steps."""
    membrane, total = torch.zeros_like(currents[0]), torch.zeros_like(currents[0])
    for step, current in enumerate(currents):
        spikes, membrane = dynamics(current, membrane, UNIT * decay, UNIT)
        total += spikes if step >= skip else 0
    return total / (len(currents) - skip)


@pytest.mark.parametrize("rate", [*F.RATE_MAPS.values(), F.lif_zero_rate])
def test_a_rate_is_bounded_smooth_and_rises_with_the_current(rate):
    """Within 0 and 1, and smooth; it rises with the current, falls with the threshold, and depends on their ratio."""
    wide = torch.logspace(-3, 9, 200)
    for sign in (-1, 1):
        rates = rate(sign * wide, torch.tensor(0.9), torch.tensor(1.0))
        assert rates.min() >= 0 and rates.max() <= 1 + 1e-5
        assert (rates[wide > 100] - float(sign > 0)).abs().max() < 1e-4
    current, thresholds = (torch.linspace(*ends, 200, dtype=torch.float64) for ends in ((-0.5, 1.5), (0.2, 2)))
    for decay in (UNIT * 0.5, UNIT * 0.9, UNIT * 0.99):
        rates = rate(current, decay, UNIT)
        assert rates.min() > 0 and rates.max() < 1 and (rates.diff() > 0).all()
        assert (rate(UNIT * 0.5, decay, thresholds).diff() < 0).all()
        torch.testing.assert_close(rate(3 * current, decay, 3 * UNIT), rates)
    inputs = normal(3, 2), torch.tensor([0.7, 0.95]).double(), torch.tensor([1.0, 0.6]).double()
    steps, inputs = torch.tensor([[1], [7], [400]]), [value.requires_grad_() for value in inputs]
    assert torch.autograd.gradcheck(lambda *given: rate(*given, steps), inputs)
    assert torch.autograd.gradgradcheck(lambda *given: rate(*given, steps), inputs)
    slope = grad(lambda i: rate(i, UNIT * 0.9, UNIT))
    (first,) = torch.autograd.grad(rate(current.requires_grad_(), UNIT * 0.9, UNIT).sum(), current, create_graph=True)
    torch.testing.assert_close(vmap(slope)(current), first)
    torch.testing.assert_close(vmap(grad(slope))(current), torch.autograd.grad(first.sum(), current)[0])


def test_each_map_at_its_points():
    # z = i − (1 − β)/2 with β = 1/2: the line's middle at i = 3/4, corners at 1/4 and 5/4, rounded by log(2)/8 there
    middle, low, high = F.lif_rate(torch.tensor([0.75, 0.25, 1.25], dtype=torch.float64), UNIT * 0.5, UNIT).tolist()
    rounding = (math.log(2) - math.log1p(math.exp(-8))) / 8
    assert [middle, low, high] == pytest.approx([0.5, rounding, 1 - rounding])
    ends = F.lif_rate_logistic(torch.tensor([0.1, 1.0], dtype=torch.float64), UNIT * 0.9, UNIT)
    assert ends.tolist() == pytest.approx([1 / (1 + math.e**2.5), 1 / (1 + math.e**-2.5)])


def test_a_reset_to_zero_spaces_spikes_by_the_whole_steps_above_n_and_its_map_takes_the_middle():
    """Under steady currents: i(1 − β^N)/(1 − β) = θ at the real number N."""
    for decay in (0.5, 0.8, 0.9, 0.95, 0.99):
        currents = torch.linspace(1 - decay, 1.5, 301, dtype=torch.float64)[1:]
        n = torch.log(1 - (1 - decay) / currents) / math.log(decay)
        counts = 1000 * simulate(currents.expand(1000, -1), decay, dynamics=F.lif_zero_step)
        steady = (n - n.round()).abs() > 1e-6
        assert steady.sum() > 290 and torch.equal(counts[steady].round(), (1000 / (n[steady].floor() + 1)).floor())
        rates = F.lif_zero_rate(currents, UNIT * decay, UNIT)
        middle = 1 / (n + 0.5)
        inner = (middle > 0.45) & (middle < 0.6)  # between the corners
        assert inner.sum() > 10 and (rates - middle)[inner].abs().max() < 0.015
        silent = simulate(currents[:1].expand(1000) - 0.01, decay, dynamics=F.lif_zero_step)
        assert not silent and F.lif_zero_rate((1 - decay) / 2 * UNIT, UNIT * decay, UNIT) < 0.1


MEASURED = {0.5: (0.052, 0.074, 0.028), 0.8: (0.033, 0.043, 0.0135), 0.95: (0.03, 0.033, 0.0045)}
"""By decay, rounded up, off from the simulated rate for noisy input: our maps, and the line with sharp corners."""
ZERO_MEASURED = {0.0: 0.11, 0.2: 0.035, 0.4: 0.035}
"""By the noise, at every decay, off from the simulated rate: the map for reset to zero. The line is off by over .05."""


def test_each_map_is_as_close_to_simulation_as_measured():
    for decay, bounds in MEASURED.items():
        simulated = simulate(CURRENTS + 0.2 * normal(500, 100, 61), decay, skip=200).mean(0)
        rates = F.lif_rate(CURRENTS, UNIT * decay, UNIT), F.lif_rate_logistic(CURRENTS, UNIT * decay, UNIT)
        for bound, rate in zip(bounds, (*rates, (CURRENTS - (1 - decay) / 2).clamp(0, 1)), strict=True):
            assert (rate - simulated).abs().mean() <= bound, decay
        rate = F.lif_zero_rate(CURRENTS, UNIT * decay, UNIT)
        for noise, bound in ZERO_MEASURED.items():
            noisy = CURRENTS + noise * normal(500, 100, 61)
            simulated = simulate(noisy, decay, skip=200, dynamics=F.lif_zero_step).mean(0)
            assert (rate - simulated).abs().mean() <= bound, (decay, noise)
            assert noise != 0.2 or (rates[0] - simulated).abs().mean() > 0.05, decay


@pytest.mark.parametrize("steps", [1, 4])
def test_in_the_first_steps_a_map_is_shifted_and_closer_than_the_steady_one(steps):
    shift = 0.05 / (1 - 0.9**steps) - 0.05
    for rate, dynamics in ((F.lif_rate, F.lif_step), (F.lif_zero_rate, F.lif_zero_step)):
        early, steady = (rate(CURRENTS, UNIT * 0.9, UNIT, n) for n in (torch.tensor(steps), None))
        torch.testing.assert_close(early, rate(CURRENTS - shift, UNIT * 0.9, UNIT), rtol=1e-12, atol=1e-12)
        simulated = simulate(CURRENTS + 0.2 * normal(steps, 400, 61), 0.9, dynamics=dynamics).mean(0)
        assert (early - simulated).square().mean() < (steady - simulated).square().mean()
