"""Running mean and deviation: those of numpy, however the rows come."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.common import normal
from tracetorch.tasks.gym import RunningMeanStd


def filled(rows, sizes):
    """RunningMeanStd of these rows, counted in so many at a time."""
    statistics = RunningMeanStd(rows.shape[1])
    for part in rows.split(sizes):
        statistics.update(part)
    return statistics


@given(sizes=st.lists(st.integers(1, 7), min_size=1, max_size=20), offset=st.floats(-1e6, 1e6), seed=st.integers(0, 99))
def test_they_are_numpys_however_the_rows_come(sizes, offset, seed):
    rows = normal(sum(sizes), 3, seed=seed) * torch.tensor([1.0, 100.0, 0.01]) + offset
    statistics = filled(rows, sizes)
    assert statistics.count == len(rows)
    assert np.allclose(statistics.mean, rows.numpy().mean(axis=0), rtol=1e-12, atol=1e-12)
    assert np.allclose(statistics.deviation, rows.numpy().std(axis=0), rtol=1e-6, atol=1e-9)


def test_a_large_mean_does_not_swallow_a_small_deviation():
    rows = normal(1000, 1) * 1e-3 + 1e6
    statistics = filled(rows, [10] * 100)
    assert float(statistics.deviation) == pytest.approx(float(rows.numpy().std()), rel=1e-6)


def test_what_is_standardized_has_mean_0_and_deviation_1():
    rows = normal(500, 2) * torch.tensor([3.0, 0.02]) - 7
    scaled = filled(rows, [100] * 5).standardize(rows)
    assert scaled.dtype == torch.float32
    assert torch.allclose(scaled.mean(dim=0), torch.zeros(2), atol=1e-5)
    assert torch.allclose(scaled.std(dim=0, correction=0), torch.ones(2), atol=1e-5)


def test_a_constant_feature_is_0_and_its_rounding_is_not_blown_up():
    rows = torch.full((32, 1), 0.1, dtype=torch.float64)
    statistics = RunningMeanStd(1)
    for _ in range(1000):
        statistics.update(rows)
    assert statistics.standardize(rows).abs().max() == 0
    statistics = RunningMeanStd(2)
    assert torch.equal(statistics.standardize(torch.ones(1, 2)), torch.zeros(1, 2))  # before anything was seen


def test_they_go_on_from_their_state():
    rows = normal(60, 2)
    first, second = filled(rows[:30], [10] * 3), RunningMeanStd(2)
    state = first.state_dict()
    first.update(rows[30:40])  # which does not reach into the state
    second.load_state_dict(state)
    second.update(rows[30:])
    whole = filled(rows, [10, 10, 10, 30])
    assert torch.equal(second.mean, whole.mean) and torch.equal(second.squares, whole.squares)
    with pytest.raises(ValueError, match="the state has 2 features, this observation 3"):
        RunningMeanStd(3).load_state_dict(state)
