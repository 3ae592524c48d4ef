"""The steady-state maps of LIF, against simulation and against the exact rate for steady current.

Bounds named MEASURED are what was measured here, rounded up: they pin how good an approximation is.
"""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.common import normal
from tracetorch import functional as F

ONE = torch.tensor(1.0, dtype=torch.float64)
MAPS = pytest.mark.parametrize("rate", F.RATE_MAPS.values(), ids=F.RATE_MAPS.keys())
BETAS = (0.5, 0.8, 0.9, 0.95, 0.99)


def simulate(currents: torch.Tensor, decay: float, skip: int = 0) -> torch.Tensor:
    """Mean rate of LIF neurons (θ = 1) over (time, …) currents, after the first `skip` steps."""
    membrane, total = torch.zeros_like(currents[0]), torch.zeros_like(currents[0])
    for step, current in enumerate(currents):
        spikes, membrane = F.lif_step(current, membrane, ONE * decay, ONE)
        total += spikes if step >= skip else 0
    return total / (len(currents) - skip)


def staircase(rate: float, decay: float) -> float:
    """The steady current i/θ at which a neuron fires at exactly this rate: the inverse of a devil's staircase."""
    if not 0 < rate < 1:
        return -math.inf if rate <= 0 else math.inf
    k = torch.arange(1, 5000, dtype=torch.float64)
    return (1 - decay) * float(1 + (((k + 1) * rate).floor() - (k * rate).floor()) @ decay**k)


# ── what kind of function it is ─────────────────────────────────────────────────────────────────────────────────────


@MAPS
@given(current=st.floats(-1, 2), decay=st.floats(0.3, 0.999), threshold=st.floats(0.9, 3), steps=st.integers(1, 999))
def test_a_rate_lies_inside_0_and_1(rate, current, decay, threshold, steps):
    assert 0 < float(rate(ONE * current, ONE * decay, ONE * threshold, torch.tensor(steps))) < 1


@MAPS
def test_float32_stays_within_0_and_1_for_any_current(rate):
    current = torch.logspace(-3, 9, 200)
    for sign in (-1, 1):
        rates = rate(sign * current, torch.tensor(0.9), torch.tensor(1.0))
        assert rates.min() >= 0 and rates.max() <= 1 + 1e-5
        assert (rates[current > 10] - float(sign > 0)).abs().max() < 1e-4


@MAPS
def test_a_rate_rises_with_the_current_and_falls_with_the_threshold(rate):
    current = torch.linspace(-0.5, 1.5, 200, dtype=torch.float64)
    for decay in BETAS:
        assert (rate(current, ONE * decay, ONE).diff() > 0).all()
        assert (rate(ONE * 0.5, ONE * decay, torch.linspace(0.2, 2, 200, dtype=torch.float64)).diff() < 0).all()


@MAPS
def test_a_rate_is_smooth(rate):
    current, decay, threshold = normal(3, 2), torch.tensor([0.7, 0.95]).double(), torch.tensor([1.0, 0.6]).double()
    steps = torch.tensor([[1], [7], [400]])
    inputs = [value.requires_grad_() for value in (current, decay, threshold)]
    assert torch.autograd.gradcheck(lambda i, b, t: rate(i, b, t, steps), inputs)
    assert torch.autograd.gradgradcheck(lambda i, b, t: rate(i, b, t, steps), inputs)


@MAPS
@given(scale=st.floats(0.1, 10))
def test_only_the_ratio_of_current_and_threshold_counts(rate, scale):
    plain, scaled = (rate(ONE * 0.4 * s, ONE * 0.9, ONE * s, torch.tensor(5)) for s in (1, scale))
    torch.testing.assert_close(plain, scaled)


def test_the_logistic_at_its_two_points():
    for decay in BETAS:
        ends = F.lif_rate_logistic(torch.tensor([1 - decay, 1.0], dtype=torch.float64), ONE * decay, ONE)
        assert ends.tolist() == pytest.approx([1 / (1 + math.e**2.5), 1 / (1 + math.e**-2.5)])


def test_a_rate_at_its_middle_and_corners():
    # z = i − (1 − β)/2 with β = 1/2: the line's middle at i = 3/4, corners at 1/4 and 5/4, rounded by log(2)/8 there
    middle, low, high = F.lif_rate(torch.tensor([0.75, 0.25, 1.25], dtype=torch.float64), ONE * 0.5, ONE).tolist()
    rounding = (math.log(2) - math.log1p(math.exp(-8))) / 8
    assert [middle, low, high] == pytest.approx([0.5, rounding, 1 - rounding])


# ── how good it is ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("decay", BETAS)
def test_the_simulated_rate_for_steady_current_is_the_devils_staircase(decay):
    steps, skip = 1400, 400
    currents = torch.linspace(0.003, 1.1, 111, dtype=torch.float64)
    for current, rate in zip(currents, simulate(currents.expand(steps, -1), decay, skip), strict=True):
        near = 1.5 / (steps - skip)  # the counting error of a rate over a finite stretch
        low, high = staircase(float(rate) - near, decay), staircase(float(rate) + near, decay)
        assert low <= float(current) <= high


MEASURED_STEADY = {0.5: (0.27, 0.095), 0.8: (0.15, 0.04), 0.9: (0.115, 0.03), 0.95: (0.1, 0.027), 0.99: (0.09, 0.026)}


@pytest.mark.parametrize("decay", BETAS)
def test_the_rounded_line_against_the_exact_rate_for_steady_current(decay):
    rates = torch.linspace(0.005, 0.995, 100, dtype=torch.float64)
    currents = torch.tensor([staircase(float(rate), decay) for rate in rates], dtype=torch.float64)
    error = (F.lif_rate(currents, ONE * decay, ONE) - rates).abs()
    assert error.max() < MEASURED_STEADY[decay][0]
    assert error.mean() < MEASURED_STEADY[decay][1]


# Off from the simulated rate for noisy input, mean and max: the sharp line, the ramp that it beats, and our two maps.
MEASURED_LINE = {
    0.5: (0.028, 0.102),
    0.8: (0.013, 0.054),
    0.9: (0.007, 0.044),
    0.95: (0.004, 0.032),
    0.99: (0.001, 0.013),
}
MEASURED_RAMP = {
    0.5: (0.082, 0.246),
    0.8: (0.039, 0.118),
    0.9: (0.022, 0.075),
    0.95: (0.012, 0.049),
    0.99: (0.003, 0.018),
}
MEASURED_ROUNDED = {
    0.5: (0.052, 0.095),
    0.8: (0.033, 0.07),
    0.9: (0.03, 0.07),
    0.95: (0.03, 0.073),
    0.99: (0.03, 0.082),
}

MEASURED_LOGISTIC = {
    0.5: (0.074, 0.16),
    0.8: (0.043, 0.085),
    0.9: (0.036, 0.062),
    0.95: (0.033, 0.062),
    0.99: (0.032, 0.076),
}


@pytest.mark.parametrize("decay", BETAS)
def test_each_map_is_as_close_as_it_was_measured(decay):
    currents = torch.linspace(0, 1.2, 61, dtype=torch.float64)
    noisy = currents + 0.2 * normal(500, 100, 61)
    simulated = simulate(noisy, decay, skip=200).mean(0)

    def error(rates):
        off = (rates - simulated).abs()
        return torch.stack([off.mean(), off.max()])

    line, ramp = (currents - (1 - decay) / 2).clamp(0, 1), ((currents - (1 - decay)) / decay).clamp(0, 1)
    rounded, logistic = F.lif_rate(currents, ONE * decay, ONE), F.lif_rate_logistic(currents, ONE * decay, ONE)
    slack = 0.001
    assert (error(line) <= torch.tensor(MEASURED_LINE[decay]) + slack).all()
    assert (error(ramp) <= 1.1 * torch.tensor(MEASURED_RAMP[decay]) + slack).all()
    assert (error(rounded) <= torch.tensor(MEASURED_ROUNDED[decay])).all()
    assert (error(logistic) <= torch.tensor(MEASURED_LOGISTIC[decay])).all()
    assert (error(line) < error(ramp)).all()


# ── its start ───────────────────────────────────────────────────────────────────────────────────────────────────────


@given(decay=st.floats(0.3, 0.99), steps=st.integers(1, 80), seed=st.integers(0, 20))
def test_what_flows_in_leaks_out_or_is_spent_on_spikes(decay, steps, seed):
    """The identity behind the line: with the weights of the trace, θ·rate = i − m·(1 − β)/(1 − βⁿ), exactly."""
    currents, membrane = normal(steps, 1, 1, seed=seed) + 0.4, torch.zeros(1, 1, dtype=torch.float64)
    threshold, rate, mean, weights = 0.7, 0.0, 0.0, 0.0
    for i in currents:
        spikes, membrane = F.lif_step(i, membrane, ONE * decay, ONE * threshold)
        rate, mean, weights = decay * rate + float(spikes), decay * mean + float(i), decay * weights + 1
    left = float(membrane) * (1 - decay) / (1 - decay**steps)
    assert threshold * rate / weights == pytest.approx(mean / weights - left, abs=1e-10)


def test_the_start_shifts_the_line_by_what_is_left_in_half_a_threshold():
    current, decay = torch.linspace(0, 1.5, 50, dtype=torch.float64), 0.9
    for n in (1, 2, 10, 1000):
        shift = (1 - decay) / 2 / (1 - decay**n) - (1 - decay) / 2
        early, shifted = (
            F.lif_rate(current, ONE * decay, ONE, torch.tensor(n)),
            F.lif_rate(current - shift, ONE * decay, ONE),
        )
        torch.testing.assert_close(early, shifted, rtol=1e-12, atol=1e-12)
    assert float(F.lif_rate(ONE, ONE * decay, ONE, torch.tensor(1))) == pytest.approx(0.5)  # fires at once if i > θ


@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_at_the_start_the_shifted_line_is_closer_than_the_steady_one(steps):
    currents = torch.linspace(0, 1.2, 61, dtype=torch.float64)
    noisy = currents + 0.2 * normal(steps, 400, 61)
    simulated = simulate(noisy, 0.9).mean(0)
    shifted, steady = (F.lif_rate(currents, ONE * 0.9, ONE, n) for n in (torch.tensor(steps), None))
    assert (shifted - simulated).square().mean() < (steady - simulated).square().mean()
