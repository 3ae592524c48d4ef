"""Constrained parameters: both directions, the bounds, the units of time, the errors."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tracetorch import constrain as C

PAIRS = [(C.raw_from_decay, C.decay_from_raw, 1.0), (C.raw_from_positive, C.positive_from_raw, math.inf)]


def exact(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


@given(st.floats(1e-6, 1 - 1e-6), st.floats(-12, 12), st.floats(1e-3, 1), st.floats(-100, 100))
def test_storage_is_inverted_by_reading_which_rises_and_stays_inside_the_bounds(value, raw, more, wild):
    for store, read, most in PAIRS:
        assert float(read(store(exact(value)))) == pytest.approx(value, rel=1e-8)
        assert float(store(read(exact(raw)))) == pytest.approx(raw, abs=1e-9)
        assert read(exact(raw + more)) > read(exact(raw))
        for dtype in (torch.float32, torch.float64):
            assert 0 < float(read(torch.tensor(wild, dtype=dtype))) < most
        assert torch.autograd.gradcheck(read, exact(raw).requires_grad_())
    assert float(C.positive_from_raw(C.raw_from_positive(1e6 * exact(value)))) == pytest.approx(1e6 * value, rel=1e-8)


@given(st.floats(0.05, 1e6), st.floats(1e-3, 10))
def test_a_half_life_leaves_a_half_and_a_time_constant_one_part_in_e(time, dt):
    for to_decay, from_decay, left in (
        (C.decay_from_half_life, C.half_life_from_decay, 0.5),
        (C.decay_from_time_constant, C.time_constant_from_decay, 1 / math.e),
    ):
        assert float(to_decay(1.0)) == pytest.approx(left) and float(from_decay(exact(left))) == pytest.approx(1)
        decay = to_decay(exact(time), dt)
        if 0 < decay < 1:
            assert float(decay) ** (time / dt) == pytest.approx(left, rel=1e-6)
            assert float(from_decay(decay, dt)) == pytest.approx(time, rel=1e-6)


@given(st.floats(0.01, 0.9), st.floats(0.91, 0.9999), st.integers(2, 40))
def test_spread_is_even_in_the_logarithm_of_the_half_life(low, high, count):
    decays = C.spread(low, high, count)
    assert decays.shape == (count,) and decays.dtype == torch.get_default_dtype()
    assert [float(decays[0]), float(decays[-1])] == pytest.approx([low, high], rel=1e-4)
    gaps = torch.log(C.half_life_from_decay(decays.double())).diff()
    torch.testing.assert_close(gaps, gaps.mean().expand(count - 1), rtol=0.02, atol=2e-3)
    assert C.spread(0.5, 0.9, 1).tolist() == [0.5]


OUTSIDE, POSITIVE = r"a decay must be between 0 and 1 \(both excluded\), got", "must be a finite number above 0"


@pytest.mark.parametrize(
    ("take", "bad", "message"),
    [
        *((C.raw_from_decay, bad, OUTSIDE) for bad in (0.0, 1.0, -0.1, math.nan)),
        (C.half_life_from_decay, 1.0, OUTSIDE),
        (C.time_constant_from_decay, math.inf, OUTSIDE),
        *((C.raw_from_positive, bad, f"a threshold {POSITIVE}") for bad in (0.0, math.nan, math.inf)),
        (C.decay_from_half_life, 0.0, f"a half-life {POSITIVE}"),
        (C.decay_from_time_constant, math.inf, f"a time constant {POSITIVE}"),
        (C.raw_from_decay, torch.tensor([0.5, 1.5]), r"got \[0\.5, 1\.5\]"),
        (C.raw_from_decay, torch.tensor([0.5] * 9 + [1.5]), r"got values from 0\.5 to 1\.5"),
        (C.raw_from_decay, 1e-9, r"must differ from 0 and from 1 by more than 1.19209e-07 in torch.float32"),
        (C.raw_from_positive, 1e-12, r"a threshold must be above 3e-10 in torch.float32, got 1e-12"),
        (lambda count: C.spread(0.5, 0.9, count), 0, "count of at least 1, got 0"),
    ],
)
def test_a_value_out_of_range_is_refused(take, bad, message):
    with pytest.raises(ValueError, match=message):
        take(bad)
