"""Encoders and streams: the same values however they are read, each encoder's own rule, and what bad input gets."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.common import ENCODERS, Row, each
from tracetorch.backends import uniform
from tracetorch.encode import Stream, constant, latency, poisson, population, two_sided

STEPS = 20
VALUES = torch.rand(3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
VALUES[0, 0], VALUES[0, 1] = 0, 1


def stream(row: Row, **options: object) -> Stream:
    return row.make(VALUES, STEPS, **({"seed": 3} | options))


@each(ENCODERS)
@given(size=st.integers(1, 30), start=st.integers(0, STEPS - 1), length=st.integers(1, STEPS))
def test_chunks_and_parts_of_a_stream_have_the_same_values(row, size, start, length):
    made, part = stream(row), slice(start, start + length)
    dense, chunks, pieces = made.dense(), list(made.chunks(size)), list(made.split(size))
    assert torch.equal(torch.cat(chunks), dense)
    assert [len(chunk) for chunk in chunks[:-1]] == [size] * (len(chunks) - 1) and 0 < len(chunks[-1]) <= size
    assert [piece.steps for piece in pieces] == [len(chunk) for chunk in chunks]
    assert torch.equal(torch.cat([piece.dense() for piece in pieces]), dense)
    assert torch.equal(torch.cat(list(made[part].chunks(size))), dense[part])
    assert torch.equal(made[part][: length // 2 + 1].dense(), dense[part][: length // 2 + 1])
    for other in (slice(None), slice(5), slice(-3, None), slice(2, -2), slice(15, 99)):
        assert torch.equal(made[other].dense(), dense[other])


def test_a_stream_makes_only_the_steps_that_are_read():
    asked = []
    made = Stream(lambda *steps: asked.append(steps) or torch.zeros(steps[1] - steps[0], 1, 1), 10**12, (1, 1))
    assert [len(chunk) for chunk in made[10**9 : 10**9 + 3].chunks(2)] == [2, 1]
    assert asked == [(10**9, 10**9 + 2), (10**9 + 2, 10**9 + 3)]


@each(ENCODERS)
def test_a_row_depends_on_its_values_its_seed_and_its_number(row):
    names, order = torch.arange(3), torch.tensor([2, 0, 1])
    made = stream(row)
    dense = made.dense()
    assert len(made) == made.steps == STEPS and made.shape == (3, 5) and dense.shape == (STEPS, 3, 5)
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        assert row.make(VALUES.to(dtype), STEPS).dense().dtype == dtype
    assert row.make(VALUES[:0], STEPS).dense().shape == (STEPS, 0, 5)
    assert torch.equal(stream(row, samples=names.to(torch.int32)).dense(), dense)
    assert torch.equal(row.make(VALUES[order], STEPS, seed=3, samples=order).dense(), dense[:, order])
    assert torch.equal(row.make(VALUES[1:2], STEPS, seed=3, samples=names[1:2]).dense(), dense[:, 1:2])
    for other in ({"seed": 4}, {"samples": names + 1}):
        assert torch.equal(stream(row, **other).dense(), dense) == (row.says == "fixed")


def test_poisson_compares_the_counter_with_a_rate_that_may_change():
    made = poisson(VALUES, STEPS, seed=3).dense()
    assert torch.equal(made, (uniform(3, range(STEPS), torch.arange(3), 5) < VALUES).double())
    assert not made[:, 0, 0].any() and made[:, 0, 1].all()
    assert torch.equal(poisson(VALUES.expand(STEPS, 3, 5), STEPS, seed=3).dense(), made)
    rates = torch.zeros(STEPS, 2, 3)
    rates[7:12, :, 1] = 1
    changing = poisson(rates, STEPS, seed=1)
    assert torch.equal(torch.cat(list(changing.chunks(3))), rates) and changing.shape == (2, 3)
    assert torch.equal(changing[8:15].dense(), rates[8:15])


def test_latency_constant_population_and_two_sides_by_hand():
    made = latency(torch.tensor([[1.0, 0.75, 0.5, 0.01, 0.0]]), 5).dense()[:, 0]
    assert made.argmax(0).tolist()[:4] == [0, 1, 2, 4] and made.sum(0).tolist() == [1, 1, 1, 1, 0]
    numbers = torch.tensor([[-3.0, 0.0, 1e6]])
    assert torch.equal(constant(numbers, 7)[5:].dense(), numbers.expand(2, 1, 3))
    half, far = torch.exp(torch.tensor([-0.5, -2.0])).tolist()
    given_ = torch.tensor([[[0, 2], [9, -9]]])  # beyond 0 and 4 a value counts as the end
    wanted = torch.tensor([[[1, half, far, half, 1, half], [far, half, 1, 1, half, far]]])
    assert torch.allclose(population(given_, neurons=3, low=0, high=4), wanted)
    assert two_sided(torch.tensor([[0.5, -2.0, 0.0]])).tolist() == [[0.5, 0, 0, 0, 2, 0]]


BAD, ONE = torch.tensor([[0.5, float("nan")]]), poisson(VALUES, STEPS)


@pytest.mark.parametrize(
    ("call", "phrase"),
    [
        (lambda: poisson(BAD.nan_to_num(-0.1), 5), r"rates are spikes per step in \[0, 1\], got values from -0.1 to"),
        (lambda: poisson(BAD.nan_to_num(1.5), 5), r"rates are .*, got values from 0.5 to 1.5"),
        (lambda: latency(BAD, 5), r"latency codes values in \[0, 1\], got values from nan"),
        (lambda: poisson(VALUES[0], 5), r"\(batch, channels\), got \(5,\)"),
        (lambda: latency(VALUES[0], 5), r"\(batch, channels\), got \(5,\)"),
        (lambda: constant(VALUES[0], 5), r"\(batch, channels\), got \(5,\)"),
        (lambda: poisson(VALUES.expand(4, 3, 5), 9), r"rates of shape \(4, 3, 5\) change over 4 steps, but steps=9"),
        (lambda: poisson(VALUES, 5, samples=torch.arange(2)), "one for each of 3 rows, got torch.int64 of s"),
        (lambda: poisson(VALUES, 5, samples=torch.arange(3.0)), "one for each of 3 rows, got torch.float32 of s"),
        (lambda: constant(VALUES, 0), "at least 1 step, got 0"),
        (lambda: ONE[5:5], "at least 1 step, got 0"),
        (lambda: ONE[::2], "consecutive steps, such as stream"),
        (lambda: ONE[::-1], "consecutive steps, such as stream"),
        (lambda: ONE[3], "consecutive steps, such as stream"),
        (lambda: list(ONE.chunks(0)), "a chunk needs at least 1 step, got 0"),
        (lambda: list(ONE.split(-1)), "a chunk needs at least 1 step, got -1"),
        (lambda: population(VALUES, 1), "needs at least 2 neurons and low < high, got 1 neurons, -1 and 1"),
        (lambda: population(VALUES, 3, 1.0, 1.0), "got 3 neurons, 1 and 1"),
        (lambda: population(VALUES, 3, float("nan")), "needs at least 2 neurons and low < high"),
    ],
)
def test_a_wrong_input_is_refused(call, phrase):
    with pytest.raises(ValueError, match=phrase):
        call()
