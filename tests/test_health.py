"""A network that cannot learn is told apart: which layer, and what to try."""

import re
from contextlib import suppress

import pytest
import torch

from tracetorch.loss import cross_entropy
from tracetorch.nn import LI, LIF, LIS, Sequential
from tracetorch.rules import BPTT
from tracetorch.training import HealthWatch, TrainingError, check_health
from tracetorch.training.health import DeadNetworkError, check_loss


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
    fixed = LIF(6, 5, trainable=())
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
    with pytest.raises(
        TrainingError, match=f"update 7: the loss is {loss}, although the input and all weights are finite; look at"
    ):
        check_loss(loss, 7, net)
    net[1].neuron.raw_threshold.data.fill_(torch.nan)
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


# ── what came in, and what stays the same ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_an_input_that_is_not_finite_is_named_though_the_loss_is(value):
    torch.manual_seed(0)
    net, xs = Sequential(*lively()), torch.ones(20, 2, 6)
    xs[3, 1, 4] = value
    output = net.run(xs, reduce="mean")
    message = r"update 7: the input is not finite: input 4 of sample 1 is or was; look at the task's data"
    assert output.isfinite().all()
    with pytest.raises(TrainingError, match=message):
        check_loss(0.5, 7, net)
    net.backward(torch.ones(2, 3))
    with pytest.raises(TrainingError, match=message):
        check_health(net, output, 7)


def test_a_weight_that_is_not_finite_is_named_though_the_loss_is():
    net, _ = learnt(*lively())
    net.reset()
    net[0].weight.data.fill_(torch.nan)
    net.run(torch.ones(3, 2, 6))
    with pytest.raises(TrainingError, match=r"weight of layer 0 \(LIF\(6, 5\)\) is no longer finite"):
        check_loss(0.5, 7, net)


@pytest.mark.parametrize(
    ("layers", "signal", "words"),
    [
        (lively(), 0.0, r"the gradient of layer 0 \(LIF\(6, 5\)\) is zero, the gradient of layer 1"),
        ((LIF(6, 5, threshold=1e6), LIS(5, 3)), 1.0, r"layer 0 \(LIF\(6, 5\)\) is silent"),
        (lively(), 1e-30, r"the gradient of layer 2 \(LIS\(4, 3\)\) is .*e-.*change the scale"),
        (lively(), 1.0, r"no layer is silent and no gradient is zero; raise optimizer\.lr"),
    ],
)
def test_a_loss_that_stays_the_same_is_reported_once_with_the_reason(layers, signal, words, caplog):
    net, _ = learnt(*layers, signal=signal)
    watch, resumed = HealthWatch(), HealthWatch()
    watch.compare(net, 0.5, 1)
    for update in (2, 3):
        watch.compare(net, 0.7, update)
    resumed.load_state_dict(watch.state_dict())
    assert not caplog.records
    for update in (4, 5):
        resumed.compare(net, 0.7, update)
    (record,) = caplog.records
    message = record.getMessage()
    assert message.startswith("update 4: the loss was 0.7 at each of the last 3 evaluations: ")
    assert re.search(words, message)


def test_a_trainable_parameter_that_the_rule_leaves_out_is_named_once(caplog):
    net = Sequential(LIF(3, 4, trace_decay=0.8, trainable=["weight", "trace_decay"]), LIS(4, 2))
    rule = BPTT(net)
    output = rule.forward(torch.ones(5, 2, 3), reduce="mean")
    watch = HealthWatch()
    for update in (1, 2):
        if update == 1:
            rule.backward(cross_entropy(output, torch.tensor([0, 1]))[1])
        with suppress(DeadNetworkError):
            watch.look(net, output, update, last=False)
    (said,) = caplog.messages
    assert said == "trainable, but without a gradient under this rule: layers.0.input_trace.raw_decay"
