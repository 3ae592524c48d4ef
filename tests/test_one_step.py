"""One step at a time, as a live stream needs it: the compiled step is the plain one, whatever happens in between."""

import copy
import io
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from tests.common import COMPILED, IN, LAYERS, OUT, Net, Row, build, each, layers_of, normal, spikes
from tests.test_layers import Plain
from tracetorch import backends
from tracetorch.backends import dispatch
from tracetorch.backends.cpu import step as compiled
from tracetorch.nn import LI, LIF, LIS, Layer, Sequential

LIVE = 6  # steps before something happens to a network, and after it


def plain(monkeypatch) -> None:
    """From here on no step is compiled: every one is a chunk of its own."""
    monkeypatch.setattr(backends, "one_step", lambda layer: "chunk")


def compiled_calls(monkeypatch) -> list[int]:
    """How many steps are taken by the compiled kernel from here on: one item each, the size of its batch."""
    calls, real = [], compiled.Stepper.__call__

    def counting(stepper, x):
        calls.append(len(x))
        return real(stepper, x)

    monkeypatch.setattr(compiled.Stepper, "__call__", counting)
    return calls


def stepwise(net: Net, xs: Tensor) -> Tensor:
    return torch.stack([net(x) for x in xs])


def same(row: Row, actual: Tensor, wanted: Tensor) -> None:
    assert actual.dtype == wanted.dtype
    if row.says == "spikes":
        assert torch.equal(actual, wanted)
    else:
        torch.testing.assert_close(actual, wanted)


def same_state(actual: Net, wanted: Net) -> None:
    saved = actual.save_state()
    for name, value in wanted.save_state().items():
        torch.testing.assert_close(saved[name], value, rtol=1e-5, atol=1e-6)
        assert "steps" not in name or torch.equal(saved[name], value)


# ── step by step, and as a whole ────────────────────────────────────────────────────────────────────────────────────


@each(COMPILED)
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_steps_are_a_run(row, batch, dtype, monkeypatch):
    calls, xs = compiled_calls(monkeypatch), spikes(batch=batch).to(dtype)
    stepped, ran = build(row, dtype=dtype), build(row, dtype=dtype)
    same(row, stepwise(stepped, xs), ran.run(xs))
    same_state(stepped, ran)
    assert calls == [batch] * len(xs) * len(list(layers_of(stepped)))


@each(LAYERS)
def test_real_valued_steps_are_a_run(row):
    stepped, ran, xs = build(row), build(row), normal(24, 3, IN)
    same(row, stepwise(stepped, xs), ran.run(xs))
    same_state(stepped, ran)


@each(COMPILED)
def test_a_batch_too_large_for_the_compiled_step_takes_the_plain_road(row, monkeypatch):
    calls, xs, net = compiled_calls(monkeypatch), spikes(), build(row)
    monkeypatch.setattr(dispatch, "MOST_PRODUCTS", 2 * min(layer.weight.numel() for layer in layers_of(net)))
    same(row, stepwise(net, xs), build(row).run(xs))
    assert not calls
    net.reset()
    same(row, stepwise(net, xs[:, :1]), build(row).run(xs[:, :1]))
    assert calls == [1] * len(xs) * len(list(layers_of(net)))


def test_a_neuron_without_a_kernel_steps_as_it_runs(monkeypatch):
    calls, xs = compiled_calls(monkeypatch), spikes()
    torch.manual_seed(0)
    stepped = Layer(IN, OUT, neuron=Plain, bias=True).double()
    ran, known = copy.deepcopy(stepped), LI(IN, OUT, bias=True).double()
    known.load_state_dict(stepped.state_dict())
    outputs = stepwise(stepped, xs)
    torch.testing.assert_close(outputs, ran.run(xs))
    assert not calls
    torch.testing.assert_close(outputs, stepwise(known, xs))
    assert len(calls) == len(xs)
    between = Sequential(LIF(IN, IN).double(), stepped, LIS(OUT, 2).double())
    between.reset()
    whole = copy.deepcopy(between)
    torch.testing.assert_close(stepwise(between, xs), whole.run(xs, chunk=5))


# ── what happens to a network while it runs ─────────────────────────────────────────────────────────────────────────


def optimizer_step(net: Net) -> Net:
    optimizer = torch.optim.SGD([parameter for parameter in net.parameters() if parameter.requires_grad], lr=0.3)
    net.backward(torch.ones(3, OUT))
    optimizer.step()
    return net


def write_in_place(net: Net) -> Net:
    for parameter in net.parameters():
        parameter.data.mul_(0.8).add_(0.05)
    return net


def new_data(net: Net) -> Net:
    for parameter in net.parameters():
        parameter.data = parameter.data * 0.8 + 0.05
    return net


def new_data_by_rows(net: Net) -> Net:
    """The weights laid out otherwise than a layer lays them out."""
    for parameter in net.parameters():
        parameter.data = (parameter.data * 0.8 + 0.05).contiguous()
    return net


def new_parameters(net: Net) -> Net:
    for layer in layers_of(net):
        for name, parameter in list(layer.named_parameters(recurse=False)):
            setattr(layer, name, Parameter(parameter.detach() * 0.8 + 0.05))
    return net


def new_decays(net: Net) -> Net:
    for layer in layers_of(net):
        layer.neuron.raw_decay = Parameter(layer.neuron.raw_decay.detach() - 1)
    return net


def load(net: Net) -> Net:
    net.load_state_dict({name: value * 0.8 + 0.05 for name, value in net.state_dict().items()})
    return net


def assign(net: Net) -> Net:
    net.load_state_dict({name: value * 0.8 + 0.05 for name, value in net.state_dict().items()}, assign=True)
    return net


def bfloat16(net: Net) -> Net:
    for layer in layers_of(net):
        layer.precision = torch.bfloat16
    return net


def bfloat16_and_back(net: Net) -> Net:
    stepwise(bfloat16(net), spikes(steps=2).float())
    for layer in layers_of(net):
        layer.precision = None
    return net


def copied_and_changed(net: Net) -> Net:
    other = copy.deepcopy(net)
    write_in_place(net)
    stepwise(net, spikes(steps=2).float())
    return other


def pickled(net: Net) -> Net:
    file = io.BytesIO()
    torch.save(net, file)
    return torch.load(io.BytesIO(file.getvalue()), weights_only=False)


def new_state(net: Net) -> Net:
    net.load_state({name: value * 2 for name, value in net.save_state().items()})
    return net


def chunk_between(net: Net) -> Net:
    net.run(spikes(steps=3).float())
    return net


EVENTS: list[Callable[[Net], Net]] = [
    optimizer_step, write_in_place, new_data, new_data_by_rows, new_parameters, new_decays, load, assign, bfloat16,
    bfloat16_and_back, copied_and_changed, pickled, new_state, chunk_between, torch.nn.Module.double,
]  # fmt: skip

SOME = ("LIF-groups-bias", "LIF-weights-only", "LI-per-neuron", "LIS-free-trace", "network")


@each([row for row in LAYERS if row.name in SOME])
@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.__name__)
def test_steps_go_on_as_on_the_plain_road_after(row, event, monkeypatch):
    def live(net: Net) -> tuple[Net, Tensor]:
        xs = spikes().float()
        stepwise(net, xs[:LIVE])
        net = event(net)
        return net, stepwise(net, xs[LIVE : 2 * LIVE].to(next(layers_of(net)).weight.dtype))

    net, outputs = live(build(row, dtype=torch.float32))
    plain(monkeypatch)
    other, wanted = live(build(row, dtype=torch.float32))
    same(row, outputs, wanted)
    same_state(net, other)


@each([row for row in LAYERS if row.name in SOME])
@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.clone().requires_grad_(),
        lambda x: x.bool(),
        lambda x: x.to(torch.uint8),
        lambda x: x.float(),
        lambda x: torch.stack([x, x + 1], -1)[..., 0],
        lambda x: x.t().contiguous().t(),
        lambda x: x[:1].expand(3, -1),
    ],
    ids=["requires_grad", "bool", "uint8", "float32", "strided", "by-columns", "expanded"],
)
def test_any_input_is_taken_as_on_the_plain_road(row, change, monkeypatch):
    xs = spikes(steps=8)
    mine, theirs = build(row), build(row)
    outputs = [mine(change(x)) for x in xs]
    plain(monkeypatch)
    wanted = [theirs(change(x)) for x in xs]
    same(row, torch.stack(outputs), torch.stack(wanted))
    same_state(mine, theirs)


@each(LAYERS)
def test_an_output_stays_as_it_was_given(row):
    net, xs = build(row), spikes(steps=5)
    outputs = [net(x) for x in xs]
    kept = [output.clone() for output in outputs]
    net(xs[0])
    assert all(map(torch.equal, outputs, kept))
    assert len({output.data_ptr() for output in outputs}) == len(outputs)


def test_a_hook_that_is_registered_after_a_step_is_called():
    layer, seen = LIF(3, 2), []
    layer(torch.ones(1, 3))
    layer.connection.register_forward_hook(lambda *_: seen.append(1))
    layer(torch.ones(1, 3))
    assert seen == [1]


@pytest.mark.parametrize("size", [3, 80], ids=["small", "large"])
def test_a_weight_that_was_transposed_where_it_lies_is_read_as_it_is_now(size):
    layer, x = LI(size, size), torch.rand(2, size)
    layer(x)
    layer.weight.data = layer.weight.data.t()
    layer.reset(torch.tensor([True, True]))
    torch.testing.assert_close(layer(x), x @ layer.weight.t())


def test_a_weight_that_was_cut_where_it_lies_is_refused():
    layer = LI(3, 4)
    layer(torch.ones(1, 3))
    layer.weight.data = layer.weight.data[:2]
    with pytest.raises(ValueError, match=r"needs a weight of shape \(4, 3\), got \(2, 3\)"):
        layer(torch.ones(1, 3))


def test_a_parameter_in_another_place_is_read_for_what_it_is_there():
    layer, other = (LIF(3, 2, decay=[0.5, 0.9], threshold=[0.4, 1.0], trace_decay=0.8) for _ in range(2))
    other.load_state_dict(layer.state_dict())
    layer(torch.zeros(1, 3))
    for neuron in (layer.neuron, other.neuron):
        neuron.raw_decay, neuron.raw_threshold = neuron.raw_threshold, neuron.raw_decay
    other(torch.zeros(1, 3))
    xs = 3 * torch.rand(20, 1, 3)
    assert torch.equal(stepwise(layer, xs), stepwise(other, xs))


def test_other_neurons_with_the_same_parameters_take_over():
    layer = LI(3, 2)
    layer(torch.ones(1, 3))
    raw_decay, layer.neuron = layer.neuron.raw_decay, LIS(3, 2).neuron
    layer.neuron.raw_decay = raw_decay
    torch.testing.assert_close(layer(torch.ones(1, 3)).sum(), torch.tensor(1.0))
