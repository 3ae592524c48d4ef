"""Every layer of the table learns: gradients go where they should, are right, and keep parameters usable.

`loss.backward()` on an output is `net.backward(signal)`, and an output holds no history.
"""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.common import BATCH, IN, LAYERS, OUT, Net, build, each, layers_of, normal, spikes
from tracetorch import encode, loss
from tracetorch import functional as F
from tracetorch.nn import LI, LIF, LIS, Sequential, neurons
from tracetorch.nn.local_gradient import average_current
from tracetorch.rules import BPTT, OTTT, EProp, ThreeFactor, Trace, TruncatedBPTT


def gradients(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.grad for name, value in module.named_parameters() if value.grad is not None}


def same(found: nn.Module, wanted: nn.Module, **off: float) -> None:
    mine, theirs = gradients(found), gradients(wanted)
    assert mine.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(mine[name], value, **off)


EXACTLY = {"rtol": 0.0, "atol": 0.0}
NEARLY = {"rtol": 1e-9, "atol": 1e-11}


@each(LAYERS)
def test_only_what_learns_gets_a_gradient_whichever_way_it_is_asked_for(row):
    signal, xs = normal(BATCH, OUT, seed=3), spikes()
    kept, nets = signal.clone(), [build(row) for _ in range(6)]
    explicit, unasked, without, of_mean, of_window, of_steps = nets
    mean, window = of_mean.run(xs, reduce="mean"), of_window.run(xs, reduce="mean", window=5)
    steps = of_steps.run(xs)
    for net in (explicit, unasked, without):
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
    assert {output.requires_grad for output in (mean, window, steps)} == {bool(row.learned)}
    if row.learned:
        mean.backward(signal)
        window.backward(signal)
        steps.backward((signal / len(xs)).expand_as(steps))
    for net in nets[1:]:
        same(net, explicit, **(NEARLY if net is of_steps else EXACTLY))  # the sum of its signals rounds
    # Gradients may be scaled in place, as clipping does: nothing else has their memory.
    before = below.clone()
    for gradient in gradients(explicit).values():
        gradient.mul_(0)
    assert torch.equal(signal, kept) and torch.equal(below, before)
    explicit.backward(signal)
    same(explicit, unasked)


@each(LAYERS)
def test_the_output_of_a_step_gives_its_input_the_gradient_of_the_average_input(row):
    net, explicit, signal = build(row), build(row), normal(BATCH, OUT, seed=3)
    xs = normal(8, BATCH, IN).abs().requires_grad_()
    for x in xs:
        output = net(x)
    output.backward(signal)
    explicit.run(xs.detach())
    below = explicit.backward(signal)
    same(net, explicit, **NEARLY)
    below = below if below.ndim == 2 else below.sum(dim=0)  # over the stretches of a bank
    torch.testing.assert_close(xs.grad[-1], below, **NEARLY)
    assert not xs.grad[:-1].any()


@each(LAYERS)
def test_backward_adds_up_whenever_and_however_often(row):
    net, xs, wanted = build(row), spikes(), dict.fromkeys(row.learned, 0.0)
    for step, x in enumerate(xs, start=1):
        net(x)
        if step in (1, 2, 9, len(xs)):
            alone, signal, before = build(row), normal(BATCH, OUT, seed=step), net.save_state()
            alone.run(xs[:step])
            alone.backward(signal)
            assert torch.equal(net.backward(signal), net.backward(signal))
            assert all(map(torch.equal, net.save_state().values(), before.values()))
            wanted = {name: total + 2 * alone.get_parameter(name).grad for name, total in wanted.items()}
    for name, total in wanted.items():
        torch.testing.assert_close(net.get_parameter(name).grad, total, rtol=1e-10, atol=1e-11)


@each([row for row in LAYERS if row.of not in ("Sequential", "feedforward") and "bank" not in row.name])
def test_the_gradient_of_a_layer_is_the_slope_of_its_average_output(row):
    """Against finite differences of `average_output(W·ā + b)`, every number; ā is recorded again for each
    (weights do not reach it, decays do), unless a stationary gradient takes it as constant.
    """
    net, signal, xs = build(row), normal(BATCH, OUT), spikes()
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


@each([row for row in LAYERS if "stationary" in row.name or row.name in ("LIF-weights-only", "LIF-frozen")])
def test_what_layers_learn_by_products_is_what_autograd_learns_to_the_bit(row):
    layer, signal = build(row), normal(BATCH, OUT, seed=2)
    assert not layer.input_trace.moves(layer.neuron)
    layer.run(spikes())
    average = layer.average_input().requires_grad_()
    learnable = [value for value in layer.parameters() if value.requires_grad]
    output = layer.neuron.steady_state(average_current(layer, average), layer.state.steps)
    *wanted, below = torch.autograd.grad(output, [*learnable, average], signal)
    assert torch.equal(layer.backward(signal), below)
    assert all(torch.equal(value.grad, gradient) for value, gradient in zip(learnable, wanted, strict=True))


FORMULAS = [
    (neurons.LIF, {}, "output"),
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
    for neuron in (trained, steeper, logistic):
        neuron.raw_decay.requires_grad_(neuron is trained)
        assert neuron.steady_vjp(normal(3, 4), torch.ones(3, 1), normal(3, 4), "output") is None


@each([row for row in LAYERS if row.name in ("LIF-free-trace-per-input", "LIF-groups-bank", "own", "network")])
def test_parameters_stay_finite_and_constrained_under_wild_steps(row):
    """Sigmoid rounds to 1 in float32 from a raw value of 17 on."""

    def learn(seed: int) -> Tensor:
        net.reset()
        assert net.run(spikes(seed=seed)).isfinite().all()
        return net.backward(100 * normal(BATCH, OUT, seed=seed))

    net = build(row, dtype=torch.float32)
    optimizer = torch.optim.Adam(net.parameters(), lr=1.0)
    for update in range(15):
        learn(update)
        optimizer.step()
        optimizer.zero_grad()
    assert all(value.isfinite().all() for value in net.parameters()) and net.run(spikes()).isfinite().all()
    for layer in layers_of(net):
        for decay in (layer.neuron.decay, layer.trace_decay):
            assert ((decay > 0) & (decay < 1)).all()
        assert not hasattr(layer.neuron, "threshold") or (layer.neuron.threshold > 0).all()
    for raw in (-20.0, 20.0):
        for name, value in net.named_parameters():
            if name.endswith("decay"):
                value.data.fill_(raw)
        assert learn(0).isfinite().all() and all(gradient.isfinite().all() for gradient in gradients(net).values())


def test_the_values_given_are_the_values_read():
    decay, threshold = torch.tensor([0.3, 0.5, 0.9, 0.99]), torch.tensor([0.5, 1, 2, 30.0])
    layer = LIF(IN, OUT, decay=decay, threshold=threshold, trace_decay=torch.full((IN,), 0.7))
    groups = LIF(IN, OUT, decay=[0.6, 0.9], bias=True)
    read = layer.neuron.decay, layer.neuron.threshold, layer.trace_decay, groups.neuron.decay, groups.trace_decay
    given = decay, threshold, torch.full((IN,), 0.7), torch.tensor([0.6, 0.6, 0.9, 0.9]), torch.tensor([0.6, 0.9])
    for actual, value in zip(read, given, strict=True):
        torch.testing.assert_close(actual.detach().flatten(), value)
    assert groups.trace_decay.shape == (2, 1, 1) and groups.input_trace.tied and not layer.input_trace.tied
    assert 0.9 * IN**-0.5 < groups.weight.abs().max() <= IN**-0.5 and groups.bias.tolist() == [0] * OUT


# ── as a part of a torch model ──────────────────────────────────────────────────────────────────────────────────────


def twins(make) -> tuple[Net, Net]:
    net = make().double()
    return net, copy.deepcopy(net)


def test_a_weight_that_two_layers_share_gets_its_gradient_once():
    net, explicit = twins(lambda: Sequential(LIF(IN, IN), LI(IN, IN)))
    for one in (net, explicit):
        one[1].connection.weight = one[0].connection.weight
    net.run(spikes(), reduce="mean").backward(normal(BATCH, IN))
    explicit.run(spikes())
    explicit.backward(normal(BATCH, IN))
    same(net, explicit, **EXACTLY)


def test_a_loss_of_torch_and_the_signal_of_ours_teach_the_same():
    net, explicit = twins(lambda: Sequential(LIF(IN, 8), LIS(8, OUT)))
    target = torch.arange(BATCH) % OUT
    value, signal = loss.cross_entropy(explicit.run(spikes(), reduce="mean"), target)
    assert value.requires_grad and not signal.requires_grad
    explicit.backward(signal)
    loss.cross_entropy(net.run(spikes(), reduce="mean"), target)[0].backward()
    same(net, explicit)


def test_an_input_over_time_shares_its_gradient_by_its_weight_in_the_trace():
    layer, xs = LI(IN, OUT, decay=0.8).double(), normal(6, BATCH, IN).requires_grad_()
    layer.run(xs, reduce="mean").backward(normal(BATCH, OUT))
    torch.testing.assert_close(xs.grad.sum(dim=0), layer.backward(normal(BATCH, OUT)))
    torch.testing.assert_close(xs.grad[:-1], 0.8 * xs.grad[1:])


def test_rates_get_the_gradient_of_the_average_input():
    layer, rates = LI(IN, OUT).double(), torch.full((BATCH, IN), 0.3).double().requires_grad_()
    layer.run(encode.poisson(rates, 20)[5:], reduce="mean").backward(normal(BATCH, OUT))
    assert torch.equal(rates.grad, layer.backward(normal(BATCH, OUT)))
    changing = rates.detach().expand(20, -1, -1).requires_grad_()
    layer.reset()
    layer.run(encode.poisson(changing, 20)[5:], reduce="mean").backward(normal(BATCH, OUT))
    assert not changing.grad[:5].any() and changing.grad[5:].all()
    with pytest.raises(ValueError, match="latency gives its values no gradient"):
        encode.latency(rates, 5)


def test_a_layer_in_front_of_an_ordinary_module_learns_patterns():
    torch.manual_seed(0)
    xs, target = (torch.rand(16, 20) < 0.3).float(), torch.arange(16) % 2
    model = nn.Sequential(LIF(20, 32), nn.Linear(32, 2))
    before, optimizer = copy.deepcopy(model), torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(60):
        model[0].reset()
        with torch.no_grad():
            for _ in range(9):
                model(xs)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(xs), target).backward()
        optimizer.step()
    assert not any(map(torch.equal, model.parameters(), before.parameters()))
    model[0].reset()
    with torch.no_grad():
        output = torch.stack([model(xs) for _ in range(20)]).mean(dim=0)
    assert torch.equal(output.argmax(dim=-1), target)


CHANGES = {
    "step": lambda net, x: net(x),
    "run": lambda net, x: net.run(x[None]),
    "reset": lambda net, _: net.reset(),
    "reset-and-step": lambda net, x: (net.reset(), net(x)),
    "load-state": lambda net, _: net.load_state(net.save_state()),
    "reset-of-a-sample": lambda net, _: net.reset(torch.tensor([True, *[False] * (BATCH - 1)])),
}


@pytest.mark.parametrize("change", CHANGES)
def test_an_output_of_an_earlier_state_refuses(change):
    net = Sequential(LIF(IN, 8), LIS(8, OUT)).double()
    output = net(spikes()[0])
    CHANGES[change](net, spikes()[1])
    with pytest.raises(RuntimeError, match="has changed since this output was computed"):
        output.sum().backward()
    assert gradients(net) == {}


def test_autocast_changes_no_gradient_s_dtype():
    layer = LIF(IN, OUT, trainable="weight")
    layer.run(spikes().float())
    with torch.autocast("cpu", torch.bfloat16):
        below = layer.backward(normal(BATCH, OUT).float())
    assert below.dtype == layer.weight.grad.dtype == torch.float32


RULES = [Trace, BPTT, partial(TruncatedBPTT, k=5), EProp, OTTT, partial(ThreeFactor, layers="all")]


@pytest.mark.parametrize("rule", RULES)
def test_gradients_lie_as_their_parameters_do_which_fused_optimizers_take_for_granted(rule):
    """Layers with groups of decays, with a bank, and with neither."""
    layers = LIF(IN, 8, decay=[0.8, 0.9]), LIF(8, 8, trace_bank=[0.99]), LIF(8, 8, bias=True), LIS(8, OUT)
    nets = Sequential(*layers), copy.deepcopy(Sequential(*layers))
    for net, fused in zip(nets, (False, True), strict=True):
        optimizer, learner = torch.optim.Adam(net.parameters(), lr=0.01, fused=fused), rule(net)
        for seed in range(3):
            learner.reset()
            output = learner.forward(spikes(seed=seed).float(), reduce="mean")
            if isinstance(learner, ThreeFactor):
                learner.observe(normal(*output.shape, seed=seed).float())
                learner.backward(normal(BATCH, seed=seed).float())
            else:
                learner.backward(loss.mse(output, torch.zeros(BATCH, dtype=torch.int64))[1])
            optimizer.step()
            optimizer.zero_grad()
    for plain, fused in zip(*(net.parameters() for net in nets), strict=True):
        torch.testing.assert_close(fused, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("rule", "net"), [*((rule, nn.Linear(3, 4)) for rule in RULES), (Trace, LIF), (Trace, None)])
def test_a_rule_takes_networks_alone(rule, net):
    with pytest.raises(TypeError, match=r"takes a network of tt\.nn, got"):
        rule(net)
