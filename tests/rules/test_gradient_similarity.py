"""Cosines and ratios by hand; the gradient of an example by a rule, and through all time, against the oracle's."""

import math

import pytest
import torch

from tests.oracle import EXACT, TRIANGLE, example, full_gradients, misfits, network
from tracetorch.nn import LI, LIS
from tracetorch.rules import BPTT, Trace
from tracetorch.rules.gradient_similarity import (
    gradient_by_rule,
    gradient_similarities,
    gradient_similarity,
    gradient_through_time,
)


def test_by_hand():
    found, wanted = torch.tensor([[3.0, 0.0], [0.0, 4.0]]), torch.tensor([[0.0, 0.0], [0.0, 2.0]])
    assert gradient_similarities({"a": -found}, {"a": wanted}) == {"a": pytest.approx((-0.8, 2.5))}
    assert gradient_similarity(torch.tensor(-3.0), torch.tensor(2.0)) == (-1.0, 1.5)
    for seed in range(50):
        value = torch.randn(7, 5, generator=torch.Generator().manual_seed(seed))
        cosine, ratio = gradient_similarity(value, value)
        assert 1 - 1e-12 < cosine <= 1 and ratio == 1
        assert -1 <= gradient_similarity(value, -1e-30 * value).cosine < -1 + 1e-12
    some, none = torch.ones(3), torch.zeros(3)
    assert math.isnan(gradient_similarity(none, some).cosine) and gradient_similarity(none, some).norm_ratio == 0
    assert all(
        map(math.isnan, gradient_similarity(some, none) + gradient_similarity(torch.full((3,), torch.nan), some))
    )
    with pytest.raises(ValueError, match=r"one shape, got \(2,\) and \(3,\)"):
        gradient_similarity(torch.ones(2), torch.ones(3))
    with pytest.raises(ValueError, match="different parameters: a and b"):
        gradient_similarities({"a": torch.ones(1)}, {"b": torch.ones(1)})


@pytest.mark.parametrize(
    ("readout", "moments"), [(LI, {}), (LIS, {"window": 7}), (LIS, {"learn_every": 16, "window": 5})], ids=str
)
def test_through_time_means_through_all_of_it_from_every_moment(readout, moments):
    net, given = network(readout), example(readout=readout, **moments)
    found = gradient_through_time(BPTT(net, surrogate=TRIANGLE), given)
    wanted = full_gradients(net, given, surrogate=TRIANGLE)
    assert all(gradient.any() for gradient in wanted.values())
    assert not misfits(found, wanted, dict.fromkeys(wanted, EXACT))


@pytest.mark.parametrize(("rule", "gradients"), [(Trace, gradient_by_rule), (BPTT, gradient_through_time)])
def test_what_does_not_learn_is_left_out_what_nothing_reached_is_zero_and_what_was_there_does_not_count(
    rule, gradients
):
    net, given = network(), example(learn_every=25)
    net[0].bias.requires_grad_(False)
    net[1].input_trace.raw_decay = torch.nn.Parameter(torch.zeros(16, dtype=torch.float64))  # BPTT knows of no trace
    found = gradients(rule(net), given)
    assert "layers.0.connection.bias" not in found and found["layers.1.connection.bias"].any()
    assert bool(found["layers.1.input_trace.raw_decay"].any()) is (rule is Trace)
    kept = {name: value.clone() for name, value in found.items()}
    again = gradients(rule(net), given)
    assert all(torch.equal(found[name], again[name]) and torch.equal(found[name], kept[name]) for name in kept)
