"""The steps and averages, against numbers worked out by hand and sums written out in full."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.common import normal
from tracetorch import functional as F

HALF, ONE = torch.tensor(0.5, dtype=torch.float64), torch.tensor(1.0, dtype=torch.float64)
DECAYS = st.floats(0.05, 0.995)


def column(*values: float) -> torch.Tensor:
    """One number for each step: (time, batch=1, features=1)."""
    return torch.tensor(values, dtype=torch.float64).view(-1, 1, 1)


# ── five steps by hand; halves and quarters, so every number is exact ───────────────────────────────────────────────


def test_a_trace_of_five_steps():
    trace, seen = torch.zeros(1, 1, dtype=torch.float64), []
    for x in column(1, 0, 1, 1, 0):
        trace = F.trace_step(x, trace, HALF)
        seen.append(float(trace))
    assert seen == [1, 0.5, 1.25, 1.625, 0.8125]


def test_five_steps_of_lif_with_a_tie_at_the_threshold():
    # β = 1/2, θ = 1          m before the spike: 1 (tie, silent), 1.25 (fires), .875, 1.4375 (fires), .21875
    membrane, fired, left = torch.zeros(1, 1, dtype=torch.float64), [], []
    for current in column(1, 0.75, 0.75, 1, 0):
        spikes, membrane = F.lif_step(current, membrane, HALF, ONE)
        fired.append(float(spikes))
        left.append(float(membrane))
    assert fired == [0, 1, 0, 1, 0]
    assert left == [1, 0.25, 0.875, 0.4375, 0.21875]


def test_the_reset_subtracts_one_threshold_however_far_the_membrane_is_above_it():
    spikes, membrane = F.lif_step(column(5)[0], torch.zeros(1, 1), HALF, ONE * 1.5)
    assert float(spikes) == 1 and float(membrane) == 3.5


def test_neurons_with_their_own_decay_and_threshold_do_not_mix():
    decay, threshold = torch.tensor([0.5, 0.25]), torch.tensor([1.0, 2.0])
    spikes, membrane = F.lif_step(torch.tensor([[1.0, 1.0]]), torch.tensor([[1.0, 4.0]]), decay, threshold)
    assert spikes.tolist() == [[1, 0]] and membrane.tolist() == [[0.5, 2]]


def test_five_steps_of_a_leaky_integrator():
    membrane, seen = torch.zeros(1, 1, dtype=torch.float64), []
    for current in column(1, -1, 0, 2, 0.5):
        membrane = F.li_step(current, membrane, HALF)
        seen.append(float(membrane))
    assert seen == [1, -0.5, -0.25, 1.875, 1.4375]


# ── the average input is a weighted mean ────────────────────────────────────────────────────────────────────────────


@given(decay=DECAYS, steps=st.integers(1, 40), seed=st.integers(0, 9))
def test_the_average_input_is_the_weighted_mean_from_the_first_step_on(decay, steps, seed):
    xs, trace, d = normal(steps, 2, 3, seed=seed), torch.zeros(2, 3, dtype=torch.float64), ONE * decay
    for x in xs:
        trace = F.trace_step(x, trace, d)
    weights = (decay ** torch.arange(steps - 1, -1, -1, dtype=torch.float64)).view(-1, 1, 1)
    wanted = (weights * xs).sum(0) / weights.sum()
    torch.testing.assert_close(F.average_input(trace, d, torch.full((2, 1), steps)), wanted, rtol=1e-10, atol=1e-12)
    uncorrected = wanted * (1 - decay**steps)
    torch.testing.assert_close(F.average_input(trace, d), uncorrected, rtol=1e-10, atol=1e-12)


def test_without_the_correction_the_average_is_right_only_in_the_long_run():
    d, trace = ONE * 0.9, torch.zeros(1, 1, dtype=torch.float64)
    for n in range(1, 301):
        trace = F.trace_step(ONE.view(1, 1), trace, d)
        corrected, plain = F.average_input(trace, d, torch.tensor([[n]])), F.average_input(trace, d)
        assert float(corrected) == pytest.approx(1, abs=1e-12)
        assert float(plain) == pytest.approx(1 - 0.9**n, abs=1e-12)


def test_each_row_and_each_input_has_its_own_steps_and_decay():
    trace, decay = torch.ones(2, 2, dtype=torch.float64), torch.tensor([0.5, 0.75], dtype=torch.float64)
    average = F.average_input(trace, decay, torch.tensor([[1], [2]]))
    wanted = torch.tensor([[1, 1], [0.5 / 0.75, 0.25 / (1 - 0.75**2)]], dtype=torch.float64)
    torch.testing.assert_close(average, wanted)


@given(decay=DECAYS, steps=st.integers(1, 10**6))
def test_seen_is_what_a_trace_has_reached(decay, steps):
    assert float(F.rise(ONE * decay, torch.tensor([[steps]]))) == pytest.approx(1 - decay**steps, rel=1e-9)


def test_before_the_first_step_nothing_is_divided_by_zero():
    assert float(F.average_input(torch.zeros(1, 1), HALF, torch.tensor([[0]]))) == 0


# ── leaky integrators: the level is the membrane ────────────────────────────────────────────────────────────────────


@given(decay=DECAYS, current=st.floats(-5, 5), steps=st.integers(1, 60))
def test_the_level_is_the_membrane_under_steady_current(decay, current, steps):
    membrane, i = torch.zeros(1, 1, dtype=torch.float64), column(current)[0]
    for _ in range(steps):
        membrane = F.li_step(i, membrane, ONE * decay)
    level = F.li_level(i, ONE * decay, torch.tensor([[steps]]))
    torch.testing.assert_close(level, membrane, rtol=1e-12, atol=1e-12)


def test_the_level_without_steps_is_where_the_membrane_ends():
    assert float(F.li_level(ONE * 3, HALF)) == 6
    far = F.li_level(ONE * 3, HALF, torch.tensor([[10**6]]))
    torch.testing.assert_close(far, F.li_level(ONE * 3, HALF).view(1, 1))


def test_the_distribution_is_the_softmax_of_the_level():
    current, steps = normal(3, 4), torch.tensor([[1], [5], [50]])
    level = F.li_level(current, HALF, steps)
    wanted = level.exp() / level.exp().sum(-1, keepdim=True)
    torch.testing.assert_close(F.lis_distribution(current, HALF, steps), wanted)
    torch.testing.assert_close(F.lis_distribution(current, HALF), torch.softmax(2 * current, -1))
