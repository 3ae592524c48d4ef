"""The state of every layer of the table: what it holds, how it is kept and taken up again, and how it is forgotten."""

import pytest
import torch

from tests.common import BATCH, LAYERS, OUT, Net, build, each, layers_of, normal, spikes


@each(LAYERS)
def test_the_state_is_no_part_of_the_state_dict(row):
    net, other, xs = build(row), build(row, seed=1), spikes()
    assert net.state_dict().keys() == dict(net.named_parameters()).keys()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    wanted = net.run(xs)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    other.load_state_dict(net.state_dict())
    assert torch.equal(other.run(xs), wanted)


@each(LAYERS)
def test_a_saved_state_goes_on_identically(row):
    net, other, xs = build(row), build(row), spikes()
    net.run(xs[:10])
    saved = net.save_state()
    kept = {name: value.clone() for name, value in saved.items()}
    wanted = net.run(xs[10:])
    other.load_state(saved)
    assert torch.equal(other.run(xs[10:]), wanted)
    assert all(torch.equal(other.save_state()[name], value) for name, value in net.save_state().items())
    assert all(torch.equal(saved[name], value) for name, value in kept.items())


@each(LAYERS)
def test_saving_and_loading_a_state_both_copy(row):
    net, other, xs = build(row), build(row), spikes()
    wanted = build(row).run(xs)[10:]
    net.run(xs[:10])
    saved = net.save_state()
    other.load_state(saved)
    for value in saved.values():
        value.zero_()
    for going_on in (net, other):
        torch.testing.assert_close(going_on.run(xs[10:]), wanted, rtol=1e-12, atol=1e-12)


@each(LAYERS)
def test_reset_forgets_everything(row):
    net, xs = build(row), spikes()
    assert net.save_state() == {}
    first = net.run(xs)
    assert not torch.equal(net.run(xs), first)
    net.reset()
    assert net.save_state() == {} and all(layer.state is None for layer in layers_of(net))
    assert torch.equal(net.run(xs), first)
    net.reset()
    net.run(xs[:, :1])  # another batch size
    net.load_state({})
    assert net.save_state() == {}


@each(LAYERS)
def test_the_state_counts_steps_and_holds_what_its_size_says(row):
    net = build(row)
    net.run(spikes(steps=5))
    for layer in layers_of(net):
        trace = (
            (layer.input_trace.groups, BATCH, layer.in_features)
            if layer.input_trace.groups > 1
            else (BATCH, layer.in_features)
        )
        assert type(layer.state.neuron) is layer.neuron.state_type
        assert layer.state.steps.tolist() == [[5]] * BATCH
        assert layer.state.trace.shape == trace and layer.state.neuron.membrane.shape == (BATCH, layer.out_features)


# ── a state that was handed out ─────────────────────────────────────────────────────────────────────────────────────


def step(net: Net) -> None:
    net(spikes(steps=1)[0])


def steps(net: Net) -> None:
    for x in spikes(steps=3):
        net(x)


def chunks(net: Net) -> None:
    net.run(spikes(steps=7), chunk=3)


def mean(net: Net) -> None:
    net.run(spikes(steps=5), reduce="mean", chunk=2)


def learning(net: Net) -> None:
    net.backward(normal(BATCH, OUT))
    for parameter in net.parameters():
        parameter.data.mul_(0.5)
    net(spikes(steps=1)[0])


def loading(net: Net) -> None:
    net.load_state({name: value + 1 for name, value in net.save_state().items()})
    net(spikes(steps=1)[0])


@each(LAYERS)
@pytest.mark.parametrize("use", [step, steps, chunks, mean, learning, loading], ids=lambda use: use.__name__)
def test_a_state_that_was_handed_out_never_changes(row, use):
    """Whenever it was read: before one more step, and again between two of them."""
    net, untouched = build(row), build(row)
    for each_net in (net, untouched):
        each_net.run(spikes(steps=4))
    first = [layer.state for layer in layers_of(net)]
    before = [[value.clone() for value in state.tensors] for state in first]
    use(net)
    second = [layer.state for layer in layers_of(net)]
    between = [[value.clone() for value in state.tensors] for state in second]
    use(net)
    for states, kept in ((first, before), (second, between)):
        for state, values in zip(states, kept, strict=True):
            assert all(map(torch.equal, state.tensors, values))
    assert not any(torch.equal(one.steps, two.steps) for one, two in zip(first, second, strict=True))
    use(untouched), use(untouched)
    assert all(map(torch.equal, net.save_state().values(), untouched.save_state().values()))


@each(LAYERS)
def test_reading_a_state_changes_neither_what_is_saved_nor_what_comes_out(row):
    read, unread, xs = build(row), build(row), spikes()
    for x in xs:
        outputs = read(x), unread(x)
        assert torch.equal(*outputs)
        held = [value for layer in layers_of(read) for value in layer.state.tensors]
        assert all(map(torch.equal, held, read.save_state().values()))
    assert all(map(torch.equal, read.save_state().values(), unread.save_state().values()))


@each(LAYERS)
def test_a_state_that_is_set_is_taken_up_and_left_as_it_was(row):
    net, other, xs = build(row), build(row), spikes()
    net.run(xs[:10])
    given = [layer.state for layer in layers_of(net)]
    kept = [[value.clone() for value in state.tensors] for state in given]
    for layer, state in zip(layers_of(other), given, strict=True):
        layer.state = state
    assert torch.equal(other.run(xs[10:]), net.run(xs[10:]))
    for state, values in zip(given, kept, strict=True):
        assert all(map(torch.equal, state.tensors, values))


@each([row for row in LAYERS if row.name in ("LIF-groups", "LI", "network")])
def test_a_live_state_goes_on_in_the_dtype_of_the_weights(row):
    """Float64 weights over float32 membranes would be float64 in name only."""
    net = build(row, dtype=torch.float32)
    net.run(spikes(steps=4).float())
    net.double()
    net.run(spikes(steps=4))
    for layer in layers_of(net):
        assert layer.state.neuron.membrane.dtype == layer.state.trace.dtype == torch.float64
        assert layer.state.steps.tolist() == [[8]] * BATCH
