"""Forgetting some samples of a batch and no others."""

import pytest
import torch

from tests.common import BATCH, IN, LAYERS, build, each, normal, spikes
from tracetorch.nn import LIF, LIS, Sequential
from tracetorch.rules import BPTT, OTTT, EProp, ThreeFactor, Trace, TruncatedBPTT

SOME = torch.tensor([True, False, True])


@each(LAYERS)
def test_those_forgotten_go_on_as_new_ones_and_the_others_as_if_nothing_was(row):
    net, new, old, xs = build(row), build(row), build(row), spikes()
    for one in (net, old):
        one.run(xs)
    net.reset(SOME)
    found, fresh, kept = (one.run(xs[:10]) for one in (net, new, old))
    torch.testing.assert_close(found[:, SOME], fresh[:, SOME], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found[:, ~SOME], kept[:, ~SOME], rtol=1e-12, atol=1e-12)
    signal = normal(BATCH, found.shape[-1])
    told, wanted, held = (one.backward(signal) for one in (net, new, old))
    torch.testing.assert_close(told[..., SOME, :], wanted[..., SOME, :], rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(told[..., ~SOME, :], held[..., ~SOME, :], rtol=1e-11, atol=1e-12)


def test_one_step_at_a_time_sees_it_too():
    torch.manual_seed(0)
    net, new, xs = Sequential(LIF(IN, 8), LIS(8, 2)), Sequential(LIF(IN, 8), LIS(8, 2)), spikes().float()
    new.load_state_dict(net.state_dict())
    for x in xs:
        net(x)
    net.reset(SOME)
    assert torch.equal(net(xs[0])[SOME], new(xs[0])[SOME])


@each(LAYERS)
def test_a_state_that_was_handed_out_stays_as_it_is(row):
    net = build(row)
    net.run(spikes())
    layer = net[0] if isinstance(net, Sequential) else net
    held = layer.state
    before = [value.clone() for value in held.tensors]
    net.reset(SOME)
    assert all(torch.equal(*pair) for pair in zip(held.tensors, before, strict=True))
    assert not layer.state.steps[SOME].any() and bool((layer.state.steps[~SOME] > 0).all())


def test_before_the_first_step_there_is_nothing_to_forget():
    net = build(LAYERS[0])
    net.reset(SOME)
    assert net.state is None


@pytest.mark.parametrize("mask", [torch.tensor([True]), torch.tensor([0, 1, 0]), torch.ones(3, 1, dtype=torch.bool)])
def test_a_mask_that_does_not_fit_the_state_is_refused(mask):
    net = build(LAYERS[0])
    net.run(spikes())
    with pytest.raises(ValueError, match=r"holds a state of batch 3: mask is torch.bool of shape \(3,\)"):
        net.reset(mask)


@pytest.mark.parametrize("make", [Trace, ThreeFactor, BPTT, OTTT, EProp, lambda net: TruncatedBPTT(net, k=5)])
def test_rules_pass_it_on(make):
    torch.manual_seed(0)
    rule = make(Sequential(LIF(IN, 8), LIS(8, 2)).double())
    rule.forward(spikes(), reduce="mean")
    rule.reset(SOME)
    assert rule.net[0].state.steps[:, 0].tolist() == [0, len(spikes()), 0]


@pytest.mark.parametrize("rule", [BPTT, EProp, OTTT])
def test_a_wrong_mask_leaves_the_stretch_to_learn_from(rule):
    learner = rule(Sequential(LIF(4, 6), LIS(6, 3)))
    learner.forward(torch.rand(9, 2, 4))
    with pytest.raises(ValueError, match="mask"):
        learner.reset(torch.ones(5, dtype=torch.bool))
    learner.backward(torch.rand(2, 3))
    assert learner.net[1].weight.grad.any()
