"""Random numbers from a counter: pinned bits, a function of the four names and of nothing else, as good as random."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tracetorch.backends import bernoulli, rng, uniform
from tracetorch.backends.rng import mix_seed

ROWS = torch.arange(64)
WORDS = {
    (0, range(1), (0, 1), 6): [
        [3464254, 15682638, 6192629, 8876725, 14076051, 13973629],
        [14116698, 12717707, 9666539, 15133353, 15639938, 244584],
    ],
    (12345, range(999_999, 1_000_001), (7, 2**40), 3): [
        [3630931, 13965208, 13271128], [12994618, 8929507, 16656201],
        [2450861, 15392777, 15149628], [1731388, 1729249, 16689924],
    ],
    (-1, range(1), (-5,), 3): [[1699970, 4683331, 9138065]],
}  # fmt: skip
SEEDS = {
    (): 0, (0,): 7905728728188956330, (1,): 8037428539430452699, (1, 2): 16342715402602321209,
    (2, 1): 9270659787885860560, (-1,): 11153449448870870801,
}  # fmt: skip


def test_the_bits_never_change():
    for (seed, steps, samples, channels), wanted in WORDS.items():
        found = uniform(seed, steps, torch.tensor(samples), channels)
        assert found.dtype == torch.float32 and found.flatten(0, 1).tolist() == (torch.tensor(wanted) / 2**24).tolist()
    assert {parts: mix_seed(*parts) for parts in SEEDS} == SEEDS
    for make in (lambda: uniform(0, range(0, 10, 2), ROWS, 3), lambda: rng.numbers(0, range(4, 0, -1), ROWS, 3)):
        with pytest.raises(ValueError, match="consecutive steps"):
            make()


@given(start=st.integers(0, 10**9), cut=st.integers(1, 11), few=st.integers(1, 20), order=st.permutations(range(5)))
def test_a_draw_depends_on_its_own_names_only(start, cut, few, order):
    samples, steps = torch.tensor([3, 9, -4, 2**40, 0]), range(start, start + 12)
    probability = torch.linspace(0, 1, 100).view(5, 20)
    for made in (
        lambda steps, samples, probability: bernoulli(probability, 7, steps, samples),
        lambda steps, samples, probability: uniform(7, steps, samples, probability.shape[1]),
    ):
        whole = made(steps, samples, probability)
        parts = [made(part, samples, probability) for part in (steps[:cut], steps[cut:])]
        assert torch.equal(torch.cat(parts), whole)
        some = made(steps, samples[order], probability[order, :few])
        assert torch.equal(some, whole[:, order, :few])


def test_a_spike_is_a_number_below_its_probability_at_its_limits_too():
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        assert not bernoulli(torch.zeros(64, 64, dtype=dtype), 0, range(250), ROWS).any()
        assert bernoulli(torch.ones(64, 64, dtype=dtype), 0, range(250), ROWS).all()
    numbers = uniform(3, range(30), ROWS, 5).double()
    assert not bernoulli(numbers, 3, range(30), ROWS).any() and bernoulli(numbers + 2.0**-25, 3, range(30), ROWS).all()
    for changing in (torch.rand(30, 64, 5), torch.rand(64, 5, dtype=torch.float64)):
        assert torch.equal(bernoulli(changing, 3, range(30), ROWS), numbers < changing)
    for number, (step, sample, channel) in ((0, (49, 61, 713)), (2**24 - 1, (9, 0, 805))):  # the least, the highest
        for limit in (0, 1, 2**24 - 1, 2**24):
            probability = torch.full((1, channel + 1), limit / 2**24, dtype=torch.float64)
            spike = bernoulli(probability, 0, range(step, step + 1), torch.tensor([sample]))[0, 0, channel]
            assert bool(spike) == (number < limit)


@pytest.mark.parametrize("probability", [2**-17, 0.001, 0.1, 0.5, 0.999])
def test_spikes_have_their_rate_and_independent_neighbours(probability):
    """Below 2⁻¹⁶ only the tail decides. Bounds are five standard deviations wide, and are deterministic."""
    hits = bernoulli(torch.full((64, 512), probability), 11, range(128), ROWS).double() - probability
    variance = probability * (1 - probability)
    assert abs(hits.mean()) < 5 * math.sqrt(variance / hits.numel())
    for axis, lag in itertools.product(range(3 if probability > 2**-17 else 0), (1, 2, 3, 4, 8)):
        pairs = hits.narrow(axis, lag, 64 - lag) * hits.narrow(axis, 0, 64 - lag)
        assert abs(pairs.mean()) < 5 * variance / math.sqrt(pairs.numel()), (axis, lag)
