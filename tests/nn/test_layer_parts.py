"""A layer is whatever linear module makes its current, joined with neurons, also one's own, from Python and YAML."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from tests.common import IN, OUT, normal
from tests.own_neuron import CurrentLIF
from tracetorch import constrain
from tracetorch.nn import LI, LIF, LIS, Layer, Sequential, neurons
from tracetorch.rules import BPTT, OTTT, EProp, ThreeFactor

BATCH, STEPS, IMAGE = 3, 20, (1, 6, 6)


def images(steps=STEPS):
    return (torch.rand(steps, BATCH, *IMAGE, generator=torch.Generator().manual_seed(0)) < 0.4).double()


def convolutional(**options):
    torch.manual_seed(0)
    layer = LIF(nn.Conv2d(1, 2, 3, stride=2), **options).double()
    layer.weight.data.mul_(2).add_(0.1)
    return layer


def test_a_convolution_runs_and_learns_as_the_matrix_that_it_is():
    layer, xs, signal = convolutional(), images(), normal(BATCH, 2, 2, 2)
    every, zero = torch.eye(36).double().view(36, *IMAGE), torch.zeros(36, *IMAGE).double()
    dense = LIF(nn.Linear(36, 8)).double()  # (8, 36)
    with torch.no_grad():
        dense.connection.bias.copy_(layer.connection(zero)[0].flatten())
        dense.connection.weight.copy_((layer.connection(every) - layer.connection(zero)).flatten(1).T)
    spikes = layer.run(xs, chunk=7)
    assert spikes.shape == (STEPS, BATCH, 2, 2, 2) and 0 < spikes.mean() < 1
    torch.testing.assert_close(spikes.flatten(2), dense.run(xs.flatten(2)))
    torch.testing.assert_close(layer.run(xs, reduce="mean").flatten(1), dense.run(xs.flatten(2), reduce="mean"))
    torch.testing.assert_close(layer.backward(signal).flatten(1), dense.backward(signal.flatten(1)))
    torch.testing.assert_close(layer.neuron.raw_decay.grad, dense.neuron.raw_decay.grad)
    torch.testing.assert_close(layer.neuron.raw_threshold.grad, dense.neuron.raw_threshold.grad)
    grad = dense.weight.grad.view(2, 2, 2, 36)  # each kernel weight stands in one row for each place of the output
    matrix = (layer.connection(every) - layer.connection(zero)).permute(1, 2, 3, 0)
    (kernel,) = torch.autograd.grad((matrix * grad).sum(), layer.weight)
    torch.testing.assert_close(layer.weight.grad, kernel)
    other, kept = convolutional(), layer.save_state()
    other.load_state(kept)
    assert torch.equal(other.run(xs), layer.run(xs))


def test_a_layer_may_have_no_weights_and_constants_that_differ_by_channel():
    layer, xs = convolutional(threshold=torch.tensor([0.2, 50.0]).view(2, 1, 1)), images()
    ran = layer.run(xs)
    assert ran[:, :, 0].any() and not ran[:, :, 1].any()
    layer.reset()
    assert torch.equal(torch.stack([layer(x).detach() for x in xs]), ran)
    wave = LIF(nn.Conv1d(6, 2, 3), threshold=torch.tensor([[0.2], [50.0]])).double()
    wave.weight.data.abs_()
    ran = wave.run(xs[:, :, 0])
    assert ran[:, :, 0].any() and not ran[:, :, 1].any()
    net = Sequential(convolutional(), LI(nn.AvgPool2d(2)).double(), LIS(2, 3).double())  # which takes one dimension
    outputs = net.run(xs, reduce="mean")
    outputs.log()[:, 0].sum().backward()
    net.reset()
    torch.testing.assert_close(torch.stack([net(x).detach() for x in xs]).mean(dim=0), outputs.detach())
    assert net[0].weight.grad.any() and [*net[1].connection.parameters()] == []


def test_a_convolution_takes_images_of_another_size_after_a_reset():
    layer, large = convolutional(), torch.ones(2, BATCH, 1, 8, 8).double()
    layer.run(images())
    with pytest.raises(ValueError, match=r"state for input of shape \(1, 6, 6\), got \(1, 8, 8\): call net\.reset\(\)"):
        layer.run(large)
    layer.reset()
    assert torch.equal(layer.run(large), convolutional().run(large))


def test_rules_train_any_connection_or_refuse_it():
    learner = BPTT(Sequential(convolutional(), LIS(8, 3).double()))
    learner.forward(images(), reduce="mean")
    learner.backward(normal(BATCH, 3))
    assert learner.net[0].weight.grad.any()
    others = Masked(6, 8), parametrizations.weight_norm(nn.Linear(6, 8))
    for rule in (EProp, OTTT, ThreeFactor):
        for net in (learner.net, *(Sequential(LIF(other), LIS(8, 3)) for other in others)):
            with pytest.raises(ValueError, match=r"would train LIF\(.* wrongly: it needs a torch.nn.Linear"):
                rule(net)


class Squared(nn.Linear):
    def forward(self, x):
        return super().forward(x).square()


LAYERS_ALONE, BANK = r"made of layers of tt\.nn, got", "trace_bank lists different decays between 0 and 1"
SEVERAL = r"a trace tied to several decays needs a torch\.nn\.Linear"
REFUSED = [
    (lambda: run(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())), ValueError, "is not linear in its input"),
    (lambda: run(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Dropout())), ValueError, "is random"),
    (lambda: run(nn.MaxPool2d(2)), ValueError, "is not linear in its input"),
    (lambda: Sequential(convolutional(), LIS(9, 3)).run(images()), ValueError, r"takes 9 inputs, got the shape \(8,\)"),
    (lambda: LIF(nn.Conv2d(1, 2, 3)).own_state(2), RuntimeError, "has seen no input yet: the shape of its state"),
    (lambda: run(nn.Conv2d(3, 2, 3)), ValueError, r"cannot take input of shape \(batch, 1, 6, 6\)"),
    (lambda: LIF(Squared(4, 3))(torch.rand(2, 4)), ValueError, "is not linear in its input"),
    (lambda: LIF(nn.Conv2d), TypeError, "make an instance of it: Conv2d"),
    (lambda: LIF([784]), TypeError, "a layer takes its numbers of inputs and neurons, or a connection"),
    (lambda: LIF(nn.Linear(3, 4), 4), TypeError, "leave out_features out"),
    (lambda: Layer(3, 4, neuron=nn.ReLU()), TypeError, "neuron makes the neurons"),
    (lambda: Layer(3, 4, neuron=CurrentLIF(4), decay=0.9), TypeError, "give constants to the neurons themselves"),
    (lambda: Layer(3, 4, neuron=CurrentLIF, decy=0.9), TypeError, "CurrentLIF takes no 'decy'; it takes features"),
    (lambda: LIF(nn.Conv2d(1, 2, 3), trace_bank=[0.9]), ValueError, r"a bank of traces needs a torch\.nn\.Linear"),
    (lambda: Layer(nn.Sequential(nn.Linear(3, 4)), neuron=neurons.LIF(4, decay=[0.5, 0.9])), ValueError, SEVERAL),
    *((lambda bad=bad: LIF(3, 4, trace_bank=bad), ValueError, BANK) for bad in ([0.5, 1.0], [0.0], [0.5, 0.5], [2.0])),
    (lambda: Sequential(nn.Linear(3, 4)), TypeError, rf"{LAYERS_ALONE} torch.*torch\.nn\.Sequential joins"),
    (lambda: Sequential(LIF, LIF(8, 3)), TypeError, rf"{LAYERS_ALONE} the class LIF; make a layer of it: LIF"),
    (lambda: Sequential(lambda x: x), TypeError, rf"{LAYERS_ALONE} function; a layer is made by tracetorch.nn"),
    (lambda: Sequential([LIF(3, 4)]), TypeError, rf"{LAYERS_ALONE} list; unpack it"),
]  # fmt: skip


def run(connection):
    LIF(connection).run(images().float())


@pytest.mark.parametrize(("make", "error", "message"), REFUSED)
def test_a_module_that_cannot_be_a_connection_or_a_neuron_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_given_linear_is_equal_to_one_made_from_sizes_and_its_hooks_are_called():
    short, given, xs = LIF(5, 4), LIF(nn.Linear(5, 4, bias=False)), torch.ones(9, 2, 5)
    given.load_state_dict(short.state_dict())
    assert str(given) == "LIF(5, 4)" and torch.equal(given.run(xs), short.run(xs))
    given.connection.register_forward_hook(lambda module, given, output: output + 100)
    assert bool((given.run(0 * xs) == 1).all())


class Masked(nn.Linear):
    """A product of its own: every second input of the first neuron has no synapse."""

    def forward(self, x):
        mask = torch.ones_like(self.weight)
        mask[0, ::2] = 0
        return nn.functional.linear(x, self.weight * mask, self.bias)


@pytest.mark.parametrize("decay", [0.9, [0.7, 0.9]], ids=["one", "groups"])
def test_the_forward_of_a_subclass_of_linear_is_called(decay):
    own, plain = (LIF(kind(6, 4), decay=decay).double() for kind in (Masked, nn.Linear))
    plain.load_state_dict(own.state_dict())
    plain.weight.data[0, ::2] = 0
    xs, found = images(5).flatten(2)[..., :6], []
    for layer in (own, plain):
        outputs, last = layer.run(xs), layer(xs[0])
        below = layer.backward(normal(BATCH, 4))
        found.append((outputs, last, below, layer.neuron.raw_decay.grad, layer.bias.grad, layer.weight.grad))
    assert not own.weight.grad[0, ::2].any()
    plain.weight.grad[0, ::2] = 0
    torch.testing.assert_close(*found)


def test_pruned_weights_stay_zero_the_others_learn_and_weight_norm_learns_direction_and_length():
    found, xs = [], images().flatten(2)
    for make in (partial(prune.random_unstructured, name="weight", amount=0.5), parametrizations.weight_norm):
        layer, _ = net = Sequential(LIF(36, 8, trainable="weight"), LIS(8, 3)).double()
        make(layer.connection)
        net.run(xs)
        before = layer.weight.clone()
        net.backward(normal(BATCH, 3))
        found.append([bool(value.grad.any()) for value in layer.parameters() if value.requires_grad])
        torch.optim.SGD(net.parameters(), lr=1.0).step()
        net.run(xs)  # `prune` computes the weight before a forward pass
        gone = getattr(layer.connection, "weight_mask", torch.ones(8, 36)) == 0
        assert not layer.weight[gone].any() and not torch.equal(layer.weight, before)
    assert found == [[True], [True, True]]


@pytest.mark.parametrize(("name", "trained"), [("weight", [False, True, True]), ("bias", [True, False, False])])
def test_the_name_of_a_computed_weight_trains_what_computes_it(name, trained):
    for wrap in (lambda module: module, nn.Sequential):
        connection = wrap(parametrizations.weight_norm(nn.Linear(36, 8)))
        layer = LIF(connection, trainable=[name])
        assert [value.requires_grad for value in layer.connection.parameters()] == trained
        layer.run(images().float().flatten(2))
        layer.backward(torch.ones(BATCH, 8))
        assert [value.grad is not None for value in layer.connection.parameters()] == trained


def test_constants_have_the_values_that_were_given_or_set():
    torch.manual_seed(0)
    decay, threshold = torch.tensor([0.3, 0.5, 0.9, 0.99]), torch.tensor([0.5, 1, 2, 30.0])
    layer = LIF(IN, OUT, decay=decay, threshold=threshold, trace_decay=torch.full((IN,), 0.7))
    groups = LIF(IN, OUT, decay=[0.6, 0.9], bias=True)
    read = layer.neuron.decay, layer.neuron.threshold, layer.trace_decay, groups.neuron.decay, groups.trace_decay
    given = decay, threshold, torch.full((IN,), 0.7), torch.tensor([0.6, 0.6, 0.9, 0.9]), torch.tensor([0.6, 0.9])
    torch.testing.assert_close([value.detach().flatten() for value in read], list(given))
    assert groups.trace_decay.shape == (2, 1, 1) and groups.input_trace.tied and not layer.input_trace.tied
    assert 0.9 * IN**-0.5 < groups.weight.abs().max() <= IN**-0.5 and groups.bias.tolist() == [0] * OUT
    assert LIF(IN, 16, decay=torch.linspace(0.1, 0.9, 16)).input_trace.groups == 16  # the most
    groups.neuron.decay, layer.neuron.threshold = 0.7, [0.5, 1.0, 2.0, 4.0]
    torch.testing.assert_close(groups.neuron.decay.tolist(), [0.7] * OUT)
    torch.testing.assert_close(layer.neuron.threshold.tolist(), [0.5, 1.0, 2.0, 4.0])
    with pytest.raises(ValueError, match="a decay must be between 0 and 1"):
        layer.neuron.decay = 1.0
    with pytest.raises(ValueError, match=r"decay was stored in the shape \(2,\), got \(3,\): make new neurons"):
        groups.neuron.decay = [0.8, 0.9, 0.95]


class Halved(neurons.LIF):
    """Gives half of LIF's output."""

    def step(self, current, state):
        output, state = super().step(current, state)
        return output / 2, state

    def steady_state(self, current, steps):
        return super().steady_state(current, steps) / 2


def test_a_subclass_with_its_own_step_and_steady_state_uses_them_instead_of_the_kernel():
    own, plain, xs = Layer(3, 4, neuron=Halved, trainable="weight"), LIF(3, 4, trainable="weight"), torch.rand(9, 2, 3)
    own.load_state_dict(plain.state_dict())
    torch.testing.assert_close(own.run(4 * xs), plain.run(4 * xs) / 2)
    torch.testing.assert_close(own(xs[0]), plain(xs[0]) / 2)
    torch.testing.assert_close(own.backward(torch.ones(2, 4)), plain.backward(torch.ones(2, 4)) / 2)
    assert not Halved.decays_alone and type("Same", (neurons.LIF,), {}).kernel == "lif"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_changed_parameter_changes_the_constants(dtype):
    layer = LIF(IN, OUT, trainable="weight", decay=0.8, threshold=0.5).to(dtype)
    neuron = layer.neuron
    for change in (
        lambda: neuron.decay.mul_(0.5),  # what was read may be written to
        lambda: neuron.raw_decay.data.fill_(1.0),
        lambda: neuron.raw_decay.detach().numpy().fill(2.0) if dtype != torch.bfloat16 else None,
        lambda: layer.load_state_dict(LIF(IN, OUT, decay=0.7, threshold=2.0).state_dict()),
        lambda: setattr(neuron.raw_decay, "data", torch.zeros(OUT)),
        lambda: setattr(neuron.raw_decay, "data", torch.zeros(OUT // 2, dtype=torch.float64)),  # the same bytes
    ):
        change()
        read = constrain.decay_from_raw(neuron.raw_decay).repeat_interleave(2 if neuron.raw_decay.numel() == 2 else 1)
        wanted = read.squeeze(), constrain.positive_from_raw(neuron.raw_threshold)
        assert all(map(torch.equal, neuron.constants, wanted)) and neuron.constants[0].dtype == neuron.raw_decay.dtype
        assert all(map(torch.equal, (neuron.decay, neuron.threshold), wanted))


class StartsAtOne(CurrentLIF):
    def init_state(self, current):
        return self.state_type(*(torch.ones_like(current) for _ in self.state_type._fields))


def test_a_reset_returns_to_the_initial_state_of_the_neurons():
    layer, x = Layer(IN, OUT, neuron=StartsAtOne), torch.zeros(BATCH, IN)
    layer(x)
    first = layer.save_state()
    layer(x)
    layer.reset(torch.tensor([True, False, True]))
    layer(x)
    assert layer.save_state()["membrane"][[0, 2]].equal(first["membrane"][[0, 2]])
    layer.reset()
    layer(x)
    assert all(value.equal(first[name]) for name, value in layer.save_state().items())
    assert first["membrane"].all()
