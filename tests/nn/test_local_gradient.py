"""Every layer of the table learns: gradients go where they should, are right, and keep parameters usable."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.common import BATCH, IN, LAYERS, OUT, build, each, gradients, layers_of, normal, spikes
from tracetorch import encode, loss
from tracetorch import functional as F
from tracetorch.nn import LI, LIF, LIS, Sequential
from tracetorch.nn.local_gradient import average_current
from tracetorch.rules import BPTT, OTTT, CoarseBPTT, EProp, ThreeFactor, Trace


def assert_same_gradients(found: nn.Module, wanted: nn.Module, **off: float) -> None:
    torch.testing.assert_close(gradients(found), gradients(wanted), **off)


EXACTLY = {"rtol": 0.0, "atol": 0.0}
NEARLY = {"rtol": 1e-9, "atol": 1e-11}


@each(LAYERS)
def test_trainable_parameters_alone_get_a_gradient_and_every_way_to_backward_gives_the_same(row):
    signal, xs = normal(BATCH, OUT, seed=3), spikes()
    kept, nets = signal.clone(), [build(row) for _ in range(7)]
    explicit, unasked, without, of_mean, of_window, of_chunk, of_step = nets
    in_steps = build(row)
    fixed = build(row)  # other gradients do not depend on whether a decay learns: most then come by a formula
    for layer in layers_of(fixed):
        layer.neuron.raw_decay.requires_grad_(False)
    outputs = of_mean.run(xs, reduce="mean"), of_window.run(xs, reduce="mean", window=5), of_chunk.run(xs)
    for step in xs:
        last = of_step(x := step.clone().requires_grad_())
        in_steps(step)
    for net in (explicit, unasked, without, fixed):
        net.run(xs)
    below = explicit.backward(signal)
    assert below.shape[-2:] == (BATCH, IN) and below.abs().sum() > 0
    assert gradients(explicit).keys() == set(row.learned)
    for name, gradient in gradients(explicit).items():
        value = explicit.get_parameter(name)
        assert gradient.shape == value.shape and gradient.dtype == value.dtype and gradient.abs().sum() > 0
    assert unasked.backward(signal, return_input_grad=False) is None
    with torch.no_grad():
        assert torch.equal(without.backward(signal), below)
    last.backward(signal)
    of_input = in_steps.backward(signal)
    assert torch.equal(x.grad, of_input if of_input.ndim == 2 else of_input.sum(dim=0))  # over a bank
    assert_same_gradients(of_step, in_steps, **EXACTLY)
    for output in outputs:
        assert output.requires_grad == bool(row.learned)
        if row.learned:
            output[-1 if output is outputs[-1] else slice(None)].backward(signal)
    for net in nets[1:]:
        assert_same_gradients(net, explicit, **(NEARLY if net is of_step else EXACTLY))  # steps add up in another order
    torch.testing.assert_close(fixed.backward(signal), below)
    torch.testing.assert_close(gradients(fixed), {name: explicit.get_parameter(name).grad for name in gradients(fixed)})
    # Gradients may be scaled in place, as clipping does: nothing else has their memory. They add up.
    before, state = below.clone(), explicit.save_state()
    for gradient in gradients(explicit).values():
        gradient.mul_(-1)
    assert torch.equal(signal, kept) and torch.equal(below, before)
    explicit.backward(2 * signal)
    assert all(map(torch.equal, explicit.save_state().values(), state.values()))
    assert_same_gradients(explicit, unasked)


@each([row for row in LAYERS if row.of not in ("Sequential", "feedforward") and "bank" not in row.name])
def test_the_gradient_of_a_layer_is_the_slope_of_its_average_output(row):
    """Against finite differences of `average_output(W·ā + b)`, every number; ā is recorded again for each
    (weights do not reach it, decays do), unless a stationary gradient takes it as constant.
    """
    net, signal, xs = build(row), normal(BATCH, OUT), spikes(steps=9)
    net.run(xs)
    below = net.backward(signal)
    recorded = net.average_input().detach()

    @torch.no_grad()
    def level(shift: float = 0.0, at: tuple | None = None) -> float:
        net.reset()
        net.run(xs)
        is_constant = net.input_trace.gradient == "stationary" or at is not None
        average = recorded.clone() if is_constant else net.average_input()
        if at is not None:
            average[at] += shift
        output = net.neuron.steady_state(average_current(net, average), net.state.steps)
        return float((output * signal).sum())

    def close(gradient: Tensor, high: float, low: float) -> None:
        assert float(gradient) == pytest.approx((high - low) / 2e-6, rel=1e-5, abs=1e-7)

    for name, gradient in gradients(net).items():
        data = net.get_parameter(name).data
        for at in np.ndindex(*data.shape):
            kept, ends = data[at].clone(), []
            for shift in (1e-6, -1e-6):
                data[at] = kept + shift
                ends.append(level())
            data[at] = kept
            close(gradient[at], *ends)
    for sample in range(BATCH):
        close(below[sample, 2], *(level(shift, (..., sample, 2)) for shift in (1e-6, -1e-6)))


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
    torch.testing.assert_close((below, hidden.weight.grad, readout.weight.grad), wanted)


@each([row for row in LAYERS if row.name in ("LIF-free-trace-per-input", "LIF-groups-bank", "own", "network")])
def test_gradients_stay_finite_for_decays_at_0_and_1(row):
    """Sigmoid rounds to 1 in float32 from a raw value of 17 on."""
    net = build(row, dtype=torch.float32)
    for raw in (-20.0, 20.0):
        net.reset()
        for name, value in net.named_parameters():
            if name.endswith("decay"):
                value.data.fill_(raw)
        assert net.run(spikes()).isfinite().all() and net.backward(100 * normal(BATCH, OUT)).isfinite().all()
        assert all(gradient.isfinite().all() for gradient in gradients(net).values())


def test_a_loss_backward_and_a_signal_give_the_same_gradient_to_a_shared_weight():
    net = Sequential(LIF(IN, IN), LIS(IN, IN)).double()
    net[1].connection.weight = net[0].connection.weight
    explicit, target = copy.deepcopy(net), torch.arange(BATCH)
    _, signal = loss.cross_entropy(explicit.run(spikes(), reduce="mean"), target)
    explicit[0].backward(explicit[1].backward(signal))  # each adds its own
    loss.cross_entropy(net.run(spikes(), reduce="mean"), target)[0].backward()
    assert_same_gradients(net, explicit)


@pytest.mark.parametrize("decay", [0.8, [0.7, 0.9]], ids=["one", "groups"])
def test_the_input_gradient_is_weighted_by_the_trace_and_summed_for_rates(decay):
    layer, xs, signal = LI(IN, OUT, decay=decay).double(), normal(6, BATCH, IN).requires_grad_(), normal(BATCH, OUT)
    layer.run(xs, reduce="mean").backward(signal)
    torch.testing.assert_close(xs.grad.sum(dim=0), layer.backward(signal))
    torch.testing.assert_close(xs.grad[:-1], 0.8 * xs.grad[1:])
    rates = torch.full((BATCH, IN), 0.3).double().requires_grad_()
    changing = rates.detach().expand(20, -1, -1).requires_grad_()
    for source in (rates, changing):
        layer.reset()
        layer.run(encode.poisson(source, 20)[5:], reduce="mean").backward(signal)
    assert torch.equal(rates.grad, layer.backward(signal))
    assert not changing.grad[:5].any() and changing.grad[5:].all()
    with pytest.raises(ValueError, match="latency gives its values no gradient"):
        encode.latency(rates, 5)


@pytest.mark.parametrize(
    "change",
    [
        lambda net, x: net(x),
        lambda net, x: net.run(x[None]),
        lambda net, _: net.reset(),
        lambda net, x: (net.reset(), net(x)),
        lambda net, _: net.load_state(net.save_state()),
        lambda net, _: net.reset(torch.tensor([True, *[False] * (BATCH - 1)])),
    ],
)
def test_backward_of_an_output_of_an_earlier_state_is_refused(change):
    net, xs = Sequential(LIF(IN, 8), LIS(8, OUT)).double(), spikes()
    output = net(xs[0])
    change(net, xs[1])
    with pytest.raises(RuntimeError, match="has changed since this output was computed"):
        output.sum().backward()
    assert gradients(net) == {}


@pytest.mark.parametrize("rule", [Trace, BPTT, CoarseBPTT, EProp, OTTT, partial(ThreeFactor, layers="all")])
def test_gradients_have_the_strides_of_their_parameters_as_fused_optimizers_need(rule):
    """Layers with groups of decays, with a bank, and with neither."""
    layers = LIF(IN, 8, decay=[0.8, 0.9]), LIF(8, 8, trace_bank=[0.99]), LIF(8, 8, bias=True), LIS(8, OUT)
    learner = rule(Sequential(*layers).float())
    output = learner.forward(spikes().float(), reduce="mean")
    if isinstance(learner, ThreeFactor):
        learner.observe(normal(*output.shape).float())
        learner.backward(normal(BATCH).float())
    else:
        learner.backward(loss.mse(output, torch.zeros(BATCH, dtype=torch.int64))[1])
    for name, gradient in gradients(learner.net).items():
        assert gradient.stride() == learner.net.get_parameter(name).stride(), name
    with pytest.raises(TypeError, match=r"takes a network of tt\.nn, got"):
        rule(nn.Linear(3, 4))
