"""Constrained parameters: both directions, the bounds, the units of time, the errors."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tracetorch import constrain as C

DECAYS = st.floats(1e-6, 1 - 1e-6)
LEVELS = st.floats(1e-6, 1e6)
TIMES = st.floats(0.05, 1e6)
ANY_RAW = st.floats(-100, 100)


def exact(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


@given(DECAYS)
def test_a_decay_survives_storage(decay):
    assert float(C.decay_from_raw(C.raw_from_decay(exact(decay)))) == pytest.approx(decay, rel=1e-9)


@given(LEVELS)
def test_a_level_survives_storage(level):
    assert float(C.positive_from_raw(C.raw_from_positive(exact(level)))) == pytest.approx(level, rel=1e-8)


@given(st.floats(-12, 12))
def test_a_raw_number_survives_reading(raw):
    assert float(C.raw_from_decay(C.decay_from_raw(exact(raw)))) == pytest.approx(raw, abs=1e-9)
    assert float(C.raw_from_positive(C.positive_from_raw(exact(raw)))) == pytest.approx(raw, abs=1e-9)


@given(st.floats(-12, 12), st.floats(1e-3, 1))
def test_reading_rises(raw, more):
    assert C.decay_from_raw(exact(raw + more)) > C.decay_from_raw(exact(raw))
    assert C.positive_from_raw(exact(raw + more)) > C.positive_from_raw(exact(raw))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@given(raw=ANY_RAW)
def test_any_raw_number_reads_as_a_decay_inside_0_and_1(dtype, raw):
    assert 0 < float(C.decay_from_raw(torch.tensor(raw, dtype=dtype))) < 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@given(raw=ANY_RAW)
def test_any_raw_number_reads_as_a_positive_level(dtype, raw):
    assert 0 < float(C.positive_from_raw(torch.tensor(raw, dtype=dtype))) < math.inf


@pytest.mark.parametrize("read", [C.decay_from_raw, C.positive_from_raw])
def test_reading_is_smooth(read):
    raw = torch.linspace(-6, 6, 13, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(read, raw)


@given(TIMES, st.floats(1e-3, 10))
def test_a_half_life_halves(half_life, dt):
    decay = C.decay_from_half_life(exact(half_life), dt)
    if 0 < decay < 1:
        assert float(decay) ** (half_life / dt) == pytest.approx(0.5, rel=1e-6)
        assert float(C.half_life_from_decay(decay, dt)) == pytest.approx(half_life, rel=1e-6)


@given(TIMES, st.floats(1e-3, 10))
def test_a_time_constant_leaves_one_part_in_e(time_constant, dt):
    decay = C.decay_from_time_constant(exact(time_constant), dt)
    if 0 < decay < 1:
        assert float(decay) ** (time_constant / dt) == pytest.approx(1 / math.e, rel=1e-6)
        assert float(C.time_constant_from_decay(decay, dt)) == pytest.approx(time_constant, rel=1e-6)


@given(DECAYS)
def test_a_half_life_is_ln_2_time_constants(decay):
    ratio = C.half_life_from_decay(exact(decay)) / C.time_constant_from_decay(exact(decay))
    assert float(ratio) == pytest.approx(math.log(2), rel=1e-9)


def test_known_conversions():
    assert float(C.decay_from_half_life(1.0)) == 0.5
    assert float(C.decay_from_half_life(20.0, dt=10.0)) == pytest.approx(math.sqrt(0.5))
    assert float(C.decay_from_time_constant(10.0)) == pytest.approx(0.904837418)
    assert float(C.raw_from_decay(0.5)) == 0
    assert float(C.raw_from_positive(math.log(2))) == pytest.approx(0, abs=1e-6)


@given(st.floats(0.01, 0.9), st.floats(0.91, 0.9999), st.integers(2, 40))
def test_spread_is_even_in_the_logarithm_of_the_half_life(low, high, count):
    decays = C.spread(low, high, count)
    assert decays.shape == (count,) and decays.dtype == torch.get_default_dtype()
    assert [float(decays[0]), float(decays[-1])] == pytest.approx([low, high], rel=1e-4)
    gaps = torch.log(C.half_life_from_decay(decays.double())).diff()
    torch.testing.assert_close(gaps, gaps.mean().expand(count - 1), rtol=0.02, atol=2e-3)


def test_spread_of_one_is_the_lower_end():
    assert C.spread(0.5, 0.9, 1).tolist() == [0.5]
    with pytest.raises(ValueError, match="count of at least 1, got 0"):
        C.spread(0.5, 0.9, 0)


@pytest.mark.parametrize("bad", [0.0, 1.0, -0.1, 1.1, math.nan, math.inf])
@pytest.mark.parametrize("take", [C.raw_from_decay, C.half_life_from_decay, C.time_constant_from_decay])
def test_a_decay_outside_0_and_1_is_refused(take, bad):
    with pytest.raises(ValueError, match=r"a decay must be between 0 and 1 \(both excluded\), got"):
        take(bad)


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
@pytest.mark.parametrize(
    ("take", "what"),
    [
        (C.raw_from_positive, "a threshold"),
        (C.decay_from_half_life, "a half-life"),
        (C.decay_from_time_constant, "a time constant"),
    ],
)
def test_a_level_or_time_that_is_not_positive_is_refused(take, what, bad):
    with pytest.raises(ValueError, match=f"{what} must be a finite number above 0"):
        take(bad)


def test_one_bad_value_among_many_is_refused_and_the_range_is_shown():
    with pytest.raises(ValueError, match=r"got \[0\.5, 1\.5\]"):
        C.raw_from_decay(torch.tensor([0.5, 1.5]))
    with pytest.raises(ValueError, match=r"got values from 0\.5 to 1\.5"):
        C.raw_from_decay(torch.tensor([0.5] * 9 + [1.5]))
