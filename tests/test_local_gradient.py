"""Every layer of the table learns: gradients go where they should, add up, are right, and keep parameters usable."""

import numpy as np
import pytest
import torch

from tests.common import BATCH, IN, LAYERS, OUT, build, each, layers_of, normal, spikes
from tracetorch import functional as F
from tracetorch.nn import LIF, LIS, Sequential, neurons
from tracetorch.nn.local_gradient import average_current


@each(LAYERS)
def test_only_what_learns_gets_a_gradient(row):
    net = build(row)
    net.run(spikes())
    below = net.backward(normal(BATCH, OUT))
    assert below.shape[-2:] == (BATCH, IN) and below.abs().sum() > 0
    got = {name: value.grad for name, value in net.named_parameters() if value.grad is not None}
    assert set(got) == set(row.learned)
    for name, gradient in got.items():
        value = net.get_parameter(name)
        assert gradient.shape == value.shape and gradient.dtype == value.dtype and gradient.abs().sum() > 0


@each(LAYERS)
@pytest.mark.parametrize(("times", "at"), [(1, (1, 2, 9)), (3, ())])
def test_backward_adds_up_whenever_and_however_often(row, times, at):
    net, xs = build(row), spikes()
    wanted = dict.fromkeys(row.learned, 0.0)
    for step, x in enumerate(xs, start=1):
        net(x)
        if step in at or step == len(xs):
            signal = normal(BATCH, OUT, seed=step)
            alone = build(row)
            alone.run(xs[:step])
            alone.backward(signal)
            before = {name: value.clone() for name, value in net.save_state().items()}
            belows = [net.backward(signal) for _ in range(times)]
            assert all(torch.equal(below, belows[0]) for below in belows)
            assert all(torch.equal(value, before[name]) for name, value in net.save_state().items())
            wanted = {name: total + times * alone.get_parameter(name).grad for name, total in wanted.items()}
    for name, total in wanted.items():
        torch.testing.assert_close(net.get_parameter(name).grad, total, rtol=1e-10, atol=1e-11)


@each(LAYERS)
def test_learning_is_linear_in_the_signal(row):
    one, two = normal(BATCH, OUT, seed=1), normal(BATCH, OUT, seed=2)
    nets = [build(row) for _ in range(3)]
    belows = []
    for net, signal in zip(nets, (one, two, 3 * one - two), strict=True):
        net.run(spikes())
        belows.append(net.backward(signal))
    torch.testing.assert_close(belows[2], 3 * belows[0] - belows[1])
    for name in row.learned:
        first, second, both = (net.get_parameter(name).grad for net in nets)
        torch.testing.assert_close(both, 3 * first - second, rtol=1e-9, atol=1e-11)


@each([row for row in LAYERS if row.of not in ("Sequential", "feedforward") and "bank" not in row.name])
def test_the_gradient_of_a_layer_is_the_slope_of_its_average_output(row):
    """Against finite differences of `average_output(W·ā + b)`, every number; ā is recorded again for each
    (weights do not reach it, decays do), unless a stationary gradient takes it as constant.
    """
    net, signal = build(row), normal(BATCH, OUT)
    net.run(spikes())
    below = net.backward(signal)
    gradients = {name: net.get_parameter(name).grad.clone() for name in row.learned}
    recorded = net.average_input().detach()

    @torch.no_grad()
    def level(shift: float = 0.0, at: tuple | None = None) -> float:
        net.reset()
        net.run(spikes())
        average = (
            recorded.clone() if net.input_trace.gradient == "stationary" or at is not None else net.average_input()
        )
        if at is not None:
            average[at] += shift
        output = net.neuron.steady_state(average_current(net, average), net.state.steps)
        return float((output * signal).sum())

    for name, gradient in gradients.items():
        data = net.get_parameter(name).data
        for at in np.ndindex(*data.shape):
            kept = data[at].clone()
            ends = []
            for shift in (1e-6, -1e-6):
                data[at] = kept + shift
                ends.append(level())
            data[at] = kept
            assert float(gradient[at]) == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-5, abs=1e-7)
    for row_at in range(BATCH):
        at = (..., row_at, 2)
        assert float(below[row_at, 2]) == pytest.approx((level(1e-6, at) - level(-1e-6, at)) / 2e-6, rel=1e-5, abs=1e-7)


@each(LAYERS)
def test_whether_anything_below_asks_changes_no_gradient(row):
    asked, alone, signal = build(row), build(row), normal(BATCH, OUT)
    for net, below in ((asked, True), (alone, False)):
        net.run(spikes())
        assert (net.backward(signal, return_input_grad=below) is None) is not below
    for name in row.learned:
        assert torch.equal(asked.get_parameter(name).grad, alone.get_parameter(name).grad)


def test_the_gradient_of_a_network_chains_its_average_outputs():
    torch.manual_seed(1)
    net, signal = Sequential(LIF(IN, 5), LIS(5, OUT)).double(), normal(BATCH, OUT)
    net[0].weight.data.add_(0.3)
    net.run(spikes())
    below = net.backward(signal)
    hidden, readout = net
    average = hidden.average_input().requires_grad_()
    rate = F.lif_rate(average @ hidden.weight.T, hidden.neuron.decay, hidden.neuron.threshold, hidden.state.steps)
    linked = rate + (readout.average_input() - rate).detach()  # the recorded value, with the gradient of the rate
    output = F.lis_distribution(linked @ readout.weight.T, readout.neuron.decay, readout.state.steps)
    wanted = torch.autograd.grad(output, [average, hidden.weight, readout.weight], signal)
    for actual, value in zip((below, hidden.weight.grad, readout.weight.grad), wanted, strict=True):
        torch.testing.assert_close(actual, value)


@each(LAYERS)
def test_learning_works_where_gradients_are_off(row):
    net, other = build(row), build(row)
    net.run(spikes()), other.run(spikes())
    with torch.no_grad():
        below = net.backward(normal(BATCH, OUT))
    assert torch.equal(below, other.backward(normal(BATCH, OUT)))
    assert all(torch.equal(net.get_parameter(name).grad, other.get_parameter(name).grad) for name in row.learned)


@each(LAYERS)
def test_a_gradient_may_be_scaled_in_place(row):
    """As gradient clipping does: neither the signal nor another gradient may share its memory."""
    net, signal = build(row), normal(BATCH, OUT)
    kept = signal.clone()
    net.run(spikes())
    below = net.backward(signal)
    kept_below = below.clone()
    for name in row.learned:
        net.get_parameter(name).grad.mul_(0)
    assert torch.equal(signal, kept) and torch.equal(below, kept_below)
    net.backward(signal)
    assert all(net.get_parameter(name).grad.abs().sum() > 0 for name in row.learned)


@each(LAYERS)
@pytest.mark.parametrize("step_size", [0.1, 1.0])
def test_parameters_stay_finite_and_constrained_under_wild_steps(row, step_size):
    net = build(row, dtype=torch.float32)
    if not row.learned:
        assert not any(value.requires_grad for value in net.parameters())
        return
    optimizer = torch.optim.Adam(net.parameters(), lr=step_size)
    for update in range(15):
        net.reset()
        net.run(spikes(seed=update))
        net.backward(100 * normal(BATCH, OUT, seed=update))
        optimizer.step()
        optimizer.zero_grad()
    assert all(value.isfinite().all() for value in net.parameters())
    assert net.run(spikes()).isfinite().all()
    for layer in layers_of(net):
        for decay in (layer.neuron.decay, layer.trace_decay):
            assert ((decay > 0) & (decay < 1)).all()
        assert not hasattr(layer, "threshold") or (layer.neuron.threshold > 0).all()


@pytest.mark.parametrize("raw", [-20.0, 20.0])
@each([row for row in LAYERS if row.learned])
def test_a_decay_driven_to_its_end_still_learns_with_finite_numbers(row, raw):
    """Sigmoid rounds to 1 in float32 from a raw value of 17 on."""
    net = build(row, dtype=torch.float32)
    for name, value in net.named_parameters():
        if name.endswith("decay"):
            value.data.fill_(raw)
    assert net.run(spikes()).isfinite().all()
    assert net.backward(normal(BATCH, OUT)).isfinite().all()
    assert all(net.get_parameter(name).grad.isfinite().all() for name in row.learned)


def test_the_values_given_are_the_values_read():
    decay, threshold, trace = (
        torch.tensor([0.3, 0.5, 0.9, 0.99]),
        torch.tensor([0.5, 1, 2, 30.0]),
        torch.full((IN,), 0.7),
    )
    layer = LIF(IN, OUT, decay=decay, threshold=threshold, trace_decay=trace)
    for read, given_value in (
        (layer.neuron.decay, decay),
        (layer.neuron.threshold, threshold),
        (layer.trace_decay, trace),
    ):
        torch.testing.assert_close(read.detach(), given_value)
    groups = LIF(IN, OUT, decay=torch.tensor([0.6, 0.9]))
    torch.testing.assert_close(groups.neuron.decay.detach(), torch.tensor([0.6, 0.6, 0.9, 0.9]))
    torch.testing.assert_close(groups.trace_decay, torch.tensor([0.6, 0.9]).view(2, 1, 1))
    assert groups.input_trace.groups == 2 and groups.input_trace.tied and not layer.input_trace.tied
    assert LIF(IN, OUT).weight.abs().max() <= IN**-0.5 and LIF(IN, OUT, bias=True).bias.tolist() == [0] * OUT


FORMULAS = [
    (neurons.LIF, {}, "output"),
    (neurons.LIF, {"threshold": 0.7}, "output"),
    (neurons.LIF, {"threshold": [0.5, 0.9, 1.0, 1.5]}, "output"),
    (neurons.LI, {}, "output"),
    (neurons.LI, {"decay": [0.5, 0.9]}, "logits"),
    (neurons.LIS, {}, "output"),
    (neurons.LIS, {}, "logits"),
]


@pytest.mark.parametrize(("make", "constants", "at"), FORMULAS)
def test_the_formula_of_a_gradient_gives_what_autograd_finds(make, constants, at):
    neuron = make(4, **constants).double()
    neuron.raw_decay.requires_grad_(False)
    current, signal, steps = normal(3, 4).requires_grad_(), normal(3, 4, seed=1), torch.tensor([[1], [7], [400]])
    output = (neuron.steady_state if at == "output" else neuron.steady_logits)(current, steps)
    trained = [parameter for parameter in neuron.parameters() if parameter.requires_grad]
    wanted = torch.autograd.grad(output, [current, *trained], signal)
    with torch.no_grad():
        of_current, of_parameters = neuron.steady_vjp(current, steps, signal, at)
    assert list(of_parameters) == trained
    torch.testing.assert_close((of_current, *of_parameters.values()), wanted)


def test_without_a_formula_autograd_is_asked():
    class Steeper(neurons.LIF):
        def steady_state(self, current, steps):
            return super().steady_state(2 * current, steps)

    trained, steeper, logistic = neurons.LIF(4), Steeper(4), neurons.LIF(4, rate_map="logistic")
    steeper.raw_decay.requires_grad_(False)
    for neuron in (trained, steeper, logistic):
        assert neuron.steady_vjp(normal(3, 4), torch.ones(3, 1), normal(3, 4), "output") is None
