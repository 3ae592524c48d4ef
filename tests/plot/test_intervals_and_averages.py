"""Intervals and running averages of the figures, compared with values by hand and with the definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tracetorch import plot
from tracetorch.plot.smoothing import default_width, smoothed


@pytest.mark.parametrize(
    ("k", "n", "z", "low", "high"),
    [
        (0, 10, 2.0, 0.0, 4 / 14),  # (0 + 2 ± 2·√(0 + 1)) / 14
        (5, 10, 2.0, (7 - math.sqrt(14)) / 14, (7 + math.sqrt(14)) / 14),  # 2·√(2.5 + 1) = √14
        (0, 0, 1.96, 0.0, 1.0),
        (81, 263, 1.96, 0.25525, 0.36621),  # Newcombe (1998), Statistics in Medicine 17, table I: .2553 to .3662
    ],
)
def test_wilson_by_hand(k: int, n: int, z: float, low: float, high: float) -> None:
    found = plot.wilson(torch.tensor(k), torch.tensor(n), z)
    assert torch.stack(found).tolist() == pytest.approx([low, high], abs=1e-12 if n <= 10 else 5e-5)


@given(st.integers(0, 200), st.integers(0, 200))
def test_the_wilson_bounds_solve_the_wilson_equation(k: int, failures: int) -> None:
    n = k + failures
    low, high = (end.item() for end in plot.wilson(k, n))
    assert 0 <= low <= high <= 1
    if n:
        assert low <= k / n + 1e-12 and k / n <= high + 1e-12
        for end in (low, high):  # (p̂ − p)² = z²·p(1 − p)/n
            assert (k / n - end) ** 2 == pytest.approx(1.96**2 * end * (1 - end) / n, abs=1e-12)


VALUES = st.lists(st.floats(-100, 100), min_size=1, max_size=40)
HALF_LIVES = st.lists(st.floats(0.1, 1000), min_size=1, max_size=3, unique=True)


@given(VALUES, HALF_LIVES)
def test_the_meter_is_the_weighted_mean(values: list[float], half_lives: list[float]) -> None:
    meter = plot.TraceMeter(half_lives)
    curves = plot.running_averages(torch.tensor(values, dtype=torch.float64), half_lives)
    assert curves.shape == (len(half_lives), len(values)) and curves.dtype == torch.float64
    for n, value in enumerate(values, start=1):
        meter.update(value)
        for half_life, curve in zip(half_lives, curves, strict=True):
            weights = [2 ** (-(n - 1 - at) / half_life) for at in range(n)]
            mean = sum(w * v for w, v in zip(weights, values, strict=False)) / sum(weights)
            assert meter.averages[half_life] == pytest.approx(mean, rel=1e-9, abs=1e-9)
            assert curve[n - 1].item() == pytest.approx(meter.averages[half_life], rel=1e-12)


def test_the_meter_resumes_from_its_state_and_ignores_values_that_are_not_finite() -> None:
    meter, restored = plot.TraceMeter((2, 5)), plot.TraceMeter((2.0, 5.0))
    assert all(math.isnan(average) for average in meter.averages.values())
    for value in (1.0, math.nan, 4.0, math.inf):
        meter.update(value)
    assert meter.averages[2] == pytest.approx((4 + 1 * 2**-0.5) / (1 + 2**-0.5))
    assert all(type(value) in (int, float) for value in meter.state().values())
    restored.load(meter.state())
    for some in (meter, restored):
        some.update(7.0)
    assert restored.averages == meter.averages and restored.state() == meter.state()
    with pytest.raises(ValueError, match=r"this meter keeps half_life_3\.0, steps, got"):
        plot.TraceMeter((3,)).load(meter.state())
    curve = plot.running_averages(torch.tensor([math.nan, 2.0, math.nan, 4.0]), (1,))[0]
    assert curve[0].isnan() and curve[1:].tolist() == pytest.approx([2, 2, (4 + 1) / 1.5])
    assert plot.running_averages(torch.zeros(0)).shape == (3, 0)


def test_a_centred_average_is_the_weighted_line_at_each_point() -> None:
    generator = np.random.default_rng(0)
    x = np.sort(generator.uniform(0, 100, 60))
    y = generator.normal(size=60) + np.exp(-x / 5)
    for at, average in enumerate(smoothed(x, y, 7)):
        weight = 2 ** (-(((x - x[at]) / 7) ** 2) / 2)
        _, level = np.polyfit(x - x[at], y, 1, w=weight)  # polyfit squares its weights
        assert average == pytest.approx(np.clip(level, y.min(), y.max()), rel=1e-4, abs=1e-4)
    long, rising = np.arange(20_000.0), np.tanh(np.arange(20_000.0) / 4000)
    assert smoothed(long, rising, 500) == pytest.approx(rising, abs=5e-3)
    assert smoothed(np.ones(3), np.array([0.0, 1, 2]), 5).tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("span", "count", "width"), [(299, 300, 10), (780, 40, 50), (1e5, 10_001, 5000), (190, 20, 20), (180, 19, math.inf)]
)
def test_the_width_of_an_average_is_a_round_share_of_the_curve_and_at_least_a_gap(span, count, width) -> None:
    assert default_width(span, count) == width and default_width(0, 1) == 1
