"""Every layer of the table runs: the same however time and the batch are cut, and without a graph."""

from collections.abc import Iterator
from itertools import cycle, pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import tracetorch as tt
from tests.common import BATCH, IN, LAYERS, OUT, STEPS, Net, Row, build, each, layers_of, normal, spikes
from tracetorch import functional as F
from tracetorch.nn import LI, LIF, Layer, Sequential

CHUNKS = st.lists(st.integers(1, 9), min_size=1, max_size=8)


def same(row: Row, actual: Tensor, wanted: Tensor) -> None:
    """Equal spikes; levels and probabilities up to the rounding of the matrix product."""
    if row.says == "spikes":
        assert torch.equal(actual, wanted)
    else:
        torch.testing.assert_close(actual, wanted, rtol=1e-12, atol=1e-12)


def same_state(actual: Net, wanted: Net) -> None:
    assert actual.save_state().keys() == wanted.save_state().keys()
    for name, value in wanted.save_state().items():
        torch.testing.assert_close(actual.save_state()[name], value, rtol=1e-12, atol=1e-12)


def pieces(xs: Tensor, sizes: list[int]) -> Iterator[Tensor]:
    """Consecutive parts of these sizes, over and over."""
    start = 0
    for size in cycle(sizes):
        if start >= len(xs):
            return
        yield xs[start : start + size]
        start += size


def stepwise(net: Net, xs: Tensor) -> Tensor:
    return torch.stack([net(x) for x in xs])


@each(LAYERS)
def test_what_comes_out(row):
    out = build(row).run(spikes())
    assert out.shape == (STEPS, BATCH, OUT) and out.dtype == torch.float64
    if row.says == "spikes":
        assert ((out == 0) | (out == 1)).all() and 0.05 < out.mean() < 0.95
    elif row.says == "probabilities":
        assert (out > 0).all()
        torch.testing.assert_close(out.sum(-1), torch.ones(STEPS, BATCH).double())
    else:
        assert out.std() > 0.1


@each(LAYERS)
def test_a_run_is_the_steps_one_after_another(row):
    ran, stepped, xs = build(row), build(row), spikes()
    same(row, ran.run(xs), stepwise(stepped, xs))
    same_state(ran, stepped)


@each(LAYERS)
@settings(max_examples=6)
@given(chunks=CHUNKS)
def test_time_may_be_cut_anywhere(row, chunks):
    whole, cut, xs = build(row), build(row), spikes()
    wanted = whole.run(xs, chunk=STEPS)
    same(row, torch.cat([cut.run(part) for part in pieces(xs, chunks)]), wanted)
    same_state(cut, whole)
    cut.reset()
    same(row, cut.run(xs, chunk=chunks[0]), wanted)
    same_state(cut, whole)


@each(LAYERS)
def test_a_sample_does_not_see_its_batch(row):
    together, alone, xs = build(row), build(row), spikes()
    wanted = together.run(xs)
    signal = normal(BATCH, OUT)
    below = together.backward(signal)
    for at in range(BATCH):
        alone.reset()
        same(row, alone.run(xs[:, at : at + 1]), wanted[:, at : at + 1])
        told = alone.backward(signal[at : at + 1])
        torch.testing.assert_close(told, below[..., at : at + 1, :], rtol=1e-11, atol=1e-12)


@each(LAYERS)
@settings(max_examples=6)
@given(window=st.integers(1, STEPS), chunk=st.integers(1, STEPS))
def test_the_mean_of_a_window_is_the_mean_of_the_tail(row, window, chunk):
    net, xs = build(row), spikes()
    tail = net.run(xs)[-window:].mean(0)
    net.reset()
    mean = net.run(xs, reduce="mean", window=window, chunk=chunk)
    torch.testing.assert_close(mean, tail, rtol=1e-12, atol=1e-12)


@each(LAYERS)
def test_the_mean_of_all_is_the_mean_of_all(row):
    net, xs = build(row), spikes()
    wanted = net.run(xs).mean(0)
    net.reset()
    torch.testing.assert_close(net.run(xs, reduce="mean", chunk=5), wanted, rtol=1e-12, atol=1e-12)


@each(LAYERS)
def test_a_stream_runs_as_its_dense_tensor(row):
    streamed, dense = build(row), build(row)
    stream = tt.encode.poisson(torch.full((BATCH, IN), 0.4).double(), STEPS, seed=4)
    same(row, streamed.run(stream, chunk=7), dense.run(stream.dense()))
    same_state(streamed, dense)


@each(LAYERS)
def test_no_state_has_a_graph_and_no_output_without_gradients(row):
    net, xs = build(row), spikes().requires_grad_()
    net(xs[0]), net.run(xs), net.run(xs, reduce="mean")
    values = [*net.save_state().values(), *(value for layer in layers_of(net) for value in layer.state.tensors)]
    values.append(net.backward(normal(BATCH, OUT).requires_grad_()))
    assert torch.is_grad_enabled()
    with torch.no_grad():
        values += [net(xs[0]), net.run(xs), net.run(xs, reduce="mean")]
    assert not any(value.requires_grad or value.grad_fn for value in values)


@each(LAYERS)
def test_nor_has_it_where_no_kernel_is_compiled(row):
    net = build(row, dtype=torch.bfloat16)
    with torch.no_grad():
        out = net.run(spikes())
    assert out.dtype == torch.bfloat16
    assert not any(value.requires_grad for value in [out, *net.save_state().values()])


@each(LAYERS)
def test_input_of_another_dtype_is_the_same_input(row):
    wanted = build(row).run(spikes())
    for dtype in (torch.bool, torch.uint8, torch.float32):
        same(row, build(row).run(spikes().to(dtype)), wanted)
    assert build(row, dtype=torch.float32).run(spikes()).dtype == torch.float32


# ── a new neuron is two methods ─────────────────────────────────────────────────────────────────────────────────────


class Plain(tt.nn.Neuron):
    """Leaky integrators without a kernel: the layer runs their steps."""

    def step(self, current, state):
        membrane = F.li_step(current, state.membrane, self.decay)
        return membrane, F.MembraneState(membrane)

    def steady_state(self, current, steps):
        return F.li_level(current, self.decay, steps)


def test_a_neuron_without_a_kernel_runs_and_learns_as_the_one_with():
    plain, fast, xs, signal = (
        Layer(IN, OUT, neuron=Plain, bias=True).double(),
        LI(IN, OUT, bias=True).double(),
        spikes(),
        normal(BATCH, OUT),
    )
    fast.load_state_dict(plain.state_dict())
    torch.testing.assert_close(plain.run(xs, chunk=5), fast.run(xs))
    torch.testing.assert_close(plain.backward(signal), fast.backward(signal))
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(plain.parameters(), fast.parameters(), strict=True))


def test_a_layer_has_few_public_names_of_its_own():
    own = {name for name in dir(Layer) if not name.startswith("_")} - set(dir(torch.nn.Module))
    assert len(own) <= 20, sorted(own)


def test_a_network_is_its_layers_in_order():
    torch.manual_seed(0)
    first, second = LIF(IN, 5).double(), LI(5, OUT).double()
    net, xs = Sequential(first, second), spikes()
    assert list(net) == [first, second] and net[1] is second and len(net) == 2
    assert (net.in_features, net.out_features, str(first)) == (IN, OUT, "LIF(6, 5)")
    outputs, signal = net.run(xs), normal(BATCH, OUT)
    below = net.backward(signal)
    first.reset(), second.reset()
    assert torch.equal(second.run(first.run(xs)), outputs)
    assert torch.equal(first.backward(second.backward(signal)), below)


@pytest.mark.parametrize("hidden", [[], [5], [5, 3]], ids=str)
def test_feedforward_chains_the_sizes(hidden):
    net = tt.nn.feedforward(IN, OUT, hidden=hidden, neuron=LIF, readout=LI)
    sizes = [IN, *hidden, OUT]
    assert [(layer.in_features, layer.out_features) for layer in net] == list(pairwise(sizes))
    assert [type(layer) for layer in net] == [LIF] * len(hidden) + [LI]


@pytest.mark.parametrize("where", ["net", "layer"])
def test_weights_that_a_hook_changes_between_two_chunks_are_used(where):
    """Wide enough, and its input sparse enough, for a kernel that keeps transposed weights."""
    torch.manual_seed(0)
    net = Sequential(LIF(300, 256), LI(256, OUT))
    xs = tt.encode.poisson(torch.full((2, 300), 0.05), 6)

    def double(*_):
        net[0].weight.data.mul_(2)

    net.run(xs, chunk=2)  # makes room for them
    net.reset()
    before = net[0].weight.detach().clone()
    hook = (net if where == "net" else net[0]).register_forward_hook(double)
    found = net.run(xs, chunk=2)
    hook.remove()
    net.reset()
    wanted = []
    for at, part in enumerate(xs.split(2)):
        net[0].weight.data.copy_(before * 2**at)
        wanted.append(net.run(part))
    torch.testing.assert_close(found, torch.cat(wanted))
    assert found.abs().max() > 0


def test_a_part_of_a_layer_can_be_replaced():
    layer, other = LIF(IN, OUT), torch.nn.Linear(IN, OUT)
    layer.run(spikes().float())
    layer.connection, layer.neuron = other, tt.nn.neurons.LI(OUT)
    assert layer.connection is other and layer.weight is other.weight and layer.kind == "LIF"
    layer.reset()
    wanted = LI(torch.nn.Linear(IN, OUT))
    wanted.load_state_dict(layer.state_dict())
    assert torch.equal(layer.run(spikes().float()), wanted.run(spikes().float()))
