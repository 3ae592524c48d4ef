"""Random numbers from a counter: pinned bits, and a function of the four names and of nothing else.

How good they are is in test_randomness.py; that every kernel draws the same is in test_kernels.py.
"""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tracetorch.backends import bernoulli, rng, uniform
from tracetorch.backends.rng import mix_seed

ROWS = torch.arange(64)
WHOLE = st.integers(-(2**70), 2**70)


def words(seed: int, steps: range, samples: list[int], channels: int) -> list:
    """The 24 bits, as whole numbers."""
    return (uniform(seed, steps, torch.tensor(samples), channels).double() * 2**24).long().tolist()


def word_by_hand(seed: int, step: int, sample: int, channel: int) -> int:
    """The algorithm of the docstring in Python's own unsigned numbers."""
    m64, m32 = (1 << 64) - 1, (1 << 32) - 1

    def mix64(key: int) -> int:
        key = (key ^ key >> 30) * 0xBF58476D1CE4E5B9 & m64
        key = (key ^ key >> 27) * 0x94D049BB133111EB & m64
        return key ^ key >> 31

    def mix32(count: int, start: int, key: int) -> int:
        word = count * 0x9E3779B9 + start & m32
        word = (word ^ word >> 16) * 0x7FEB352D & m32 ^ key
        word = (word ^ word >> 15) * 0x846CA68B & m32
        return word ^ word >> 16

    key = mix64(mix_seed(seed) + step * 0x9E3779B97F4A7C15 + sample * 0xD1B54A32D192ED03 & m64)
    low, high = key & m32, key >> 32
    four = mix32(channel // 4, low, high).to_bytes(4, "little")
    return four[channel % 4] << 16 | mix32(channel, high, low) >> 16


# ── the bits never change ───────────────────────────────────────────────────────────────────────────────────────────


def test_pinned_words():
    assert words(0, range(2), [0, 1], 6) == [
        [
            [3464254, 15682638, 6192629, 8876725, 14076051, 13973629],
            [14116698, 12717707, 9666539, 15133353, 15639938, 244584],
        ],
        [
            [2752007, 11047574, 16208236, 9580786, 9634002, 1878287],
            [2454075, 3865728, 10696799, 3845278, 15029256, 4492785],
        ],
    ]
    assert words(12345, range(999_999, 1_000_001), [7, 2**40], 3) == [
        [[3630931, 13965208, 13271128], [12994618, 8929507, 16656201]],
        [[2450861, 15392777, 15149628], [1731388, 1729249, 16689924]],
    ]
    assert words(-1, range(1), [-5], 3) == [[[1699970, 4683331, 9138065]]]


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


def test_numbers_lie_in_0_to_1_and_are_multiples_of_two_to_the_minus_24():
    many = uniform(2024, range(64), ROWS, 64)
    assert many.shape == (64, 64, 64) and many.dtype == torch.float32
    assert many.min() >= 0 and many.max() < 1
    assert torch.equal(many.double() * 2**24, (many.double() * 2**24).round())
    assert many.min() < 2**-16 and many.max() > 1 - 2**-16


# ── a function of (seed, step, sample, channel) and of nothing else ─────────────────────────────────────────────────


@given(
    start=st.integers(0, 10**9), cut=st.integers(1, 11), channels=st.integers(1, 20), order=st.permutations(range(5))
)
def test_no_draw_depends_on_its_company(start, cut, channels, order):
    """Neither the numbers nor the spikes, which a kernel of their own draws."""
    samples, steps = torch.tensor([3, 9, -4, 2**40, 0]), range(start, start + 12)
    probability = torch.linspace(0, 1, 100).view(5, 20)

    def spikes(steps, samples, probability):
        return bernoulli(probability, 7, steps, samples)

    def numbers(steps, samples, probability):
        return uniform(7, steps, samples, probability.shape[1])

    for made in (spikes, numbers):
        whole = made(steps, samples, probability)
        parts = [made(part, samples, probability) for part in (steps[:cut], steps[cut:])]
        assert torch.equal(torch.cat(parts), whole)
        some = made(steps, samples[order], probability[order, :channels])
        assert torch.equal(some, whole[:, order, :channels])


def test_threads_change_nothing():
    threads, probability = torch.get_num_threads(), torch.full((64, 200), 0.1)
    wanted = uniform(1, range(40), ROWS, 200)
    spikes = bernoulli(probability, 1, range(40), ROWS)
    try:
        torch.set_num_threads(2)
        assert torch.equal(uniform(1, range(40), ROWS, 200), wanted)
        assert torch.equal(bernoulli(probability, 1, range(40), ROWS), spikes)
    finally:
        torch.set_num_threads(threads)


def test_steps_with_a_stride_are_refused():
    for make in (lambda: uniform(0, range(0, 10, 2), ROWS, 3), lambda: rng.numbers(0, range(4, 0, -1), ROWS, 3)):
        with pytest.raises(ValueError, match="consecutive steps"):
            make()


@given(parts=st.lists(WHOLE, min_size=1, max_size=4))
def test_mixed_seeds_differ_by_part_order_and_number(parts):
    mixed = mix_seed(*parts)
    assert 0 <= mixed < 2**64
    assert mixed != mix_seed(*parts, 0) and mixed != mix_seed(parts[0] + 1, *parts[1:])
    assert parts == parts[::-1] or mixed != mix_seed(*parts[::-1])


# ── thresholds ──────────────────────────────────────────────────────────────────────────────────────────────────────


@given(st.lists(st.floats(0, 1), min_size=1, max_size=5), st.integers(0, 99))
def test_below_is_what_comparing_the_number_gives(probabilities, seed):
    probability = torch.tensor([probabilities], dtype=torch.float64)
    numbers = uniform(seed, range(50), torch.arange(1), probability.shape[-1]).double()
    assert torch.equal(bernoulli(probability, seed, range(50), torch.arange(1)), numbers < probability)


def test_a_probability_between_two_multiples_counts_as_the_upper_one():
    numbers = uniform(0, range(1), ROWS, 64).double()[0]
    assert not bernoulli(numbers, 0, range(1), ROWS).any()
    assert bernoulli(numbers + 2.0**-25, 0, range(1), ROWS).all()


def test_probability_0_never_and_1_always():
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        assert not bernoulli(torch.zeros(64, 64, dtype=dtype), 0, range(250), ROWS).any()
        assert bernoulli(torch.ones(64, 64, dtype=dtype), 0, range(250), ROWS).all()


@pytest.mark.parametrize(
    ("number", "step", "sample", "channel"),
    [(0, 49, 61, 713), (0, 99, 56, 3170), (2**24 - 1, 9, 0, 805), (2**24 - 1, 55, 8, 1514)],
)
def test_the_smallest_probability_meets_0_and_the_largest_below_1_misses_only_the_highest(
    number, step, sample, channel
):
    assert word_by_hand(0, step, sample, channel) == number
    for limit in (0, 1, 2**24 - 1, 2**24):
        probability = torch.full((1, channel + 1), limit / 2**24, dtype=torch.float64)
        spike = bernoulli(probability, 0, range(step, step + 1), torch.tensor([sample]))[0, 0, channel]
        assert bool(spike) == (number < limit)


def test_probabilities_may_change_with_time():
    changing = torch.rand(30, 64, 5, generator=torch.Generator().manual_seed(0))
    drawn = bernoulli(changing, 3, range(30), ROWS)
    assert drawn.dtype == torch.bool and torch.equal(drawn, uniform(3, range(30), ROWS, 5) < changing)
