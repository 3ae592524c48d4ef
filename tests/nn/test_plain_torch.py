"""A layer is an ordinary module: torch's tools work with its parameters, and it learns within other modules."""

import copy
from functools import partial

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, jvp, vmap
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from tests.common import BATCH, IN, OUT, normal, spikes
from tests.own_neuron import CurrentLIF
from tests.tiny_training import train
from tracetorch import encode, loss
from tracetorch import functional as F
from tracetorch.nn import LI, LIF, LIS, Layer, Sequential, feedforward

TARGET = torch.arange(BATCH) % OUT


def network(**arguments) -> Sequential:
    torch.manual_seed(0)
    return Sequential(LIF(IN, 8, **arguments), LIS(8, OUT)).double()


def learn(net: Sequential) -> float:
    net.reset()
    value, signal = loss.cross_entropy(net.run(spikes(), reduce="mean"), TARGET)
    net.backward(signal)
    return float(value.detach())


def test_parameters_go_into_a_vector_and_back():
    net, other = network(), Sequential(LIF(IN, 8), LIS(8, OUT)).double()
    vector_to_parameters(parameters_to_vector(net.parameters()), other.parameters())
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters(), strict=True))
    learn(net)
    assert parameters_to_vector([parameter.grad for parameter in net.parameters()]).isfinite().all()


def test_lbfgs_lowers_the_loss():
    net = network(trainable="weight")
    optimizer = torch.optim.LBFGS(net.parameters(), lr=0.1, max_iter=5)

    def closure():
        optimizer.zero_grad()
        return learn(net)

    before = closure()
    for _ in range(5):
        optimizer.step(closure)
    assert closure() < before


def test_functional_call_uses_the_parameters_it_is_given():
    net = network()
    silent = {name: torch.zeros_like(value) for name, value in net.named_parameters() if "weight" in name}
    wanted = net(spikes()[0])
    net.reset()
    assert torch.equal(functional_call(net, silent, spikes()[0]), torch.full((BATCH, OUT), 1 / OUT).double())
    net.reset()
    assert torch.equal(net(spikes()[0]), wanted)


@pytest.mark.filterwarnings("ignore:`torch.jit.script`:DeprecationWarning")  # of torch itself
def test_the_rate_is_differentiated_by_torch_func_as_by_autograd():
    decay, threshold = torch.tensor(0.9).double(), torch.tensor(1.0).double()
    current = normal(7).requires_grad_()
    rate = F.lif_rate(current, decay, threshold)
    (first,) = torch.autograd.grad(rate.sum(), current, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), current)
    rate_of = lambda i: F.lif_rate(i, decay, threshold)  # noqa: E731
    assert torch.equal(vmap(grad(rate_of))(current), first)
    torch.testing.assert_close(jvp(rate_of, (current,), (2 * current,))[1], 2 * current * first)
    torch.testing.assert_close(vmap(grad(grad(rate_of)))(current), second)


def test_a_deep_copy_learns_on_its_own_and_a_state_dict_gives_the_same_network():
    net = network()
    learn(net)
    other = copy.deepcopy(net)
    learn(other)
    for mine, theirs in zip(net.parameters(), other.parameters(), strict=True):
        assert mine.data_ptr() != theirs.data_ptr()
        torch.testing.assert_close(theirs.grad, mine.grad)
    loaded = Sequential(LIF(IN, 8), LIS(8, OUT)).double()
    loaded.load_state_dict(net.state_dict())
    net.reset()
    assert torch.equal(loaded.run(spikes()), net.run(spikes()))


@pytest.mark.parametrize("width", [8, 1024])
def test_backward_uses_weights_that_were_written_after_the_run(width):
    """Also those written through `data`, which torch does not count."""
    torch.manual_seed(0)
    net = Sequential(LIF(IN, width), LIS(width, OUT)).double()
    once = copy.deepcopy(net)
    for at, each in enumerate((net, once)):
        each.run(spikes())
        if at == 0:
            each[0].weight.data.mul_(2)
        else:
            with torch.no_grad():
                each[0].weight.mul_(2)
        each.backward(normal(BATCH, OUT))
    for mine, theirs in zip(net.parameters(), once.parameters(), strict=True):
        assert torch.equal(mine.grad, theirs.grad)


def test_half_precision_runs_on_a_cpu_one_step_at_a_time():
    for layer in (LIF(4, 3, decay=[0.5] * 3), LIF(nn.Sequential(nn.Linear(4, 3, bias=False)), decay=0.5)):
        for weight in layer.to(torch.bfloat16).connection.parameters():
            torch.nn.init.constant_(weight, 1.0)
        x = torch.full((1, 4), 0.125, dtype=torch.bfloat16)
        assert [layer(x).tolist() for _ in range(3)] == [[[0.0] * 3]] * 3  # 0.5, 0.75, 0.875
        assert [layer(4 * x).tolist() for _ in range(2)] == [[[1.0] * 3]] * 2


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


@pytest.mark.slow
def test_an_own_neuron_learns_as_well_as_lif(tmp_path):
    found = {}
    for name, neuron in {"own": partial(Layer, neuron=CurrentLIF), "lif": LIF}.items():
        network = partial(feedforward, hidden=[16], neuron=neuron, readout=LI)
        run = train(tmp_path, name=name, network=network, updates=150)
        found[name] = [row["loss"] for row in run.folder.records() if row["split"] == "train"][-1]
    before = next(iter(train(tmp_path, name="one", network=network, updates=1).folder.records()))["loss"]
    assert found["lif"] < 0.5 * before and found["own"] < 1.3 * found["lif"]
