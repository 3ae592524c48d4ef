"""Draws are as good as random: uniform, and independent over time, batch, channels, and within the words they share.

The statistics are of fixed draws: bounds are four or five standard deviations wide, and hold for ever or never.
"""

import itertools
import math

import pytest
import torch
from torch import Tensor

from tracetorch.backends import LazySpikes, bernoulli, rng, spikes

ROWS = torch.arange(64)
MANY = rng.numbers(2024, range(64), ROWS, 64).long()  # 2¹⁸ of them
HEAD, TAIL = MANY >> 16, MANY & 0xFFFF

NEIGHBOURS = {
    "time": (MANY[1:], MANY[:-1]),
    "batch": (MANY[:, 1:], MANY[:, :-1]),
    "channel": (MANY[..., 1:], MANY[..., :-1]),
    "two-channels": (MANY[..., 2:], MANY[..., :-2]),
    "next-word": (MANY[..., 4:], MANY[..., :-4]),
    "two-words": (MANY[..., 8:], MANY[..., :-8]),
    "seed": (MANY, rng.numbers(2025, range(64), ROWS, 64).long()),
    "step-for-sample": (MANY, MANY.transpose(0, 1).roll(1, 0)),
    "sample-for-channel": (MANY, MANY.transpose(1, 2).roll(1, 1)),
    **{f"in-word-{a}{b}": (MANY[..., a::4], MANY[..., b::4]) for a, b in itertools.combinations(range(4), 2)},
    "head-tail": (HEAD << 16, TAIL << 8),
    "head-next-tail": (HEAD[..., :-1] << 16, TAIL[..., 1:] << 8),
    "head-tail-of-next-word": (HEAD[..., :-4] << 16, TAIL[..., 4:] << 8),
    "head-tail-of-the-same-count": (HEAD[..., ::4] << 16, TAIL[..., :16] << 8),  # words mixed from one number
    "tails-in-time": (TAIL[1:] << 8, TAIL[:-1] << 8),
    "tails-in-channel": (TAIL[..., 1:] << 8, TAIL[..., :-1] << 8),
}
"""Pairs of 24-bit numbers that have nothing to do with one another; a head or a tail alone fills the upper bits."""

pairs = pytest.mark.parametrize("kind", NEIGHBOURS)


def chi_square(counts: Tensor, expected: Tensor | None = None) -> float:
    """How many standard deviations the statistic lies from that of the expected counts; uniform ones, if None."""
    expected = counts.mean() if expected is None else expected
    freedom = counts.numel() - 1
    return float((((counts - expected) ** 2 / expected).sum() - freedom) / math.sqrt(2 * freedom))


# ── one number ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_numbers_are_uniform():
    unit = MANY.double() / 2**24
    for bits in (8, 10):
        counts = torch.bincount((MANY >> 24 - bits).flatten(), minlength=1 << bits)
        assert abs(chi_square(counts.double())) < 4
    assert abs(float(unit.mean()) - 0.5) < 4 / math.sqrt(12 * MANY.numel())
    assert abs(float(unit.square().mean()) - 1 / 3) < 4 * math.sqrt(4 / 45 / MANY.numel())


@pytest.mark.parametrize("channel", range(4))
def test_each_of_the_four_bytes_of_a_word_is_uniform(channel):
    assert abs(chi_square(torch.bincount(HEAD[..., channel::4].flatten(), minlength=256).double())) < 4


def test_the_tail_is_uniform_in_its_upper_and_in_its_lower_byte():
    for byte in (TAIL >> 8, TAIL & 0xFF):
        assert abs(chi_square(torch.bincount(byte.flatten(), minlength=256).double())) < 4


def test_every_one_of_the_24_bits_is_a_fair_coin():
    for bit in range(24):
        assert abs(float((MANY >> bit & 1).double().mean()) - 0.5) < 4 * 0.5 / math.sqrt(MANY.numel())


# ── two numbers, and four ───────────────────────────────────────────────────────────────────────────────────────────


@pairs
def test_neighbours_are_not_correlated(kind):
    one, two = (side.double().flatten() / 2**24 - 0.5 for side in NEIGHBOURS[kind])
    assert abs(float((one * two).mean()) * 12) < 4 / math.sqrt(len(one))


@pairs
def test_pairs_of_neighbours_fill_the_square_evenly(kind):
    one, two = (side.flatten() >> 20 for side in NEIGHBOURS[kind])
    assert abs(chi_square(torch.bincount(16 * one + two, minlength=256).double())) < 4


@pairs
def test_a_neighbour_differs_in_half_of_all_bits(kind):
    one, two = (side.flatten() for side in NEIGHBOURS[kind])
    whole = 24 if "head" not in kind and "tail" not in kind else 8
    for bit in range(24 - whole, 24):
        flips = float(((one ^ two) >> bit & 1).double().mean())
        assert abs(flips - 0.5) < 5 * 0.5 / math.sqrt(len(one))


@pytest.mark.parametrize("shift", [5, 0], ids=["upper", "lower"])
def test_the_four_channels_of_a_word_fill_the_hypercube_evenly(shift):
    three = (HEAD >> shift & 7).unflatten(-1, (-1, 4))
    cells = (three * torch.tensor([512, 64, 8, 1])).sum(-1)
    assert abs(chi_square(torch.bincount(cells.flatten(), minlength=4096).double())) < 4


def test_no_two_of_the_96_bits_of_four_channels_go_together():
    """The 24 bits of each of them: a word and four tails."""
    bits = (MANY.unflatten(-1, (-1, 4))[..., None] >> torch.arange(24) & 1).flatten(-2).flatten(0, 2).double() * 2 - 1
    together = (bits.t() @ bits / len(bits)).fill_diagonal_(0)
    assert together.shape == (96, 96) and together.abs().max() < 5 / math.sqrt(len(bits))


@pytest.mark.parametrize("axis", [0, 1, 2], ids=["time", "batch", "channel"])
def test_no_lag_is_correlated(axis):
    unit = MANY.double() / 2**24 - 0.5
    for lag in range(1, 33):
        one, two = unit.narrow(axis, lag, 64 - lag), unit.narrow(axis, 0, 64 - lag)
        assert abs(float((one * two).mean()) * 12) < 4.5 / math.sqrt(one.numel())


def test_no_two_rows_of_a_long_run_are_the_same():
    rows = rng.numbers(0, range(3000), torch.arange(30), 4).view(-1, 4)
    assert len(rows.unique(dim=0)) == len(rows)


# ── spikes ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("probability", [0.001, 0.02, 0.1, 0.5, 0.9, 0.999])
def test_the_mean_is_the_probability(probability):
    hits = bernoulli(torch.full((64, 64), probability), 5, range(256), ROWS).double()
    assert abs(float(hits.mean()) - probability) < 4 * math.sqrt(probability * (1 - probability) / hits.numel())


@pytest.mark.parametrize(("bits", "steps"), [(17, 64), (20, 512)])
def test_so_it_is_where_only_the_tail_decides(bits, steps):
    """A probability below 2⁻¹⁶ is less than the least that a head can tell; 128 spikes are expected."""
    limit, hits = torch.full((64, 4096), 1 << 24 - bits, dtype=torch.int32), 0
    for start in range(0, steps, 16):
        hits += int(spikes(LazySpikes(limit, 9, range(start, start + 16), ROWS, torch.bool)).sum())
    wanted = steps * limit.numel() >> bits
    assert abs(hits - wanted) < 4 * math.sqrt(wanted)


def gaps_between(hits: Tensor) -> Tensor:
    """How far it is from one spike to the next, all rows one after another."""
    return hits.flatten().nonzero()[:, 0].diff()


@pytest.mark.parametrize("probability", [0.5, 0.1, 0.001])
@pytest.mark.parametrize("along", ["time", "batch", "channel"])
def test_gaps_between_spikes_are_geometric(probability, along):
    """Twenty classes of gaps, each as likely as geometric gaps are to fall into it."""
    sizes = {name: 1 << 9 if name == along else 1 << 6 for name in ("time", "batch", "channel")}
    rates, rows = torch.full((sizes["batch"], sizes["channel"]), probability), torch.arange(sizes["batch"])
    hits = bernoulli(rates, 11, range(sizes["time"]), rows)
    gaps = gaps_between(hits.movedim(list(sizes).index(along), -1))
    edges = sorted({math.ceil(math.log(1 - at / 20) / math.log(1 - probability)) for at in range(1, 20)})
    counts = torch.bincount(torch.bucketize(gaps, torch.tensor(edges)), minlength=len(edges) + 1).double()
    reached = torch.tensor([0.0, *(1 - (1 - probability) ** edge for edge in edges), 1.0], dtype=torch.float64)
    assert abs(chi_square(counts, reached.diff() * len(gaps))) < 4


def test_a_spike_says_nothing_of_the_others_in_its_word_when_spikes_are_rare():
    """How many of four channels fire at once, at 2 %: as often none, one and two of them as for four coins."""
    hits = bernoulli(torch.full((64, 64), 0.02), 13, range(512), ROWS).unflatten(-1, (-1, 4)).sum(-1)
    counts = torch.bincount(hits.flatten(), minlength=5)[:3].double()
    expected = [math.comb(4, k) * 0.02**k * 0.98 ** (4 - k) * hits.numel() for k in range(3)]
    assert abs(chi_square(counts, torch.tensor(expected, dtype=torch.float64))) < 4
