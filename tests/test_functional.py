"""The steps and averages, against numbers worked out by hand and sums written out in full."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.common import normal
from tracetorch import functional as F

HALF, ONE, ZERO = (torch.tensor([[value]], dtype=torch.float64) for value in (0.5, 1.0, 0.0))
DECAYS = st.floats(0.05, 0.995)


def live(step, xs: list[float]) -> list[list[float]]:
    """What a step gives for one input after another, from zero: what it returns, its state last."""
    state, found = ZERO, []
    for x in xs:
        result = step(x * ONE, state)
        result = result if isinstance(result, tuple) else (result,)
        state = result[-1]
        found.append([float(value) for value in result])
    return found


def test_five_steps_by_hand():
    """Halves and quarters, so every number is exact; the first membrane of LIF ties with its threshold."""
    trace = live(lambda x, trace: F.trace_step(x, trace, HALF), [1, 0, 1, 1, 0])
    assert trace == [[1], [0.5], [1.25], [1.625], [0.8125]]
    lif = live(lambda x, membrane: F.lif_step(x, membrane, HALF, ONE), [1, 0.75, 0.75, 1, 0])
    assert lif == [[0, 1], [1, 0.25], [0, 0.875], [1, 0.4375], [0, 0.21875]]
    li = live(lambda x, membrane: F.li_step(x, membrane, HALF), [1, -1, 0, 2, 0.5])
    assert li == [[1], [-0.5], [-0.25], [1.875], [1.4375]]
    # Neurons do not mix, and a reset subtracts one threshold however high the membrane.
    decay, threshold = torch.tensor([0.5, 0.25, 0.5]), torch.tensor([1.0, 2.0, 1.5])
    spikes, membrane = F.lif_step(torch.tensor([[1.0, 1.0, 5.0]]), torch.tensor([[1.0, 4.0, 0.0]]), decay, threshold)
    assert spikes.tolist() == [[1, 0, 1]] and membrane.tolist() == [[0.5, 2, 3.5]]


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
    *_, [membrane] = live(lambda x, membrane: F.li_step(x, membrane, ONE * decay), [current] * steps)
    level = F.li_level(ONE * current, ONE * decay, torch.tensor([[steps]]))
    assert float(level) == pytest.approx(membrane, rel=1e-12, abs=1e-12)
    assert float(F.rise(ONE * decay, torch.tensor([[later]]))) == pytest.approx(1 - decay**later, rel=1e-9)


def test_a_level_without_steps_is_where_the_membrane_ends_and_a_distribution_is_its_softmax():
    assert float(F.li_level(ONE * 3, HALF)) == 6 == pytest.approx(float(F.li_level(ONE * 3, HALF, torch.tensor(10**6))))
    current, steps = normal(3, 4), torch.tensor([[1], [5], [50]])
    wanted = F.li_level(current, HALF, steps).exp()
    torch.testing.assert_close(F.lis_distribution(current, HALF, steps), wanted / wanted.sum(-1, keepdim=True))
    torch.testing.assert_close(F.lis_distribution(current, HALF), torch.softmax(2 * current, -1))
