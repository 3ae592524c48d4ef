"""Connections of any kind: a layer is whatever linear module makes its current, joined with its neurons."""

import pytest
import torch
from torch import nn

import tracetorch as tt
from tests.common import normal
from tracetorch.nn import LI, LIF, LIS, Layer, Sequential
from tracetorch.rules import BPTT, OTTT, EProp, ThreeFactor, Trace

BATCH, STEPS = 3, 20
IMAGE = (1, 6, 6)


def images(steps=STEPS, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(steps, BATCH, *IMAGE, generator=generator) < 0.4).double()


def convolutional(**options):
    torch.manual_seed(0)
    layer = LIF(nn.Conv2d(1, 2, 3, stride=2), **options).double()
    layer.weight.data.mul_(2).add_(0.1)
    return layer


def as_matrix(layer):
    """The same layer with the convolution written as one matrix, (8, 36)."""
    connection = layer.connection
    zero = connection(torch.zeros(1, *IMAGE).double())
    columns = connection(torch.eye(36).double().view(36, *IMAGE)) - zero
    dense = LIF(nn.Linear(36, 8)).double()
    with torch.no_grad():
        dense.connection.weight.copy_(columns.flatten(1).T)
        dense.connection.bias.copy_(zero.flatten())
    return dense


def test_a_convolution_runs_and_learns_as_the_matrix_that_it_is():
    layer, xs, signal = convolutional(), images(), normal(BATCH, 2, 2, 2)
    dense = as_matrix(layer)
    spikes = layer.run(xs, chunk=7)
    assert spikes.shape == (STEPS, BATCH, 2, 2, 2) and 0 < spikes.mean() < 1
    torch.testing.assert_close(spikes.flatten(2), dense.run(xs.flatten(2)))
    torch.testing.assert_close(layer.run(xs, reduce="mean").flatten(1), dense.run(xs.flatten(2), reduce="mean"))
    below, wanted = layer.backward(signal), dense.backward(signal.flatten(1))
    torch.testing.assert_close(below.flatten(1), wanted)
    torch.testing.assert_close(layer.neuron.raw_decay.grad, dense.neuron.raw_decay.grad)
    torch.testing.assert_close(layer.neuron.raw_threshold.grad, dense.neuron.raw_threshold.grad)
    grad = dense.weight.grad.view(2, 2, 2, 36)  # each kernel weight stands in one row for each place of the output
    (kernel,) = torch.autograd.grad(
        (layer.connection(torch.eye(36).double().view(36, *IMAGE)).permute(1, 2, 3, 0) * grad).sum()
        - (layer.connection(torch.zeros(36, *IMAGE).double()).permute(1, 2, 3, 0) * grad).sum(),
        layer.weight,
    )
    torch.testing.assert_close(layer.weight.grad, kernel)


def test_steps_are_the_run_and_a_network_flattens_for_a_dense_layer():
    net, xs = Sequential(convolutional(), LIS(8, 3).double()), images()
    outputs = net.run(xs)
    net.reset()
    with torch.no_grad():
        torch.testing.assert_close(torch.stack([net(x) for x in xs]), outputs)
    net.backward(normal(BATCH, 3))
    assert all(parameter.grad.abs().sum() > 0 for parameter in net.parameters())


def test_a_layer_without_weights_passes_the_signal_down():
    net = Sequential(convolutional(), LI(nn.AvgPool2d(2)).double(), LIS(2, 3).double())
    loss = net.run(images(), reduce="mean").log()[:, 0].sum()
    loss.backward()
    assert net[0].weight.grad.abs().sum() > 0 and [*net[1].connection.parameters()] == []


def test_learning_lowers_the_loss_of_a_convolutional_network():
    net, target = Sequential(convolutional(), LIS(8, 3).double()), torch.tensor([0, 1, 2])
    optimizer, losses = torch.optim.Adam(net.parameters(), lr=0.02), []
    for _ in range(60):
        net.reset()
        loss = nn.functional.nll_loss(net.run(images(), reduce="mean").log(), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]


def test_constants_may_differ_by_channel():
    layer = convolutional(threshold=torch.tensor([0.2, 50.0]).view(2, 1, 1))
    rates = layer.run(images()).mean(dim=(0, 1, 3, 4))
    assert rates[0] > 0 and rates[1] == 0
    with torch.no_grad():
        layer.reset()
        assert torch.equal(torch.stack([layer(x) for x in images()]).mean(dim=(0, 1, 3, 4)), rates)


def test_a_state_is_saved_and_taken_up_by_another():
    layer, other, xs = convolutional(), convolutional(), images()
    layer.run(xs[:10])
    other.load_state(layer.save_state())
    assert torch.equal(other.run(xs[10:]), layer.run(xs[10:]))


@pytest.mark.parametrize("rule", [Trace, BPTT])
def test_rules_that_take_any_connection_train_it(rule):
    learner = rule(Sequential(convolutional(), LIS(8, 3).double()))
    learner.forward(images(), reduce="mean")
    learner.backward(normal(BATCH, 3))
    assert learner.net[0].weight.grad.abs().sum() > 0


@pytest.mark.parametrize("rule", [EProp, OTTT, ThreeFactor])
def test_rules_that_write_out_a_product_refuse_other_connections(rule):
    with pytest.raises(ValueError, match=r"would train LIF\(Conv2d.* wrongly: it needs a torch.nn.Linear"):
        rule(Sequential(convolutional(), LIS(8, 3).double()))


@pytest.mark.parametrize(
    ("connection", "message"),
    [
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()), "is not linear in its input"),
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.Dropout()), "is random"),
        (nn.MaxPool2d(2), "is not linear in its input"),
        (nn.Conv2d(3, 2, 3), r"cannot take input of shape \(batch, 1, 6, 6\)"),
    ],
)
def test_what_gives_no_average_current_is_refused_before_the_first_step(connection, message):
    with pytest.raises(ValueError, match=message):
        LIF(connection).run(images().float())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LIF(nn.Conv2d), "make one of it: Conv2d"),
        (lambda: LIF([784]), "a layer takes its numbers of inputs and neurons, or a connection"),
        (lambda: LIF(nn.Linear(3, 4), 4), "leave out_features out"),
        (lambda: Layer(3, 4, neuron=nn.ReLU()), "neuron makes the neurons"),
    ],
)
def test_what_is_no_connection_or_neuron_is_refused(make, message):
    with pytest.raises(TypeError, match=message):
        make()


def test_a_bank_needs_a_matrix():
    with pytest.raises(ValueError, match=r"a bank of traces needs a torch\.nn\.Linear"):
        LIF(nn.Conv2d(1, 2, 3), trace_bank=[0.9])


def test_a_linear_of_torch_is_what_sizes_make():
    torch.manual_seed(0)
    short, given = LIF(5, 4), LIF(nn.Linear(5, 4, bias=False))
    given.load_state_dict(short.state_dict())
    assert str(given) == "LIF(5, 4)" and torch.equal(given.run(torch.ones(9, 2, 5)), short.run(torch.ones(9, 2, 5)))


def test_hooks_of_the_connection_are_called_and_what_they_return_counts():
    layer = LIF(5, 4)
    layer.connection.register_forward_hook(lambda module, given, output: output + 100)
    assert bool((layer.run(torch.zeros(3, 2, 5)) == 1).all())


def test_the_layer_in_front_of_ordinary_modules_learns_through_them():
    net = nn.Sequential(tt.nn.LIF(nn.Conv2d(1, 2, 3)), nn.Flatten(), nn.Linear(32, 2))
    net(torch.ones(2, *IMAGE)).sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


class Masked(nn.Linear):
    """A product of its own: every second input of the first neuron has no synapse."""

    def forward(self, x):
        mask = torch.ones_like(self.weight)
        mask[0, ::2] = 0
        return nn.functional.linear(x, self.weight * mask, self.bias)


@pytest.mark.parametrize("how", ["step", "run"])
@pytest.mark.parametrize("decay", [0.9, [0.7, 0.9]], ids=["one decay", "groups"])
def test_a_linear_with_a_product_of_its_own_is_called(how, decay):
    torch.manual_seed(0)
    own, plain = (LIF(kind(6, 4), decay=decay).double() for kind in (Masked, nn.Linear))
    plain.load_state_dict(own.state_dict())
    plain.weight.data[0, ::2] = 0
    xs, found = images(5).flatten(2)[..., :6], []
    for layer in (own, plain):
        outputs = torch.stack([layer(x) for x in xs]) if how == "step" else layer.run(xs)
        below = layer.backward(normal(BATCH, 4))
        found.append((outputs.detach(), below, layer.neuron.raw_decay.grad, layer.connection.bias.grad))
    torch.testing.assert_close(*found)
    assert not own.weight.grad[0, ::2].any()
    plain.weight.grad[0, ::2] = 0
    torch.testing.assert_close(own.weight.grad, plain.weight.grad)
    with pytest.raises(ValueError, match="would train"):
        EProp(Sequential(own, LIS(4, 2).double()))


def test_a_subclass_of_linear_that_is_not_linear_is_refused_as_any_other_module():
    class Rectified(nn.Linear):
        def forward(self, x):
            return super().forward(x).relu()

    layer = LIF(Rectified(4, 3))
    with pytest.raises(ValueError, match="is not linear in its input"):
        layer(torch.rand(2, 4))
