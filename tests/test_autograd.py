"""`loss.backward()` on the output of a layer or a network is its local gradient, and holds no history."""

import copy
import gc

import pytest
import torch
from torch import nn

from tests.common import BATCH, IN, LAYERS, OUT, build, each, layers_of, normal, spikes
from tracetorch import encode, loss
from tracetorch.nn import LI, LIF, LIS, Sequential
from tracetorch.rules import BPTT, OTTT, EProp, ThreeFactor, Trace, TruncatedBPTT


def gradients(module: nn.Module) -> list[torch.Tensor | None]:
    return [parameter.grad for parameter in module.parameters()]


def same(found: nn.Module, wanted: nn.Module) -> None:
    for mine, theirs in zip(gradients(found), gradients(wanted), strict=True):
        assert (mine is None) == (theirs is None) and (mine is None or torch.equal(mine, theirs))


# ── the same gradient ───────────────────────────────────────────────────────────────────────────────────────────────


@each(LAYERS)
@pytest.mark.parametrize("how", ["step", "mean", "window", "every step"])
def test_the_backward_pass_of_an_output_is_that_of_the_network_to_the_bit(row, how):
    net, explicit, xs, signal = build(row), build(row), spikes(), normal(BATCH, OUT, seed=3)
    explicit.run(xs)
    explicit.backward(signal)
    if how == "step":
        for x in xs:
            output = net(x)
    else:
        output = net.run(xs, reduce=None if how == "every step" else "mean", window=5 if how == "window" else None)
    if output.requires_grad:  # all parameters may be fixed
        output.backward(signal / len(xs) * torch.ones_like(output) if how == "every step" else signal)
    if how == "every step":  # the sum of its signals, which rounds
        for mine, theirs in zip(gradients(net), gradients(explicit), strict=True):
            torch.testing.assert_close(mine, theirs)
    elif how == "step":  # the states of single steps and of a chunk may differ in the last place
        for mine, theirs in zip(gradients(net), gradients(explicit), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)
    else:
        same(net, explicit)


def test_a_weight_that_two_layers_share_gets_its_gradient_once():
    net, explicit = (Sequential(LIF(IN, IN), LI(IN, IN)).double() for _ in range(2))
    explicit.load_state_dict(net.state_dict())
    for one in (net, explicit):
        one[1].connection.weight = one[0].connection.weight
    signal = normal(BATCH, IN)
    net.run(spikes(), reduce="mean").backward(signal)
    explicit.run(spikes())
    explicit.backward(signal)
    same(net, explicit)


def test_a_loss_of_torch_and_the_signal_of_ours_teach_the_same():
    net, explicit = (Sequential(LIF(IN, 8), LIS(8, OUT)).double() for _ in range(2))
    explicit.load_state_dict(net.state_dict())
    target = torch.arange(BATCH) % OUT
    value, signal = loss.cross_entropy(explicit.run(spikes(), reduce="mean"), target)
    assert value.requires_grad and not signal.requires_grad
    explicit.backward(signal)
    loss.cross_entropy(net.run(spikes(), reduce="mean"), target)[0].backward()
    for mine, theirs in zip(gradients(net), gradients(explicit), strict=True):
        torch.testing.assert_close(mine, theirs)


@each(LAYERS)
def test_an_input_gets_the_gradient_of_the_average_input(row):
    net, x, signal = build(row), normal(BATCH, IN).abs().requires_grad_(), normal(BATCH, OUT, seed=3)
    net(x).backward(signal)
    explicit = build(row)
    explicit(x.detach())
    below = explicit.backward(signal)
    assert torch.equal(x.grad, below if below.ndim == 2 else below.sum(dim=0))  # over the stretches of a bank


def test_an_input_over_time_shares_that_gradient_by_its_weight_in_the_trace():
    layer, xs = LI(IN, OUT, decay=0.8).double(), normal(6, BATCH, IN).requires_grad_()
    layer.run(xs, reduce="mean").backward(normal(BATCH, OUT))
    below = layer.backward(normal(BATCH, OUT))
    torch.testing.assert_close(xs.grad.sum(dim=0), below)
    torch.testing.assert_close(xs.grad[:-1], 0.8 * xs.grad[1:])


def test_rates_get_the_gradient_of_the_average_input():
    layer, rates = LI(IN, OUT).double(), torch.full((BATCH, IN), 0.3).double().requires_grad_()
    layer.run(encode.poisson(rates, 20)[5:], reduce="mean").backward(normal(BATCH, OUT))
    assert torch.equal(rates.grad, layer.backward(normal(BATCH, OUT)))
    changing = rates.detach().expand(20, -1, -1).requires_grad_()
    layer.reset()
    layer.run(encode.poisson(changing, 20)[5:], reduce="mean").backward(normal(BATCH, OUT))
    assert not changing.grad[:5].any() and changing.grad[5:].all()


# ── within other modules ────────────────────────────────────────────────────────────────────────────────────────────


def patterns() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    return (torch.rand(16, 20, generator=generator) < 0.3).float(), torch.arange(16) % 2


def accuracy(output: torch.Tensor, target: torch.Tensor) -> float:
    return float((output.argmax(dim=-1) == target).float().mean())


def test_a_layer_in_front_of_an_ordinary_module_learns_patterns():
    torch.manual_seed(0)
    xs, target = patterns()
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
    for mine, theirs in zip(model.parameters(), before.parameters(), strict=True):
        assert not torch.equal(mine, theirs)
    model[0].reset()
    with torch.no_grad():
        output = torch.stack([model(xs) for _ in range(20)]).mean(dim=0)
    assert accuracy(output, target) == 1.0


def reconstruction(*, learns: bool) -> float:
    """An encoder gives rates; a spiking network reconstructs what it encoded. Returns: the last updates' mean loss."""
    torch.manual_seed(0)
    values = torch.rand(32, 8)
    encoder, net = nn.Sequential(nn.Linear(8, 3), nn.Sigmoid()), Sequential(LIF(3, 64), LI(64, 8, decay=0.8))
    learnable = [*net.parameters(), *(encoder.parameters() if learns else [])]
    optimizer = torch.optim.Adam(learnable, lr=0.01)
    errors = []
    for update in range(150):
        net.reset()
        output = net.run(encode.poisson(encoder(values), steps=20, seed=update), reduce="mean", window=10)
        error = nn.functional.mse_loss(output, values)
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(float(error.detach()))
    return sum(errors[-20:]) / 20


def test_an_encoder_in_front_of_a_network_learns():
    assert reconstruction(learns=True) < 0.85 * reconstruction(learns=False)


# ── nothing is kept, and nothing old is used ────────────────────────────────────────────────────────────────────────


def live_tensors() -> int:
    gc.collect()
    return sum(issubclass(type(value), torch.Tensor) for value in gc.get_objects())


def test_outputs_hold_no_history():
    net = Sequential(LIF(IN, 8), LIS(8, OUT))
    output, counts = net(spikes()[0].float()), []
    for _ in range(2):
        for x in spikes().float():
            output = net(x)
        counts.append(live_tensors())
    assert output.requires_grad and counts[0] == counts[1]


def test_without_gradients_there_is_no_node():
    net = Sequential(LIF(IN, 8), LIS(8, OUT)).double()
    with torch.no_grad():
        assert not net(spikes()[0]).requires_grad and not net.run(spikes()).requires_grad
    assert not Sequential(LIF(IN, OUT, trainable=())).double()(spikes()[0]).requires_grad


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
    ids=["step", "run", "reset", "reset and step", "load_state", "reset of a sample"],
)
@pytest.mark.parametrize("kind", ["layer", "network"])
def test_an_output_of_an_earlier_state_refuses(kind, change):
    net = (LIF(IN, OUT) if kind == "layer" else Sequential(LIF(IN, 8), LIS(8, OUT))).double()
    output = net(spikes()[0])
    change(net, spikes()[1])
    with pytest.raises(RuntimeError, match="has changed since this output was computed"):
        output.sum().backward()
    assert all(gradient is None for gradient in gradients(net))


# ── what would not learn refuses ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("strange", [nn.Linear(IN, 8), LIF, lambda x: x])
def test_a_network_takes_layers_alone(strange):
    with pytest.raises(
        TypeError, match=r"made of layers of tt\.nn, got (torch\.nn\.Linear|torch\.Linear|the class LIF|function)"
    ):
        Sequential(strange, LIF(8, OUT))


@pytest.mark.parametrize("rule", [Trace, BPTT, lambda net: TruncatedBPTT(net, k=3), EProp, OTTT, ThreeFactor])
@pytest.mark.parametrize("net", [nn.Linear(3, 4), nn.Sequential(LIF(3, 4)), LIF, None])
def test_a_rule_takes_networks_alone(rule, net):
    with pytest.raises(TypeError, match=r"takes a network of tt\.nn, got"):
        rule(net)


def test_the_time_of_a_spike_has_no_gradient():
    with pytest.raises(ValueError, match="latency gives its values no gradient"):
        encode.latency(torch.rand(BATCH, IN).requires_grad_(), 5)


def test_a_part_of_a_network_is_a_network_of_the_same_layers():
    net = Sequential(LIF(IN, 8), LIF(8, 8), LIS(8, OUT))
    part = net[:2]
    assert isinstance(part, Sequential) and part.chain == net.chain[:2] and part.out_features == 8
    assert list(layers_of(net[-1])) == [net[2]]
