"""The steady-state maps of LIF, against simulation and against the exact rate for steady current."""

import math

import pytest
import torch
from torch.func import grad, vmap

from tests.common import normal
from tracetorch import functional as F

ONE = torch.tensor(1.0, dtype=torch.float64)
CURRENTS = torch.linspace(0, 1.2, 61, dtype=torch.float64)


def simulate(currents: torch.Tensor, decay: float, skip: int = 0) -> torch.Tensor:
    """Mean rate of LIF neurons (θ = 1) over (time, …) currents, after the first `skip` steps."""
    membrane, total = torch.zeros_like(currents[0]), torch.zeros_like(currents[0])
    for step, current in enumerate(currents):
        spikes, membrane = F.lif_step(current, membrane, ONE * decay, ONE)
        total += spikes if step >= skip else 0
    return total / (len(currents) - skip)


def staircase(rate: float, decay: float) -> float:
    """The steady current i/θ at which a neuron fires at exactly this rate: the inverse of a devil's staircase."""
    k = torch.arange(1, 5000, dtype=torch.float64)
    return (1 - decay) * float(1 + (((k + 1) * rate).floor() - (k * rate).floor()) @ decay**k)


@pytest.mark.parametrize("rate", F.RATE_MAPS.values(), ids=F.RATE_MAPS.keys())
def test_what_kind_of_function_a_rate_is(rate):
    """Within 0 and 1, and smooth; it rises with the current, falls with the threshold, and depends on their ratio."""
    wide = torch.logspace(-3, 9, 200)
    for sign in (-1, 1):
        rates = rate(sign * wide, torch.tensor(0.9), torch.tensor(1.0))
        assert rates.min() >= 0 and rates.max() <= 1 + 1e-5
        assert (rates[wide > 10] - float(sign > 0)).abs().max() < 1e-4
    current, thresholds = (torch.linspace(*ends, 200, dtype=torch.float64) for ends in ((-0.5, 1.5), (0.2, 2)))
    for decay in (ONE * 0.5, ONE * 0.9, ONE * 0.99):
        rates = rate(current, decay, ONE)
        assert rates.min() > 0 and rates.max() < 1 and (rates.diff() > 0).all()
        assert (rate(ONE * 0.5, decay, thresholds).diff() < 0).all()
        torch.testing.assert_close(rate(3 * current, decay, 3 * ONE), rates)
    inputs = normal(3, 2), torch.tensor([0.7, 0.95]).double(), torch.tensor([1.0, 0.6]).double()
    steps, inputs = torch.tensor([[1], [7], [400]]), [value.requires_grad_() for value in inputs]
    assert torch.autograd.gradcheck(lambda *given: rate(*given, steps), inputs)
    assert torch.autograd.gradgradcheck(lambda *given: rate(*given, steps), inputs)
    slope = grad(lambda i: rate(i, ONE * 0.9, ONE))
    (first,) = torch.autograd.grad(rate(current.requires_grad_(), ONE * 0.9, ONE).sum(), current, create_graph=True)
    torch.testing.assert_close(vmap(slope)(current), first)
    torch.testing.assert_close(vmap(grad(slope))(current), torch.autograd.grad(first.sum(), current)[0])


def test_each_map_at_its_points():
    # z = i − (1 − β)/2 with β = 1/2: the line's middle at i = 3/4, corners at 1/4 and 5/4, rounded by log(2)/8 there
    middle, low, high = F.lif_rate(torch.tensor([0.75, 0.25, 1.25], dtype=torch.float64), ONE * 0.5, ONE).tolist()
    rounding = (math.log(2) - math.log1p(math.exp(-8))) / 8
    assert [middle, low, high] == pytest.approx([0.5, rounding, 1 - rounding])
    ends = F.lif_rate_logistic(torch.tensor([0.1, 1.0], dtype=torch.float64), ONE * 0.9, ONE)
    assert ends.tolist() == pytest.approx([1 / (1 + math.e**2.5), 1 / (1 + math.e**-2.5)])


# As measured, rounded up, mean and max: off from the exact rate for steady current; of the line and of the logistic
# from the simulated rate for noisy input; and of the sharp line, which the docstring of `lif_rate` names.
MEASURED = [
    (0.5, (0.095, 0.27), (0.052, 0.095), (0.074, 0.16), 0.028),
    (0.8, (0.04, 0.15), (0.033, 0.07), (0.043, 0.085), 0.0135),
    (0.95, (0.027, 0.1), (0.03, 0.073), (0.033, 0.062), 0.0045),
]


@pytest.mark.parametrize(("decay", "steady", "line", "logistic", "sharp"), MEASURED)
def test_each_map_is_as_close_as_it_was_measured(decay, steady, line, logistic, sharp):
    rates = torch.linspace(0.005, 0.995, 100, dtype=torch.float64)
    exact = torch.tensor([staircase(rate, decay) for rate in rates.tolist()], dtype=torch.float64)
    simulated = simulate(CURRENTS + 0.2 * normal(500, 100, 61), decay, skip=200).mean(0)
    for bound, off in (
        (steady, F.lif_rate(exact, ONE * decay, ONE) - rates),
        (line, F.lif_rate(CURRENTS, ONE * decay, ONE) - simulated),
        (logistic, F.lif_rate_logistic(CURRENTS, ONE * decay, ONE) - simulated),
        ((sharp, 1), (CURRENTS - (1 - decay) / 2).clamp(0, 1) - simulated),
    ):
        assert off.abs().mean() <= bound[0] and off.abs().max() <= bound[1]


@pytest.mark.parametrize("steps", [1, 4])
def test_at_the_start_the_line_is_shifted_by_what_is_left_and_closer_than_the_steady_one(steps):
    shift = 0.05 / (1 - 0.9**steps) - 0.05
    early, steady = (F.lif_rate(CURRENTS, ONE * 0.9, ONE, n) for n in (torch.tensor(steps), None))
    torch.testing.assert_close(early, F.lif_rate(CURRENTS - shift, ONE * 0.9, ONE), rtol=1e-12, atol=1e-12)
    simulated = simulate(CURRENTS + 0.2 * normal(steps, 400, 61), 0.9).mean(0)
    assert (early - simulated).square().mean() < (steady - simulated).square().mean()
