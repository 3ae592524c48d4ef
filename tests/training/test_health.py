"""Reports on a network that cannot learn: the layer at fault and a remedy."""

import re
from contextlib import nullcontext, suppress

import pytest
import torch

from tracetorch.loss import cross_entropy
from tracetorch.nn import LI, LIF, LIS, Sequential
from tracetorch.rules import BPTT
from tracetorch.training import HealthWatch, TrainingError, check_health
from tracetorch.training.health import DeadNetworkError, check_loss


def trained(*layers, inputs=1.0, signal=1.0):
    """A network with the gradients of one batch, before an update, and its mean output."""
    torch.manual_seed(0)
    net = Sequential(*(layers or lively()))
    for layer in net:
        layer.weight.data.abs_()
    output = net.run(torch.full((20, 2, net[0].in_features), inputs), reduce="mean")
    net.backward(signal * torch.eye(output.shape[1])[:2])
    return net, output


def lively(threshold=1.0):
    return LIF(6, 5), LIF(5, 4, threshold=threshold), LIS(4, 3)


SILENT = (
    "layer 1 (LIF(5, 4)) is silent: not one spike in the batch; lower its threshold (network.neuron.threshold=5e+05), "
)


@pytest.mark.parametrize(
    ("make", "phrase"),
    [
        (trained, ""),
        (lambda: trained(LIF(6, 5, trainable=()), LIS(5, 3)), ""),  # a fixed layer needs no gradient
        (lambda: (trained(LIF(6, 5), LI(5, 3))[0], torch.zeros(2, 3)), ""),  # a readout of membranes may be zero
        (lambda: trained(inputs=0.0), "the input is silent: no spike reaches layer 0; look at the task's rates"),
        (lambda: trained(LIF(6, 5, threshold=1e6), LIF(5, 4), LIS(4, 3)), "layer 0 (LIF(6, 5)) is silent"),
        (lambda: trained(*lively(1e6)), SILENT),
        (lambda: trained(LIF(6, 5), LIF(5, 3, threshold=1e6)), "layer 1 (LIF(5, 3)) is silent"),
        (lambda: trained(signal=0.0), "layer 0 (LIF(6, 5)) gets no gradient; its neurons are all far below or far"),
        (lambda: trained(signal=torch.nan), "the gradient of layer 0 (LIF(6, 5)) is not finite; lower optimizer.lr"),
        (lambda: trained(inputs=torch.inf), "the input is not finite: input 0 of sample 0 is or was; look at the task"),
    ],
)
def test_a_network_that_cannot_learn_is_refused_with_the_layer_and_advice(make, phrase):
    net, output = make()
    with pytest.raises(TrainingError, match=rf"^update 7: {re.escape(phrase)}[^\n]*$") if phrase else nullcontext():
        check_health(net, output, 7)


def test_with_rewards_a_layer_without_gradient_is_named_only_if_another_has_one():
    net, _ = trained(signal=0.0)
    watch = HealthWatch(patience=1, rewarded=True)
    watch.look(net, None, 8, last=True)
    assert (watch.state_dict()["found"], watch.state_dict()["was_well"]) == (0, True)
    net, _ = trained()
    check_health(net, None, 7, rewarded=True)
    for parameter in net[1].parameters():
        parameter.grad = torch.zeros_like(parameter)
    with pytest.raises(TrainingError, match=r"update 7: layer 1 \(LIF\(5, 4\)\) gets no gradient"):
        check_health(net, None, 7, rewarded=True)
    with pytest.raises(TrainingError, match=re.escape(SILENT)):
        check_health(trained(*lively(1e6), signal=0.0)[0], None, 7, rewarded=True)


def test_a_value_that_is_not_finite_is_traced_to_the_input_or_the_first_broken_parameter():
    net, _ = trained()
    check_loss(0.5, 7, net)
    check_loss(0.5, 7, trained(LIF(6, 1), LIS(1, 3))[0])
    with pytest.raises(
        TrainingError, match="update 7: the loss is -inf, although the input and all weights are finite"
    ):
        check_loss(-float("inf"), 7, net)
    net[1].neuron.raw_threshold.data.fill_(torch.nan)
    net[2].weight.data.fill_(torch.inf)
    with pytest.raises(
        TrainingError, match=r"raw_threshold of layer 1 \(LIF\(5, 4\)\) is no longer finite; lower opti"
    ):
        check_loss(float("nan"), 7, net)
    net[0].weight.data.fill_(torch.nan)
    net.run(torch.ones(3, 2, 6))
    with pytest.raises(TrainingError, match=r"weight of layer 0 \(LIF\(6, 5\)\) is no longer finite"):
        check_loss(0.5, 7, net)
    net, xs = Sequential(*lively()), torch.ones(20, 2, 6)
    xs[3, 1, 4] = torch.nan
    assert net.run(xs, reduce="mean").isfinite().all()
    with pytest.raises(
        TrainingError, match=r"update 7: the input is not finite: input 4 of sample 1 is or was; look at"
    ):
        check_loss(0.5, 7, net)


def test_a_silent_network_is_tolerated_for_a_while_but_not_at_the_end():
    dead, healthy, (silent, _) = trained(inputs=0.0), trained(), trained(*lively(1e6))
    watch = HealthWatch(patience=3)
    for net, output in (dead, dead, healthy, dead, dead):
        watch.look(net, output, 7, last=False)
    with pytest.raises(TrainingError, match="update 8: the input is silent"):
        watch.look(*dead, 8, last=False)
    watch, rewarded = HealthWatch(), HealthWatch(rewarded=True)
    with pytest.raises(TrainingError, match="is silent"):
        rewarded.look(silent, None, 1, last=True)  # no earlier check has passed
    for each in (watch, rewarded):
        each.look(*healthy, 6, last=False)
    with pytest.raises(TrainingError, match="the input is silent"):
        watch.look(*dead, 7, last=True)
    resumed = HealthWatch(rewarded=True)
    resumed.load_state_dict(rewarded.state_dict())
    resumed.look(silent, None, 7, last=True)  # with rewards, a silent end is tolerated if a check has passed
    resumed.look(silent, None, 8, last=False)
    with pytest.raises(TrainingError, match="is silent"):
        resumed.look(silent, None, 9, last=False)
    healthy[0][1].weight.grad[0, 0] = torch.inf  # no recovery: an error at the first check
    with pytest.raises(TrainingError, match="not finite"):
        HealthWatch(rewarded=True).look(*healthy, 7, last=False)


@pytest.mark.parametrize(
    ("layers", "signal", "pattern"),
    [
        ((), 0.0, r"the gradient of layer 0 \(LIF\(6, 5\)\) is zero, the gradient of layer 1"),
        ((LIF(6, 5, threshold=1e6), LIS(5, 3)), 1.0, r"layer 0 \(LIF\(6, 5\)\) is silent"),
        ((), 1e-30, r"the gradient of layer 2 \(LIS\(4, 3\)\) is .*e-.*change the scale"),
        ((), 1.0, r"no layer is silent and no gradient is zero; raise optimizer\.lr"),
    ],
)
def test_a_loss_that_stays_the_same_is_reported_once_with_the_reason(layers, signal, pattern, caplog):
    net, _ = trained(*layers, signal=signal)
    watch, resumed = HealthWatch(), HealthWatch()
    for update, loss in ((1, 0.5), (2, 0.7), (3, 0.7)):
        watch.compare(net, loss, update)
    resumed.load_state_dict(watch.state_dict())
    assert not caplog.records
    for update in (4, 5):
        resumed.compare(net, 0.7, update)
    (message,) = caplog.messages
    assert message.startswith("update 4: the loss was 0.7 at each of the last 3 evaluations: ")
    assert re.search(pattern, message)


def test_a_trainable_parameter_that_the_rule_leaves_out_is_named_once(caplog):
    net = Sequential(LIF(3, 4, trace_decay=0.8, trainable=["weight", "trace_decay"]), LIS(4, 2))
    rule, watch = BPTT(net), HealthWatch()
    output = rule.forward(torch.ones(5, 2, 3), reduce="mean")
    with suppress(DeadNetworkError):
        watch.look(net, output, 1, last=False)
    assert not caplog.messages  # no parameter has a gradient yet
    rule.backward(cross_entropy(output, torch.tensor([0, 1]))[1])
    for update in (2, 3):
        with suppress(DeadNetworkError):
            watch.look(net, output, update, last=False)
    assert caplog.messages == ["trainable, but without a gradient under this rule: layers.0.input_trace.raw_decay"]
