"""A network that learns from rewards: having nothing to learn from is no illness, a layer that cannot learn is one."""

import pytest
import torch

from tracetorch.nn import LIF, LIS, Sequential
from tracetorch.training import HealthWatch, TrainingError, check_health


def acted(threshold=1.0, *, signal=1.0):
    """A network that has just acted and been judged, in two environments."""
    torch.manual_seed(0)
    net = Sequential(LIF(6, 5), LIF(5, 4, threshold=threshold), LIS(4, 3))
    for layer in net:
        layer.weight.data.abs_()
    net.run(torch.ones(20, 2, 6), reduce="mean")
    net.backward(signal * torch.tensor([[1.0, -1.0, 0.0], [0.0, 1.0, -1.0]]), at="logits")
    return net


def test_a_reward_that_teaches_nothing_is_no_illness():
    net = acted(signal=0.0)
    check_health(net, None, 7, rewarded=True)
    with pytest.raises(TrainingError, match=r"update 7: layer 0 .* gets no gradient"):
        check_health(net, None, 7)
    watch = HealthWatch(patience=1, rewarded=True)
    watch.look(net, None, 8, last=True)
    assert watch.state_dict() | {"found": 0, "was_well": True} == watch.state_dict()


def test_a_layer_that_learns_nothing_while_another_does_is_named():
    net = acted()
    check_health(net, None, 7, rewarded=True)
    for parameter in net[1].parameters():
        parameter.grad = torch.zeros_like(parameter)
    with pytest.raises(TrainingError, match=r"update 7: layer 1 \(LIF\(5, 4\)\) gets no gradient"):
        check_health(net, None, 7, rewarded=True)


@pytest.mark.parametrize("signal", [0.0, 1.0], ids=["without a reward", "with one"])
def test_a_silent_layer_is_named_whatever_the_reward(signal):
    with pytest.raises(TrainingError, match=r"layer 1 \(LIF\(5, 4\)\) is silent: not one spike in the batch; lower"):
        check_health(acted(1e6, signal=signal), None, 7, rewarded=True)


def test_a_gradient_that_is_not_finite_is_named():
    net = acted()
    net[2].weight.grad[0, 0] = torch.nan
    with pytest.raises(TrainingError, match=r"the gradient of layer 2 .* is not finite; lower optimizer\.lr"):
        HealthWatch(rewarded=True).look(net, None, 7, last=False)


def test_one_silence_at_the_end_is_forgiven_if_all_was_well_before():
    watch, well, silent = HealthWatch(rewarded=True), acted(), acted(1e6)
    with pytest.raises(TrainingError, match="is silent"):
        watch.look(silent, None, 1, last=True)  # never was it well
    watch.look(well, None, 2, last=False)
    resumed = HealthWatch(rewarded=True)
    resumed.load_state_dict(watch.state_dict())
    resumed.look(silent, None, 3, last=True)
    resumed.look(silent, None, 4, last=False)
    with pytest.raises(TrainingError, match="is silent"):
        resumed.look(silent, None, 5, last=False)
    strict = HealthWatch()
    strict.look(well, torch.ones(2, 3), 2, last=False)
    with pytest.raises(TrainingError, match="is silent"):
        strict.look(silent, torch.ones(2, 3), 3, last=True)
