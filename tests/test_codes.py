"""How a number becomes the activity of several neurons."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.common import normal
from tracetorch.encode import population, two_sided


def test_a_population_by_hand():
    made = population(torch.tensor([[0.0, 2.0]], dtype=torch.float64), neurons=3, low=0.0, high=4.0)
    half, far = torch.exp(torch.tensor([-0.5, -2.0], dtype=torch.float64))
    assert torch.allclose(made, torch.tensor([[1, half, far, half, 1, half]], dtype=torch.float64))


@given(neurons=st.integers(2, 12), value=st.floats(-3, 3), low=st.floats(-3, 0), length=st.floats(0.1, 5))
def test_the_neuron_that_prefers_the_nearest_value_is_the_most_active(neurons, value, low, length):
    high = low + length
    made = population(torch.tensor([[value]], dtype=torch.float64), neurons, low, high)[0]
    centres = torch.linspace(low, high, neurons, dtype=torch.float64)
    nearest = (centres - min(max(value, low), high)).abs()
    assert made.shape == (neurons,) and float(made.min()) > 0 and float(made.max()) <= 1
    assert float(nearest[made.argmax()]) == pytest.approx(float(nearest.min()), abs=1e-9)
    assert (
        float(made.max()) >= torch.exp(torch.tensor(-0.125, dtype=torch.float64)) - 1e-9
    )  # never farther than half way


def test_values_beyond_the_range_count_as_its_ends():
    ends, beyond = torch.tensor([[-1.0, 1.0]]), torch.tensor([[-9.0, 9.0]])
    assert torch.equal(population(beyond, 4), population(ends, 4))


def test_channels_and_leading_dimensions_stay_apart():
    values = normal(2, 5, 3)
    made = population(values, 4, -2.0, 2.0)
    assert made.shape == (2, 5, 12)
    assert torch.equal(made[1, 3, 4:8], population(values[1, 3, 1:2], 4, -2.0, 2.0))
    assert two_sided(values).shape == (2, 5, 6)


@pytest.mark.parametrize("bad", [(1, -1.0, 1.0), (3, 1.0, 1.0), (3, 2.0, 1.0), (3, float("nan"), 1.0)], ids=str)
def test_no_population_is_refused(bad):
    with pytest.raises(ValueError, match="a population needs 2 neurons and low < high"):
        population(torch.zeros(1, 1), *bad)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=5))
def test_two_sides_are_never_active_together_and_give_the_value_back(values):
    given_ = torch.tensor([values], dtype=torch.float64)
    above, below = two_sided(given_).chunk(2, dim=-1)
    assert float(above.min()) >= 0 and float(below.min()) >= 0
    assert not bool(((above > 0) & (below > 0)).any())
    assert torch.equal(above - below, given_)
