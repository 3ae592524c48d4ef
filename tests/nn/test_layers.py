"""Every layer of the table runs: however time and the batch are cut, and whatever becomes of its state."""

import copy
from functools import partial

import pytest
import torch
from torch import Tensor

import tracetorch as tt
from tests.common import BATCH, IN, LAYERS, OUT, STEPS, Net, Row, build, each, layers_of, normal, spikes
from tracetorch.nn import LI, LIF, LIS, Layer, Sequential
from tracetorch.rules import BPTT, OTTT, CoarseBPTT, EProp, Trace, TruncatedBPTT

SOME = torch.tensor([True, False, True])


def close(actual: Tensor | dict, wanted: Tensor | dict) -> None:
    torch.testing.assert_close(actual, wanted, rtol=1e-11, atol=1e-12)


def assert_equal(row: Row, actual: Tensor, wanted: Tensor) -> None:
    """Equal spikes; levels and probabilities up to the rounding of the matrix product."""
    assert row.says != "spikes" or torch.equal(actual, wanted)
    close(actual, wanted)


def tensors(net: Net) -> list[Tensor]:
    return [value for layer in layers_of(net) for value in layer.state.tensors]


@each(LAYERS)
def test_outputs_do_not_depend_on_chunks_and_have_the_dtype_of_the_weights(row):
    net, cut = build(row), build(row)
    stream = tt.encode.poisson(torch.full((BATCH, IN), 0.4).double(), STEPS, seed=4)
    xs = stream.dense()
    out = net.run(xs, chunk=STEPS)
    assert out.shape == (STEPS, BATCH, OUT) and out.dtype == torch.float64
    if row.says == "spikes":
        assert ((out == 0) | (out == 1)).all() and 0.05 < out.mean() < 0.95
    elif row.says == "probabilities":
        close(out.sum(-1), torch.ones(STEPS, BATCH).double())
    else:
        assert out.std() > 0.1
    assert_equal(row, torch.cat([cut.run(part) for part in xs.split([1, 9, 2, 12])]), out)
    for given in (xs, stream, xs.bool(), xs.to(torch.uint8), xs.float()):
        for chunk in (1, 5, STEPS - 1, None):
            close(cut.save_state(), net.save_state())
            cut.reset()
            assert_equal(row, cut.run(given, chunk=chunk), out)
        for window, chunk in ((1, 7), (9, 5), (STEPS, 3), (None, 10)):
            cut.reset()
            close(cut.run(given, reduce="mean", window=window, chunk=chunk), out[-(window or STEPS) :].mean(0))
    for dtype in (torch.float32, torch.bfloat16):  # the second has no kernel
        net = build(row, dtype=dtype)
        with torch.no_grad():
            assert not net(xs[0].requires_grad_()).requires_grad and net.run(xs).dtype == dtype
        assert not any(value.requires_grad for value in tensors(net))


@each(LAYERS)
def test_a_state_is_saved_loaded_and_reset(row):
    net, xs = build(row), spikes()
    learned = {name: value.clone() for name, value in net.state_dict().items()}
    assert net.save_state() == {} and dict(net.named_parameters()).keys() <= learned.keys()
    wanted = net.run(xs)
    net.reset()
    assert net.save_state() == {} and all(layer.state is None for layer in layers_of(net))
    net.run(xs[:10])
    for layer in layers_of(net):
        groups = [layer.input_trace.groups] if layer.input_trace.groups > 1 else []
        assert type(layer.state.neuron) is layer.neuron.state_type and layer.state.steps.tolist() == [[10]] * BATCH
        assert layer.state.trace.shape == (*groups, BATCH, layer.in_features or IN)
        assert layer.state.neuron.membrane.shape == (BATCH, layer.out_features or OUT)
    loaded, put, given = build(row, seed=1), build(row), [layer.state for layer in layers_of(net)]
    loaded.load_state_dict(net.state_dict())
    loaded.load_state(saved := net.save_state())
    for value in saved.values():  # saving and loading both copy
        value.zero_()
    for layer, state in zip(layers_of(put), given, strict=True):
        layer.state = state
    for going_on in (loaded, put, net):
        close(going_on.run(xs[10:]), wanted[10:])
        close(going_on.save_state(), loaded.save_state())
        assert all(state.steps.eq(10).all() for state in given)
    assert all(torch.equal(value, learned[name]) for name, value in net.state_dict().items())
    net.load_state({})
    assert net.save_state() == {}
    close(net.run(xs[:, :1]), wanted[:, :1])  # another batch size
    net.float().run(xs[:, :1])  # float64 weights over float32 membranes would be float64 in name only
    assert torch.float64 not in {value.dtype for value in tensors(net)}


USES = {
    "step": lambda net: net(spikes(steps=1)[0]),
    "chunks": lambda net: net.run(spikes(steps=7), chunk=3),
    "learn": lambda net: [net.backward(normal(BATCH, OUT)), *(value.data.mul_(0.9) for value in net.parameters())],
    "mean": lambda net: net.run(spikes(steps=5), reduce="mean", chunk=2),
    "load": lambda net: net.load_state({name: value + 1 for name, value in net.save_state().items()}),
    "reset-some": lambda net: net.reset(SOME),
    "reset": lambda net: (net.reset(), net(spikes(steps=1)[0])),
}


@each(LAYERS)
def test_a_state_that_was_handed_out_never_changes(row):
    """Nor does reading it change what is saved, or what comes out."""
    read, unread, held = build(row), build(row), []
    for use in (*USES, *reversed(USES)):
        results = [USES[use](net) for net in (read, unread)]
        assert use != "step" or torch.equal(*results)
        held += [(use, value, value.clone()) for value in tensors(read)]
        assert not any(value.requires_grad for value in tensors(read))
        assert all(map(torch.equal, tensors(read), unread.save_state().values()))
    for use, value, kept in held:
        assert torch.equal(value, kept), use


@each(LAYERS)
def test_a_masked_reset_changes_the_masked_samples_only(row):
    net, new, old, xs, signal = build(row), build(row), build(row), spikes(), normal(BATCH, OUT)
    net.reset(SOME)
    assert net.save_state() == {}, "before the first step there is nothing to forget"
    for one in (net, old):
        one.run(xs)
    net.reset(SOME)
    for use in (lambda net: net.run(xs[:10]), lambda net: net(xs[0]), lambda net: net.backward(signal)):
        found, fresh, kept = map(use, (net, new, old))
        close(found[..., SOME, :], fresh[..., SOME, :])
        close(found[..., ~SOME, :], kept[..., ~SOME, :])


@pytest.mark.parametrize("make", [Trace, BPTT, CoarseBPTT, OTTT, EProp, partial(TruncatedBPTT, k=5)])
def test_rules_reset_by_mask_and_a_wrong_mask_changes_nothing(make):
    rule = make(Sequential(LIF(IN, 8), LIS(8, 2)).double())
    rule.forward(spikes(), reduce="mean")
    for mask in (torch.ones(1, dtype=torch.bool), torch.tensor([0, 1, 0]), torch.ones(3, 1, dtype=torch.bool)):
        with pytest.raises(ValueError, match=r"holds a state of batch 3: mask is torch.bool of shape \(3,\)"):
            rule.reset(mask)
    rule.backward(normal(BATCH, 2))
    assert rule.net[1].weight.grad.any()
    rule.reset(SOME)
    assert rule.net[0].state.steps[:, 0].tolist() == [0, STEPS, 0]


def test_a_network_is_its_layers_in_order():
    torch.manual_seed(0)
    first, second = net = tt.nn.feedforward(IN, OUT, hidden=[5], neuron=LIF, readout=LI).double()
    assert net[1] is net[-1] is second and len(net) == 2 and (net.in_features, net.out_features) == (IN, OUT)
    assert isinstance(net[:1], Sequential) and net[:1].chain == [first] and net[:1].out_features == 5
    for hidden, layers in (([], ["LI(6, 4)"]), ([5, 3], ["LIF(6, 5)", "LIF(5, 3)", "LI(3, 4)"])):
        assert list(map(str, tt.nn.feedforward(IN, OUT, hidden=hidden, neuron=LIF, readout=LI))) == layers
    kinds = [partial(tt.nn.running_means, decay=[0.5, 0.9]), LIF]
    mixed = tt.nn.feedforward(IN, OUT, hidden=[24, 5], neuron=kinds, readout=LI)
    assert list(map(str, mixed)) == ["LI(6, 24)", "LIF(24, 5)", "LI(5, 4)"]
    means = mixed[0].run(torch.arange(6.0).expand(2000, 1, IN))[-1, 0]  # of constant inputs: the inputs
    torch.testing.assert_close(means, torch.arange(6.0).repeat(4), rtol=1e-4, atol=1e-4)
    for hidden, make, wrong in (([5], kinds, "lists 2 kinds of layers, and hidden 1"), ([7], kinds[:1], "take 12 neu")):
        with pytest.raises(ValueError, match=wrong):
            tt.nn.feedforward(IN, OUT, hidden=hidden, neuron=make, readout=LI)


@pytest.mark.parametrize("where", ["net", "layer"])
def test_weights_that_a_hook_changes_between_two_chunks_are_used(where):
    """Wide enough, and its input sparse enough, for a kernel that keeps transposed weights."""

    def double(module, *_):
        (module[0] if where == "net" else module).weight.data.mul_(2)

    net, xs = Sequential(LIF(300, 256), LI(256, OUT)), tt.encode.poisson(torch.full((2, 300), 0.05), 6)
    net.run(xs, chunk=2)  # makes room for them
    net.reset()
    other = copy.deepcopy(net)
    for one in (net, other):
        (one if where == "net" else one[0]).register_forward_hook(double)
    found = net.run(xs, chunk=2)
    torch.testing.assert_close(found, torch.cat([other.run(part) for part in xs.split(2)]))
    assert found.abs().max() > 0


def test_a_layer_has_few_public_names_of_its_own():
    own = {name for name in dir(Layer) if not name.startswith("_")} - set(dir(torch.nn.Module))
    assert len(own) <= 20, sorted(own)
