"""The state of every layer of the table: what it holds, how it is kept and taken up again, and how it is forgotten."""

import torch

from tests.common import BATCH, LAYERS, build, each, layers_of, spikes


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
        trace = (layer.groups, BATCH, layer.in_features) if layer.groups > 1 else (BATCH, layer.in_features)
        assert layer.state._fields == layer.state_type._fields
        assert layer.state.steps.tolist() == [[5]] * BATCH
        assert layer.state.trace.shape == trace and layer.state.membrane.shape == (BATCH, layer.out_features)
