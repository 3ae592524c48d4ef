"""Means, intervals and differences, against numbers worked out by hand and by scipy.stats."""

import math

import pytest
from scipy import stats

from tracetorch.compare.statistics import difference, summarize

ONE, OTHER = [0.71, 0.74, 0.69, 0.75], [0.78, 0.77, 0.70, 0.81]


def seeds(values, first=0):
    return [(str(first + at), value) for at, value in enumerate(values)]


# Student's t has a closed form for one and for two degrees of freedom; at .975:
T1, T2 = math.tan(0.475 * math.pi), 0.95 / math.sqrt(2 * 0.975 * 0.025)


def test_three_values_by_hand():
    found = summarize([1.0, 2.0, 3.0])
    half = T2 * 1.0 / math.sqrt(3)
    assert (found.n, found.mean, found.sd, found.least, found.most) == (3, 2.0, 1.0, 1.0, 3.0)
    assert (found.low, found.high) == pytest.approx((2 - half, 2 + half), rel=1e-9)
    assert half == pytest.approx(2.4841, abs=1e-4)


def test_two_values_by_hand():
    found = summarize([0.0, 1.0])
    assert found.high - found.mean == pytest.approx(T1 * math.sqrt(0.5) / math.sqrt(2), rel=1e-9)
    assert found.high == pytest.approx(6.8531, abs=1e-4)


@pytest.mark.parametrize("values", [ONE, OTHER, [5.0, 5.0, 5.0], [-1e-9, 2e-9], [1e99, 3e99], list(range(100))])
def test_intervals_are_those_of_scipy(values):
    values = [float(value) for value in values]
    found = summarize(values)
    if len(set(values)) == 1:
        assert (found.low, found.high) == (5.0, 5.0)
        return
    expected = stats.t.interval(0.95, len(values) - 1, loc=found.mean, scale=stats.sem(values))
    assert (found.low, found.high) == pytest.approx(expected, rel=1e-9)


def test_one_value_has_no_interval():
    found = summarize([0.9])
    assert (found.n, found.mean, found.least, found.most) == (1, 0.9, 0.9, 0.9)
    assert all(map(math.isnan, (found.low, found.high, found.sd)))


def test_the_same_seeds_are_paired_in_whatever_order():
    found = difference(seeds(ONE), seeds(OTHER)[::-1])
    expected = stats.ttest_rel(OTHER, ONE).confidence_interval(0.95)
    assert found.how == "paired by seed"
    assert (found.low, found.high) == pytest.approx(expected, rel=1e-9)
    assert found.mean == pytest.approx(sum(OTHER) / 4 - sum(ONE) / 4)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (seeds(ONE), seeds(OTHER, first=1)),  # other seeds
        (seeds(ONE), seeds(OTHER[:3])),  # fewer
        (seeds(ONE), [("0", value) for value in OTHER]),  # one seed several times
        ([("", value) for value in ONE], [("", value) for value in OTHER]),  # seeds that are unknown
    ],
)
def test_else_it_is_welch(first, second):
    a, b = ([value for _, value in group] for group in (first, second))
    found = difference(first, second)
    expected = stats.ttest_ind(b, a, equal_var=False).confidence_interval(0.95)
    assert found.how == "Welch"
    assert (found.low, found.high) == pytest.approx(expected, rel=1e-9)


def test_pairing_sees_what_seeds_hide():
    one, other = seeds([0.5, 0.7, 0.9]), seeds([0.51, 0.712, 0.911])
    unpaired = difference(one, [(f"1{seed}", value) for seed, value in other])
    assert difference(one, other).low > 0 > unpaired.low


@pytest.mark.parametrize(("first", "second"), [([1.0], [2.0]), ([1.0], [2.0, 3.0]), ([1.0, 0.0], [2.0])])
def test_one_run_alone_has_no_interval(first, second):
    found = difference(seeds(first), seeds(second))
    assert found.mean == sum(second) / len(second) - sum(first) / len(first)
    assert math.isnan(found.low) and math.isnan(found.high) and "one run alone" in found.how


def test_where_one_group_has_no_variance_the_other_counts_alone():
    found = difference(seeds([1.0, 1.0, 1.0]), seeds([2.0, 3.0], first=5))
    half = T1 * math.sqrt(0.5 / 2)  # of a variance of .5 over two runs, with the one degree of freedom of their group
    assert (found.mean, found.low, found.high) == pytest.approx((1.5, 1.5 - half, 1.5 + half), rel=1e-9)


def test_values_without_variance_differ_for_certain():
    found = difference(seeds([1.0, 1.0]), seeds([3.0, 3.0, 3.0]))
    assert (found.mean, found.low, found.high) == (2.0, 2.0, 2.0)
