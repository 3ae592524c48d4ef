"""A network that cannot learn is told apart: which layer, and what to try."""

import re

import pytest
import torch

from tracetorch.nn import LI, LIF, LIS, Sequential
from tracetorch.runs import HealthWatch, TrainingError, check_health
from tracetorch.runs.health import check_loss


def learnt(*layers, inputs=1.0, signal=1.0):
    """A network that has just learnt from a short batch, and its mean output."""
    torch.manual_seed(0)
    net = Sequential(*layers)
    for layer in net:
        layer.weight.data.abs_()
    output = net.run(torch.full((20, 2, layers[0].in_features), inputs), reduce="mean")
    net.backward(signal * torch.eye(output.shape[1])[:2])
    return net, output


def lively():
    return LIF(6, 5), LIF(5, 4), LIS(4, 3)


def complaint(net, output):
    with pytest.raises(TrainingError) as caught:
        check_health(net, output, 7)
    message = str(caught.value)
    assert message.startswith("update 7: ") and "\n" not in message
    return message


def test_a_network_that_is_well_is_left_in_peace():
    net, output = learnt(*lively())
    check_health(net, output, 7)
    check_loss(0.5, 7, net)


def test_silent_input_is_not_blamed_on_the_network():
    message = complaint(*learnt(*lively(), inputs=0.0))
    assert "the input is silent" in message and "layer 0" in message and "look at the task's rates" in message


@pytest.mark.parametrize("at", [0, 1])
def test_the_first_silent_layer_is_named_with_what_to_do(at):
    layers = list(lively())
    layers[at] = LIF(layers[at].in_features, layers[at].out_features, threshold=1e6)
    message = complaint(*learnt(*layers))
    assert f"layer {at} ({layers[at]}) is silent" in message
    assert "lower its threshold, raise its decay, or give it a bias" in message


def test_a_silent_spiking_readout_is_named():
    message = complaint(*learnt(LIF(6, 5), LIF(5, 3, threshold=1e6)))
    assert "layer 1 (LIF(5, 3)) is silent" in message


def test_a_readout_of_membranes_may_be_zero():
    net, _ = learnt(LIF(6, 5), LI(5, 3))
    check_health(net, torch.zeros(2, 3), 7)


def test_a_layer_without_a_gradient_is_named():
    net, output = learnt(*lively(), signal=0.0)
    message = complaint(net, output)
    assert "layer 0 (LIF(6, 5)) gets no gradient" in message
    assert "change its threshold, or lower optimizer.lr" in message


def test_a_fixed_layer_needs_no_gradient():
    fixed = LIF(6, 5, learn=())
    net, output = learnt(fixed, LIS(5, 3))
    assert all(parameter.grad is None for parameter in fixed.parameters())
    check_health(net, output, 7)


def test_a_gradient_that_is_not_finite_is_named():
    net, output = learnt(*lively())
    net[1].weight.grad[0, 0] = torch.nan
    assert re.search(
        r"the gradient of layer 1 \(LIF\(5, 4\)\) is not finite; lower optimizer.lr", complaint(net, output)
    )


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), -float("inf")])
def test_a_loss_that_is_no_number_is_traced_to_the_first_broken_parameter(loss):
    net, _ = learnt(*lively())
    with pytest.raises(TrainingError, match=f"update 7: the loss is {loss}, although all weights are finite; look at"):
        check_loss(loss, 7, net)
    net[1].raw_threshold.data.fill_(torch.nan)
    net[2].weight.data.fill_(torch.inf)
    with pytest.raises(
        TrainingError, match=r"raw_threshold of layer 1 \(LIF\(5, 4\)\) is no longer finite; lower optim"
    ):
        check_loss(loss, 7, net)


# ── over time ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_silent_network_has_some_time_to_wake_up():
    dead, well = learnt(*lively(), inputs=0.0), learnt(*lively())
    watch = HealthWatch(patience=3)
    for net, output in (dead, dead, well, dead, dead):
        watch.look(net, output, 7, last=False)
    with pytest.raises(TrainingError, match="update 8: the input is silent"):
        watch.look(*dead, 8, last=False)


def test_at_the_last_update_there_is_no_time_left():
    with pytest.raises(TrainingError, match="the input is silent"):
        HealthWatch().look(*learnt(*lively(), inputs=0.0), 7, last=True)


def test_a_gradient_that_is_not_finite_never_heals():
    net, output = learnt(*lively())
    net[1].weight.grad[0, 0] = torch.inf
    with pytest.raises(TrainingError, match="not finite"):
        HealthWatch().look(net, output, 7, last=False)
