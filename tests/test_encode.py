"""Encoders and streams: the same values however they are read, each encoder's own rule, and what bad input gets."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.common import ENCODERS, Row, each
from tracetorch.backends import uniform
from tracetorch.encode import Stream, constant, latency, poisson

STEPS = 20


def values(batch: int = 3, channels: int = 5) -> Tensor:
    inside = torch.rand(batch, channels, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    inside[0, 0], inside[0, 1] = 0, 1
    return inside


def stream(row: Row, **options: object) -> Stream:
    return row.make(values(), STEPS, **({"seed": 3} | options))


# ── every encoder ───────────────────────────────────────────────────────────────────────────────────────────────────


@each(ENCODERS)
def test_shape_and_dtype(row):
    made = stream(row)
    assert len(made) == made.steps == STEPS and made.shape == (3, 5)
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        dense = row.make(values().to(dtype), STEPS).dense()
        assert dense.shape == (STEPS, 3, 5) and dense.dtype == dtype


@each(ENCODERS)
@given(size=st.integers(1, 30), start=st.integers(0, STEPS - 1), length=st.integers(1, STEPS))
def test_a_stream_gives_the_same_values_however_it_is_read(row, size, start, length):
    made = stream(row)
    dense, part = made.dense(), slice(start, start + length)
    chunks = list(made.chunks(size))
    assert torch.equal(torch.cat(chunks), dense)
    assert [len(chunk) for chunk in chunks[:-1]] == [size] * (len(chunks) - 1) and 0 < len(chunks[-1]) <= size
    pieces = list(made.split(size))
    assert [piece.steps for piece in pieces] == [len(chunk) for chunk in chunks]
    assert torch.equal(torch.cat([piece.dense() for piece in pieces]), dense)
    assert torch.equal(made[part].dense(), dense[part])
    assert torch.equal(torch.cat(list(made[part].chunks(size))), dense[part])
    assert torch.equal(made[part][: length // 2 + 1].dense(), dense[part][: length // 2 + 1])


@each(ENCODERS)
def test_slices_count_as_for_a_list(row):
    made = stream(row)
    dense = made.dense()
    for part in (slice(None), slice(5), slice(-3, None), slice(2, -2), slice(15, 99)):
        assert torch.equal(made[part].dense(), dense[part])


@each(ENCODERS)
def test_a_sample_keeps_its_input_wherever_it_stands(row):
    names, order = torch.tensor([40, 7, 99]), torch.tensor([2, 0, 1])
    made = stream(row, samples=names).dense()
    moved = row.make(values()[order], STEPS, seed=3, samples=names[order]).dense()
    assert torch.equal(moved, made[:, order])
    alone = row.make(values()[1:2], STEPS, seed=3, samples=names[1:2]).dense()
    assert torch.equal(alone, made[:, 1:2])


@each(ENCODERS)
def test_what_seed_and_name_do(row):
    made, names = stream(row).dense(), torch.arange(3)
    assert torch.equal(stream(row).dense(), made)
    assert torch.equal(stream(row, samples=names).dense(), made)
    assert torch.equal(stream(row, samples=names.to(torch.int32)).dense(), made)
    for other in ({"seed": 4}, {"samples": names + 1}):
        assert torch.equal(stream(row, **other).dense(), made) == (row.says == "fixed")


# ── each one's own rule ─────────────────────────────────────────────────────────────────────────────────────────────


def test_poisson_is_the_counter_below_the_rate():
    rates, made = values(), stream(ENCODERS[0]).dense()
    assert torch.equal(made, (uniform(3, range(STEPS), torch.arange(3), 5) < rates).double())
    assert not made[:, 0, 0].any() and made[:, 0, 1].all()
    long = poisson(rates, 4000, seed=1).dense().mean(0)
    assert ((long - rates).abs() <= 4 * (rates * (1 - rates) / 4000).sqrt()).all()


def test_poisson_rates_may_change_with_time():
    rates = torch.zeros(STEPS, 2, 3)
    rates[7:12, :, 1] = 1
    made = poisson(rates, STEPS, seed=1)
    assert torch.equal(made.dense(), rates) and made.shape == (2, 3)
    assert torch.equal(torch.cat(list(made.chunks(3))), rates) and torch.equal(made[8:15].dense(), rates[8:15])
    steady = torch.full((2, 3), 0.4)
    assert torch.equal(poisson(steady.expand(STEPS, 2, 3), STEPS).dense(), poisson(steady, STEPS).dense())


def test_latency_by_hand():
    made = latency(torch.tensor([[1.0, 0.75, 0.5, 0.01, 0.0]]), 5).dense()[:, 0]
    assert made.argmax(0).tolist()[:4] == [0, 1, 2, 4]
    assert made.sum(0).tolist() == [1, 1, 1, 1, 0]


@given(st.lists(st.floats(0, 1), min_size=2, max_size=2), st.integers(1, 30))
def test_latency_fires_once_and_larger_values_first(pair, steps):
    made = latency(torch.tensor([sorted(pair)], dtype=torch.float64), steps).dense()[:, 0]
    assert made.sum(0).tolist() == [float(value > 0) for value in sorted(pair)]
    assert min(pair) == 0 or made[:, 1].argmax() <= made[:, 0].argmax()


def test_constant_is_the_same_at_every_step_for_any_numbers():
    numbers = torch.tensor([[-3.0, 0.0, 1e6]])
    made = constant(numbers, 7)
    assert torch.equal(made.dense(), numbers.expand(7, 1, 3)) and torch.equal(made[5:].dense(), numbers.expand(2, 1, 3))


def test_a_stream_asks_only_for_what_is_read():
    asked = []

    def make(start: int, stop: int) -> Tensor:
        asked.append((start, stop))
        return torch.zeros(stop - start, 1, 1)

    made = Stream(make, steps=10**12, shape=(1, 1))[10**9 : 10**9 + 5]
    assert asked == []
    assert [len(chunk) for chunk in made.chunks(2)] == [2, 2, 1]
    assert asked == [(10**9, 10**9 + 2), (10**9 + 2, 10**9 + 4), (10**9 + 4, 10**9 + 5)]


# ── errors ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("encoder", "what"), [(poisson, "rates are spikes per step"), (latency, "latency codes values")]
)
@pytest.mark.parametrize("bad", [-0.1, 1.5, float("nan")])
def test_values_outside_0_and_1_are_refused(encoder, what, bad):
    with pytest.raises(ValueError, match=rf"{what} in \[0, 1\], got values from"):
        encoder(torch.tensor([[0.5, bad]]), 5)


@each(ENCODERS)
def test_a_stream_has_at_least_one_step(row):
    with pytest.raises(ValueError, match="at least 1 step, got 0"):
        row.make(values(), 0)
    with pytest.raises(ValueError, match="at least 1 step"):
        _ = stream(row)[5:5]


@each(ENCODERS)
def test_strides_and_single_steps_are_refused(row):
    for part in (slice(None, None, 2), slice(None, None, -1)):
        with pytest.raises(ValueError, match="consecutive steps, such as stream"):
            _ = stream(row)[part]
    with pytest.raises((TypeError, ValueError)):
        _ = stream(row)[3]


@each(ENCODERS)
@pytest.mark.parametrize("size", [0, -1])
def test_a_chunk_of_less_than_one_step_is_refused(row, size):
    with pytest.raises(ValueError):
        list(stream(row).chunks(size))
    with pytest.raises(ValueError):
        list(stream(row).split(size))


@each(ENCODERS)
def test_values_without_a_batch_are_refused_with_their_shape(row):
    with pytest.raises(ValueError, match=r"\(5,\)"):
        row.make(torch.full((5,), 0.5), STEPS)


def test_poisson_names_and_changing_rates_must_fit():
    with pytest.raises(
        ValueError, match=r"samples must name the 3 rows by whole numbers, got torch.int64 of shape \(2,\)"
    ):
        poisson(values(), STEPS, samples=torch.arange(2))
    with pytest.raises(ValueError, match=r"rates of shape \(4, 3, 5\) change over 4 steps, but steps=20"):
        poisson(values().expand(4, 3, 5), STEPS)
