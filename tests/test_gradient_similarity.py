"""Cosines and ratios by hand; the gradient of an example by a rule, and through all time, against the oracle's."""

import math
from functools import partial

import pytest
import torch

from tests.oracle import EXACT, full_gradients, misfits
from tests.test_oracle import TRIANGLE, each_moments, each_readout, example, network
from tracetorch.rules import BPTT, Trace
from tracetorch.rules.gradient_similarity import (
    gradient_by_rule,
    gradient_similarities,
    gradient_similarity,
    gradient_through_time,
)


def test_by_hand():
    found, wanted = torch.tensor([[3.0, 0.0], [0.0, 4.0]]), torch.tensor([[0.0, 0.0], [0.0, 2.0]])
    assert gradient_similarity(found, wanted) == pytest.approx((0.8, 2.5))
    assert gradient_similarity(-found, wanted) == pytest.approx((-0.8, 2.5))
    assert gradient_similarity(torch.tensor(-3.0), torch.tensor(2.0)) == (-1.0, 1.5)


def test_a_gradient_agrees_with_itself_and_not_more():
    for seed in range(50):
        torch.manual_seed(seed)
        value = torch.randn(7, 5)
        cosine, ratio = gradient_similarity(value, value)
        assert 1 - 1e-12 < cosine <= 1 and ratio == 1
        assert -1 <= gradient_similarity(value, -1e-30 * value).cosine < -1 + 1e-12


def test_what_is_not_defined_is_no_number():
    some, none = torch.ones(3), torch.zeros(3)
    assert math.isnan(gradient_similarity(none, some).cosine) and gradient_similarity(none, some).norm_ratio == 0
    assert all(map(math.isnan, gradient_similarity(some, none)))
    assert all(map(math.isnan, gradient_similarity(none, none)))
    assert math.isnan(gradient_similarity(torch.full((3,), torch.nan), some).cosine)


def test_gradients_of_other_things_are_refused():
    with pytest.raises(ValueError, match=r"one shape, got \(2,\) and \(3,\)"):
        gradient_similarity(torch.ones(2), torch.ones(3))
    with pytest.raises(ValueError, match="different parameters: a and b"):
        gradient_similarities({"a": torch.ones(1)}, {"b": torch.ones(1)})


@each_readout
@each_moments
def test_through_time_means_through_all_of_it_from_every_moment(readout, moments):
    net, given = network(readout), example(readout=readout, **moments)
    found = gradient_through_time(BPTT(net, surrogate=TRIANGLE), given)
    wanted = full_gradients(net, given, surrogate=TRIANGLE)
    assert all(gradient.any() for gradient in wanted.values())
    assert not misfits(found, wanted, dict.fromkeys(wanted, EXACT))


def test_what_does_not_learn_is_left_out_and_what_nothing_reached_is_zero():
    net, given = network(), example()
    net[0].bias.requires_grad_(False)
    net[1].input_trace.raw_decay = torch.nn.Parameter(torch.zeros(16, dtype=torch.float64))  # BPTT knows of no trace
    for rule, gradients in ((Trace, gradient_by_rule), (partial(BPTT), gradient_through_time)):
        found = gradients(rule(net), given)
        assert "layers.0.connection.bias" not in found and "layers.1.connection.bias" in found
        assert bool(found["layers.1.input_trace.raw_decay"].any()) is (rule is Trace)


def test_what_was_there_before_does_not_count_and_the_gradients_stay_as_they_were_given():
    net, given = network(), example(learn_every=25)
    first = gradient_by_rule(Trace(net), given)
    kept = {name: value.clone() for name, value in first.items()}
    again = gradient_by_rule(Trace(net), given)
    assert all(torch.equal(first[name], again[name]) and torch.equal(first[name], kept[name]) for name in kept)
