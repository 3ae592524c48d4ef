"""Random numbers from a counter: pinned bits, a function of the four names alone, and as good as random.

The statistics are of fixed draws: bounds are four or five standard deviations wide, and hold for ever or never.
"""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tracetorch.kernels import draw, draw_below
from tracetorch.kernels.counter import mix_seed

ROWS = torch.arange(64)
WHOLE = st.integers(-(2**70), 2**70)


def words(seed: int, steps: range, samples: list[int], channels: int) -> list:
    """The top 24 bits, as whole numbers."""
    return (draw(seed, steps, torch.tensor(samples), channels).double() * 2**24).long().tolist()


def word_by_hand(seed: int, step: int, sample: int, channel: int) -> int:
    """The algorithm of the docstring in Python's own unsigned numbers."""
    m64, m32 = (1 << 64) - 1, (1 << 32) - 1

    def mix64(key: int) -> int:
        key = (key ^ key >> 30) * 0xBF58476D1CE4E5B9 & m64
        key = (key ^ key >> 27) * 0x94D049BB133111EB & m64
        return key ^ key >> 31

    key = mix64(mix_seed(seed) + step * 0x9E3779B97F4A7C15 + sample * 0xD1B54A32D192ED03 & m64)
    word = channel * 0x9E3779B9 + (key & m32) & m32
    word = (word ^ word >> 16) * 0x7FEB352D & m32 ^ key >> 32
    word = (word ^ word >> 15) * 0x846CA68B & m32
    word = word ^ word >> 16
    return (word >> 8) ^ 1 << 23  # the signed reading, shifted up to start at 0


# ── the bits never change ───────────────────────────────────────────────────────────────────────────────────────────


def test_pinned_words():
    assert words(0, range(2), [0, 1], 4) == [
        [[483055, 7199189, 14402038, 10542148], [6722498, 7147779, 2426752, 1589525]],
        [[1243048, 16539676, 559523, 13664555], [12231482, 9710660, 1707895, 6142267]],
    ]
    assert words(12345, range(999_999, 1_000_001), [7, 2**40], 3) == [
        [[1166037, 6529883, 15484944], [7011976, 14098980, 14785887]],
        [[15788010, 4058653, 16438800], [5111322, 8969342, 13110809]],
    ]
    assert words(-1, range(1), [-5], 3) == [[[1608519, 9093610, 12282637]]]


def test_pinned_seeds():
    assert [mix_seed(*parts) for parts in [(), (0,), (1,), (1, 2), (2, 1), (-1,)]] == [
        0,
        7905728728188956330,
        8037428539430452699,
        16342715402602321209,
        9270659787885860560,
        11153449448870870801,
    ]


@given(seed=WHOLE, step=st.integers(0, 2**40), sample=st.integers(-(2**62), 2**62), channel=st.integers(0, 300))
def test_every_word_is_that_of_the_algorithm(seed, step, sample, channel):
    drawn = words(seed, range(step, step + 1), [sample], channel + 1)[0][0][channel]
    assert drawn == word_by_hand(seed, step, sample, channel)


# ── a function of (seed, step, sample, channel) and of nothing else ─────────────────────────────────────────────────


@given(
    start=st.integers(0, 10**9), cut=st.integers(1, 11), channels=st.integers(1, 20), order=st.permutations(range(5))
)
def test_no_draw_depends_on_its_company(start, cut, channels, order):
    samples = torch.tensor([3, 9, -4, 2**40, 0])
    whole = draw(7, range(start, start + 12), samples, 20)
    parts = [draw(7, range(start, start + cut), samples, 20), draw(7, range(start + cut, start + 12), samples, 20)]
    assert torch.equal(torch.cat(parts), whole)
    assert torch.equal(draw(7, range(start, start + 12), samples[order], channels), whole[:, order, :channels])


def test_threads_change_nothing():
    threads, wanted = torch.get_num_threads(), draw(1, range(40), ROWS, 200)
    try:
        torch.set_num_threads(2)
        assert torch.equal(draw(1, range(40), ROWS, 200), wanted)
    finally:
        torch.set_num_threads(threads)


def test_steps_with_a_stride_are_those_steps_or_an_error():
    every_other = draw(0, range(10), ROWS, 3)[::2]
    try:
        drawn = draw(0, range(0, 10, 2), ROWS, 3)
    except ValueError:
        return
    assert torch.equal(drawn, every_other)


@given(parts=st.lists(WHOLE, min_size=1, max_size=4))
def test_mixed_seeds_differ_by_part_order_and_number(parts):
    mixed = mix_seed(*parts)
    assert 0 <= mixed < 2**64
    assert mixed != mix_seed(*parts, 0) and mixed != mix_seed(parts[0] + 1, *parts[1:])
    assert parts == parts[::-1] or mixed != mix_seed(*parts[::-1])


# ── as good as random ───────────────────────────────────────────────────────────────────────────────────────────────


def chi_square(counts: torch.Tensor) -> float:
    """How many standard deviations the statistic lies from what uniform counts would give."""
    expected = counts.sum() / counts.numel()
    freedom = counts.numel() - 1
    return float((((counts - expected) ** 2 / expected).sum() - freedom) / math.sqrt(2 * freedom))


MANY = draw(2024, range(64), ROWS, 64)  # 2¹⁸ numbers
KINDS = {
    "time": (MANY[1:], MANY[:-1]),
    "batch": (MANY[:, 1:], MANY[:, :-1]),
    "channel": (MANY[..., 1:], MANY[..., :-1]),
    "two-channels": (MANY[..., 2:], MANY[..., :-2]),
    "seed": (MANY, draw(2025, range(64), ROWS, 64)),
    "step-for-sample": (MANY, MANY.transpose(0, 1).roll(1, 0)),
    "sample-for-channel": (MANY, MANY.transpose(1, 2).roll(1, 1)),
}
kinds = pytest.mark.parametrize("kind", KINDS)


def test_numbers_lie_in_0_to_1_and_are_multiples_of_two_to_the_minus_24():
    assert MANY.shape == (64, 64, 64) and MANY.dtype == torch.float32
    assert MANY.min() >= 0 and MANY.max() < 1
    assert torch.equal(MANY.double() * 2**24, (MANY.double() * 2**24).round())
    assert MANY.min() < 2**-16 and MANY.max() > 1 - 2**-16


def test_numbers_are_uniform():
    assert abs(chi_square(torch.histc(MANY.double(), 256, 0, 1))) < 4
    assert abs(float(MANY.double().mean()) - 0.5) < 4 / math.sqrt(12 * MANY.numel())
    assert abs(float(MANY.double().square().mean()) - 1 / 3) < 4 * math.sqrt(4 / 45 / MANY.numel())


def test_every_one_of_the_24_bits_is_a_fair_coin():
    whole = (MANY.double() * 2**24).long()
    for bit in range(24):
        assert abs(float((whole >> bit & 1).double().mean()) - 0.5) < 4 * 0.5 / math.sqrt(MANY.numel())


@kinds
def test_neighbours_are_not_correlated(kind):
    one, two = (side.double().flatten() - 0.5 for side in KINDS[kind])
    assert abs(float((one * two).mean()) * 12) < 4 / math.sqrt(len(one))


@kinds
def test_pairs_of_neighbours_fill_the_square_evenly(kind):
    one, two = ((side.flatten() * 16).long() for side in KINDS[kind])
    assert abs(chi_square(torch.bincount(16 * one + two, minlength=256).double())) < 4


@kinds
def test_a_neighbour_differs_in_half_of_all_bits(kind):
    one, two = ((side.double().flatten() * 2**24).long() for side in KINDS[kind])
    for bit in range(24):
        flips = float(((one ^ two) >> bit & 1).double().mean())
        assert abs(flips - 0.5) < 5 * 0.5 / math.sqrt(len(one))


def test_no_two_rows_of_a_long_run_are_the_same():
    rows = draw(0, range(3000), torch.arange(30), 4).view(-1, 4)
    assert len(rows.unique(dim=0)) == len(rows)


# ── thresholds ──────────────────────────────────────────────────────────────────────────────────────────────────────


@given(st.lists(st.floats(0, 1), min_size=1, max_size=5), st.integers(0, 99))
def test_below_is_what_comparing_the_number_gives(probabilities, seed):
    probability = torch.tensor([probabilities], dtype=torch.float64)
    numbers = draw(seed, range(50), torch.arange(1), probability.shape[-1]).double()
    assert torch.equal(draw_below(probability, seed, range(50), torch.arange(1)), numbers < probability)


def test_a_probability_between_two_multiples_counts_as_the_upper_one():
    numbers = draw(0, range(1), ROWS, 64).double()[0]
    assert not draw_below(numbers, 0, range(1), ROWS).any()
    assert draw_below(numbers + 2.0**-25, 0, range(1), ROWS).all()


def test_probability_0_never_and_1_always():
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        assert not draw_below(torch.zeros(64, 64, dtype=dtype), 0, range(250), ROWS).any()
        assert draw_below(torch.ones(64, 64, dtype=dtype), 0, range(250), ROWS).all()


@pytest.mark.parametrize("probability", [0.001, 0.02, 0.1, 0.5, 0.9, 0.999])
def test_the_mean_is_the_probability(probability):
    hits = draw_below(torch.full((64, 64), probability), 5, range(64), ROWS).double()
    assert abs(float(hits.mean()) - probability) < 4 * math.sqrt(probability * (1 - probability) / hits.numel())


def test_probabilities_may_change_with_time():
    changing = torch.rand(30, 64, 5, generator=torch.Generator().manual_seed(0))
    drawn = draw_below(changing, 3, range(30), ROWS)
    assert drawn.dtype == torch.bool and torch.equal(drawn, draw(3, range(30), ROWS, 5) < changing)
