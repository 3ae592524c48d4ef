"""Parameters are ordinary: what torch does with those of any module works with those of a layer."""

import copy

import pytest
import torch
from torch.func import functional_call, grad, vmap
from torch.nn import Module
from torch.nn.utils import parameters_to_vector, parametrizations, prune, vector_to_parameters

from tests.common import BATCH, IN, OUT, normal, spikes
from tracetorch import functional as F
from tracetorch import loss
from tracetorch.nn import LI, LIF, LIS, Sequential

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


def test_pruned_weights_stay_zero_and_the_others_learn():
    net = network(trainable="weight")
    prune.random_unstructured(net[0].connection, "weight", amount=0.5)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    learn(net)
    before = net[0].weight.clone()
    optimizer.step()
    learn(net)  # `prune` computes the weight before a forward pass
    gone = net[0].connection.weight_mask == 0
    assert gone.any() and not net[0].weight[gone].any() and not torch.equal(net[0].weight, before)


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


def test_weight_norm_learns_direction_and_length():
    net = network(trainable="weight")
    parametrizations.weight_norm(net[0].connection)
    learn(net)
    gradients = [parameter.grad for parameter in net[0].parameters() if parameter.requires_grad]
    assert len(gradients) == 2 and all(gradient.abs().sum() > 0 for gradient in gradients)


def test_functional_call_uses_the_parameters_it_is_given():
    net = network()
    silent = {name: torch.zeros_like(value) for name, value in net.named_parameters() if "weight" in name}
    wanted = net(spikes()[0])
    net.reset()
    assert torch.equal(functional_call(net, silent, spikes()[0]), torch.full((BATCH, OUT), 1 / OUT).double())
    net.reset()
    assert torch.equal(net(spikes()[0]), wanted)


def test_the_rate_is_differentiated_by_torch_func_as_by_autograd():
    decay, threshold = torch.tensor(0.9).double(), torch.tensor(1.0).double()
    current = normal(7).requires_grad_()
    rate = F.lif_rate(current, decay, threshold)
    (first,) = torch.autograd.grad(rate.sum(), current, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), current)
    rate_of = lambda i: F.lif_rate(i, decay, threshold)  # noqa: E731
    assert torch.equal(vmap(grad(rate_of))(current), first)
    torch.testing.assert_close(vmap(grad(grad(rate_of)))(current), second)


def test_a_deep_copy_learns_on_its_own():
    net = network()
    learn(net)
    other = copy.deepcopy(net)
    learn(other)
    for mine, theirs in zip(net.parameters(), other.parameters(), strict=True):
        assert mine.data_ptr() != theirs.data_ptr()
        torch.testing.assert_close(theirs.grad, mine.grad)


def test_a_state_dict_gives_the_same_network():
    net, other = network(), Sequential(LIF(IN, 8), LIS(8, OUT)).double()
    other.load_state_dict(net.state_dict())
    assert torch.equal(net.run(spikes()), other.run(spikes()))


@pytest.mark.parametrize("width", [8, 1024])
def test_weights_written_between_run_and_backward_count(width):
    """Through `data` too, which torch does not count: a learning moment reads the weights as they are."""
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


@pytest.mark.parametrize("place", [Module.add_module, lambda layer, name, part: layer._modules.update({name: part})])
def test_a_part_that_is_replaced_by_any_way_of_torch_is_the_one_at_work(place):
    layer, other = LIF(4, 3), LIF(4, 3)
    layer(torch.ones(2, 4))
    for name in ("connection", "neuron"):
        place(layer, name, getattr(other, name))
    layer.reset()
    xs = torch.rand(9, 2, 4)
    assert torch.equal(layer.run(xs), other.run(xs))
    assert [*layer.parameters()] == [*other.parameters()]


def test_a_constant_of_other_shape_or_dtype_with_the_same_bytes_is_read_anew():
    layer = LI(4, 8)
    layer(torch.ones(2, 4))
    layer.neuron.raw_decay.data = torch.zeros(8)
    assert layer.neuron.constants[0].shape == (8,)
    layer.neuron.raw_decay.data = torch.zeros(4, dtype=torch.float64)
    assert layer.neuron.constants[0].dtype == torch.float64
