"""Means, intervals and differences, against numbers worked out by hand and by scipy.stats."""

import math

import pytest
from scipy import stats

from tracetorch.compare.statistics import difference, summarize
from tracetorch.compare.text import with_error

ONE, OTHER = [0.71, 0.74, 0.69, 0.75], [0.78, 0.77, 0.70, 0.81]
T1, T2 = math.tan(0.475 * math.pi), 0.95 / math.sqrt(2 * 0.975 * 0.025)
"""Student's t at .975, which has a closed form for one and for two degrees of freedom."""


def seeds(values, first=0):
    return [(str(first + at), value) for at, value in enumerate(values)]


def test_three_values_two_and_one_by_hand():
    three, two, one = summarize([1.0, 2.0, 3.0]), summarize([0.0, 1.0]), summarize([0.9])
    assert (three.n, three.mean, three.sd, three.least, three.most) == (3, 2.0, 1.0, 1.0, 3.0)
    half = T2 / math.sqrt(3)
    assert three.bar == (three.low, three.high) == pytest.approx((2 - half, 2 + half), rel=1e-9)
    assert two.high - two.mean == pytest.approx(T1 / 2, rel=1e-9) and two.bar == (0.0, 1.0)
    assert (one.n, one.mean, one.least, one.most, one.bar) == (1, 0.9, 0.9, 0.9, None)
    assert all(map(math.isnan, (one.low, one.high, one.sd)))


def test_intervals_equal_those_of_scipy():
    for values in (ONE, [5.0, 5.0, 5.0], [-1e-9, 2e-9], [1e99, 3e99], [float(n) for n in range(100)]):
        found, error = summarize(values), stats.sem(values)
        expected = stats.t.interval(0.95, len(values) - 1, loc=found.mean, scale=error) if error else (5.0, 5.0)
        assert (found.low, found.high) == pytest.approx(expected, rel=1e-9)


def test_equal_seeds_are_paired_in_any_order_and_pairing_removes_their_spread():
    found = difference(seeds(ONE), seeds(OTHER)[::-1])
    expected = stats.ttest_rel(OTHER, ONE).confidence_interval(0.95)
    assert found.how == "paired by seed"
    assert (found.low, found.high) == pytest.approx(expected, rel=1e-9)
    assert found.mean == pytest.approx(sum(OTHER) / 4 - sum(ONE) / 4)
    one, other = [0.5, 0.7, 0.9], [0.51, 0.712, 0.911]
    assert difference(seeds(one), seeds(other)).low > 0 > difference(seeds(one), seeds(other, first=1)).low


def test_other_seeds_give_welchs_interval_and_a_single_run_none():
    for before, after in (
        (seeds(ONE), seeds(OTHER, first=1)),  # other seeds
        (seeds(ONE), seeds(OTHER[:3])),  # fewer
        (seeds(ONE), [("0", value) for value in OTHER]),  # one seed several times
        ([("", value) for value in ONE], [("", value) for value in OTHER]),  # seeds that are unknown
    ):
        a, b = ([value for _, value in group] for group in (before, after))
        found, expected = difference(before, after), stats.ttest_ind(b, a, equal_var=False).confidence_interval(0.95)
        assert found.mean == pytest.approx(sum(b) / len(b) - sum(a) / len(a)) and found.how == "Welch"
        assert (found.low, found.high) == pytest.approx(expected, rel=1e-9)
    alone = difference([("0", value) for value in ONE], seeds(OTHER[:1]))
    assert math.isnan(alone.low) and math.isnan(alone.high) and "one run alone" in alone.how
    assert alone.mean == pytest.approx(OTHER[0] - sum(ONE) / 4)


def test_a_group_without_variance_adds_none():
    found = difference(seeds([1.0, 1.0, 1.0]), seeds([2.0, 3.0], first=5))
    half = T1 * math.sqrt(0.5 / 2)  # of a variance of .5 over two runs, with the one degree of freedom of their group
    assert (found.mean, found.low, found.high) == pytest.approx((1.5, 1.5 - half, 1.5 + half), rel=1e-9)
    found = difference(seeds([1.0, 1.0]), seeds([3.0, 3.0, 3.0]))
    assert (found.mean, found.low, found.high) == (2.0, 2.0, 2.0)


@pytest.mark.parametrize(
    ("value", "half", "text"),
    [
        (0.9134, 0.0123, "0.913 ± 0.012"),
        (-0.9134, 0.0123, "−0.913 ± 0.012"),
        (41.2, 3.4, "41.2 ± 3.4"),
        (1234.0, 56.0, "1234 ± 56"),
        (2e6, 3e3, "2.000e+06 ± 3e+03"),
        (0.5, 1e-9, "0.5000 ± 1e-09"),
        (0.5, math.nan, "0.5000"),
    ],
)
def test_an_error_is_written_with_two_digits(value, half, text):
    assert with_error(value, half) == text
