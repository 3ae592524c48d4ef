"""One step at a time, as a live stream needs it: compiled, or a recorded graph of a GPU, it is the plain step.

Where there is no GPU, the recorder is a stand-in: it keeps the tensors that the graph was recorded with, and a replay
works on those, whatever the network has put in their places since.
"""

import contextlib
import copy
import io
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from tests.common import BATCH, IN, LAYERS, OUT, Net, Row, build, each, layers_of, normal, spikes
from tests.kernel_cases import combined
from tracetorch import backends
from tracetorch.backends import OutputSpec, dispatch
from tracetorch.backends.cpu.step import Stepper
from tracetorch.nn import LI, LIF, LIS, Layer, Sequential, neurons
from tracetorch.nn.graph import StepGraph

ROWS = {row.name: row for row in LAYERS}
LIVE = 4  # steps before something happens to a network, and after it


class Recorder:
    """Stands in for `torch.cuda.CUDAGraph`: a replay repeats the step with everything where it was then."""

    made = 0

    def __init__(self):
        Recorder.made += 1

    def record(self, graph: StepGraph) -> None:
        self.net, self.out = graph._net, OutputSpec(outputs=graph._output.flatten(2))
        self.input, self.then = graph._input, self.held(lent=False)

    def replay(self) -> None:
        now = self.held()
        self.put(self.then)
        self.net.advance(self.input[None], self.out)
        self.put(now)

    def held(self, lent: bool | None = None) -> list[tuple]:
        held = []
        for layer in layers_of(self.net):
            parameters = [dict(part._parameters) for part in layer.children()]
            held.append((layer._state, layer._lent if lent is None else lent, layer.precision, parameters))
        return held

    def put(self, held: list[tuple]) -> None:
        for layer, (*own, parameters) in zip(layers_of(self.net), held, strict=True):
            layer._state, layer._lent, layer.precision = own
            for part, its in zip(layer.children(), parameters, strict=True):
                part._parameters.update(its)


@pytest.fixture
def graph(monkeypatch):
    """`Recorder` in place of CUDA, and networks that think they are on it. As there, nothing runs while it records."""
    recording, step, stream = [], StepGraph._step, SimpleNamespace(wait_stream=lambda _: None)

    @contextlib.contextmanager
    def recorded(graph, stream):
        recording.append(graph)
        yield
        recording.pop()

    for name, fake in {
        "CUDAGraph": Recorder, "graph": recorded, "Stream": lambda *_: stream, "current_stream": lambda *_: stream,
        "stream": lambda _: contextlib.nullcontext(), "device": lambda _: contextlib.nullcontext(),
    }.items():  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, fake)
    monkeypatch.setattr(StepGraph, "_step", lambda self: recording[-1].record(self) if recording else step(self))
    monkeypatch.setattr(Parameter, "is_cuda", True, raising=False)
    Recorder.made = 0


@pytest.fixture(params=["compiled", "graph"])
def way(request):
    if request.param == "graph":
        request.getfixturevalue("graph")
    return request.param


def plain(monkeypatch) -> None:
    """From here on every step is a chunk of its own."""
    monkeypatch.setattr(backends, "one_step", lambda layer: "chunk")


def stepwise(net: Net, xs: Tensor) -> Tensor:
    return torch.stack([net(x) for x in xs])


def same(row: Row, actual: Tensor, wanted: Tensor) -> None:
    assert actual.dtype == wanted.dtype and (row.says != "spikes" or torch.equal(actual, wanted))
    torch.testing.assert_close(actual, wanted)


def same_state(actual: Net, wanted: Net) -> None:
    torch.testing.assert_close(actual.save_state(), wanted.save_state(), rtol=1e-5, atol=1e-6)


@each(LAYERS)
def test_steps_are_a_run(row, way):
    for xs in (spikes(batch=1).float(), normal(24, 3, IN)):
        stepped, ran = build(row, dtype=xs.dtype), build(row, dtype=xs.dtype)
        same(row, stepwise(stepped, xs), ran.run(xs))
        same_state(stepped, ran)
    assert way == "compiled" or Recorder.made == (0 if row.of == "Neuron" else 2)


def learn(net: Net) -> None:
    optimizer = torch.optim.SGD([parameter for parameter in net.parameters() if parameter.requires_grad], lr=0.3)
    net.backward(torch.ones(BATCH, OUT, device=next(net.parameters()).device))
    optimizer.step()


def write_in_place(net: Net) -> None:
    for parameter in net.parameters():
        parameter.data.mul_(0.8).add_(0.05)


def new_data(net: Net) -> None:
    for parameter in net.parameters():
        parameter.data = parameter.data * 0.8 + 0.05


def new_data_by_rows(net: Net) -> None:
    """The weights laid out otherwise than a layer lays them out."""
    for parameter in net.parameters():
        parameter.data = (parameter.data * 0.8 + 0.05).contiguous()


def new_parameters(net: Net) -> None:
    for layer in layers_of(net):
        for part in layer.children():
            for name, parameter in list(part.named_parameters()):
                setattr(part, name, Parameter(parameter.detach() * 0.8 + 0.05))


def load(net: Net, **how: bool) -> None:
    net.load_state_dict({name: value * 0.8 + 0.05 for name, value in net.state_dict().items()}, **how)


def precision(net: Net, dtype: torch.dtype | None = torch.bfloat16) -> None:
    for layer in layers_of(net):
        layer.precision = dtype


def precision_and_back(net: Net) -> None:
    precision(net)
    stepwise(net, live_input(2, net))
    precision(net, None)


def copied_and_changed(net: Net) -> Net:
    other = copy.deepcopy(net)
    write_in_place(net)
    stepwise(net, live_input(2, net))
    return other


def pickled(net: Net) -> Net:
    torch.save(net, file := io.BytesIO())
    return torch.load(io.BytesIO(file.getvalue()), weights_only=False)


def load_state(net: Net) -> None:
    net.before = [layer.live_state for layer in layers_of(net)]  # or the new one might get the old one's memory
    net.load_state({name: value * 2 for name, value in net.save_state().items()})


EVENTS = {
    "learn": (learn, 0), "write-in-place": (write_in_place, 0), "load": (load, 0), "reset": (lambda net: net.reset(), 0),
    "chunk-between": (lambda net: net.run(live_input(3, net)), 0), "save": (lambda net: net.save_state(), 0),
    "new-data": (new_data, 1), "new-data-by-rows": (new_data_by_rows, 1), "new-parameters": (new_parameters, 1),
    "assign": (lambda net: load(net, assign=True), 1), "double": (torch.nn.Module.double, 1),
    "precision": (precision, 1), "precision-and-back": (precision_and_back, 2), "load-state": (load_state, 1),
    "hand-out": (lambda net: setattr(net, "held", [layer.state for layer in layers_of(net)]), 1),
    "copied-and-changed": (copied_and_changed, 2), "pickled": (pickled, 1),
}  # fmt: skip
"""What happens to a network between two steps, and how often its graph is then recorded again."""


def live_input(steps: int, net: Net) -> Tensor:
    like = next(net.parameters())
    return spikes(steps=steps).to(like.device, like.dtype)


def live(net: Net, event: str) -> tuple[Tensor, Net]:
    net.run(live_input(2, net))
    stepwise(net, live_input(LIVE, net))
    changed = EVENTS[event][0](net)
    net = changed if isinstance(changed, torch.nn.Module) else net
    return stepwise(net, live_input(LIVE, net)), net


SOME = ("LIF-groups-bias", "LI-per-neuron", "LIS-free-trace", "network")


@pytest.mark.parametrize(("name", "event", "way"), combined(name=SOME, event=EVENTS, way=("compiled", "graph")))
def test_steps_go_on_as_on_the_plain_road_after(name, event, way, request, monkeypatch):
    if way == "graph":
        request.getfixturevalue("graph")
    row = ROWS[name]
    outputs, net = live(build(row, dtype=torch.float32), event)
    assert way == "compiled" or Recorder.made == 1 + EVENTS[event][1]
    plain(monkeypatch)
    wanted, other = live(build(row, dtype=torch.float32), event)
    same(row, outputs, wanted)
    same_state(net, other)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("event", EVENTS)
def test_on_a_gpu_replayed_steps_are_the_plain_ones(event, monkeypatch):
    replayed, net = live(build(ROWS["network"]).to("cuda"), event)
    plain(monkeypatch)
    wanted, other = live(build(ROWS["network"]).to("cuda"), event)
    torch.testing.assert_close((replayed, net.save_state()), (wanted, other.save_state()), rtol=1e-12, atol=1e-12)


INPUTS = [
    lambda x: x.clone().requires_grad_(),
    lambda x: x.bool(),
    lambda x: x.to(torch.uint8),
    lambda x: x.float(),
    lambda x: torch.stack([x, x + 1], -1)[..., 0],
    lambda x: x.t().contiguous().t(),
    lambda x: x[:1].expand(3, -1),
]


@each([ROWS[name] for name in SOME])
def test_any_input_is_taken_as_on_the_plain_road_and_an_output_stays_as_it_was_given(row, way, monkeypatch):
    mine, theirs, xs = build(row), build(row), spikes(steps=len(INPUTS))
    outputs = [mine(change(x)) for change, x in zip(INPUTS, xs, strict=True)]
    kept = [output.clone() for output in outputs]
    mine(xs[0]), mine.reset()
    assert way == "compiled" or mine._graph._input.grad_fn is None, "each step would hold on to the one before it"
    plain(monkeypatch)
    wanted = [theirs(change(x)) for change, x in zip(INPUTS, xs, strict=True)]
    same(row, torch.stack(kept), torch.stack(wanted))
    assert all(map(torch.equal, outputs, kept)) and len({output.data_ptr() for output in outputs}) == len(outputs)


@pytest.mark.parametrize("shape", [(BATCH, IN + 1), (BATCH + 1, IN), (IN,), (1, BATCH, IN)], ids=str)
def test_a_step_of_another_shape_is_refused(shape, way):
    net, message = build(ROWS["network"]), r"expects a step of shape|holds a state of batch 3, got batch 4"
    net(spikes()[0])
    with pytest.raises(ValueError, match=message):
        net(torch.zeros(shape, dtype=torch.float64))


def test_another_batch_and_another_layer_are_taken_after_a_reset(way, monkeypatch):
    net, xs, outputs = build(ROWS["network"]), spikes(steps=6), []

    def use(net: Net) -> list[Tensor]:
        outputs = []
        for batch in (3, 1, 3):
            net.reset()
            outputs.append(stepwise(net, xs[:, :batch]))
        net.layers[0] = build(ROWS["network"], seed=1)[0]
        net.reset()
        return [*outputs, stepwise(net, xs)]

    outputs = use(net)
    assert way == "compiled" or Recorder.made == 4
    plain(monkeypatch)
    torch.testing.assert_close(outputs, use(build(ROWS["network"])))


def test_a_batch_too_large_for_the_compiled_step_takes_the_plain_road(monkeypatch):
    calls, real, xs = [], Stepper.__call__, spikes()
    monkeypatch.setattr(Stepper, "__call__", lambda stepper, x: calls.append(len(x)) or real(stepper, x))
    for most, batches in ((2, [1] * len(xs)), (3, [3, 1] * len(xs))):
        monkeypatch.setattr(dispatch, "MOST_PRODUCTS", most * IN * OUT)
        for batch in (3, 1):
            outputs = stepwise(build(ROWS["LIF"]), xs[:, :batch])
            assert torch.equal(outputs, build(ROWS["LIF"]).run(xs[:, :batch]))
        assert sorted(calls) == sorted(batches)
        calls.clear()


class Plain(neurons.LI):
    """Leaky integrators without a kernel: the layer runs their steps."""

    kernel = None


def test_a_neuron_without_a_kernel_steps_runs_and_learns_as_the_one_with():
    torch.manual_seed(0)
    stepped, signal, xs = Layer(IN, OUT, neuron=Plain, bias=True).double(), normal(BATCH, OUT), spikes()
    ran, known, outputs = copy.deepcopy(stepped), LI(IN, OUT, bias=True).double(), []
    known.load_state_dict(stepped.state_dict())
    for net in (stepped, ran, known):
        outputs.append(net.run(xs, chunk=5) if net is ran else stepwise(net, xs))
        outputs.append(net.backward(signal))
    torch.testing.assert_close(outputs, outputs[:2] * 3)
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(ran.parameters(), known.parameters(), strict=True))
    between = Sequential(LIF(IN, IN).double(), stepped, LIS(OUT, 2).double())
    between.reset()
    whole = copy.deepcopy(between)
    torch.testing.assert_close(stepwise(between, xs), whole.run(xs, chunk=5))


def test_a_hook_that_is_registered_after_a_step_is_called():
    layer, seen = LIF(3, 2), []
    layer(torch.ones(1, 3))
    layer.connection.register_forward_hook(lambda *_: seen.append(1))
    layer(torch.ones(1, 3))
    assert seen == [1]


@pytest.mark.parametrize("size", [3, 80], ids=["small", "large"])
def test_a_weight_that_was_transposed_or_cut_where_it_lies_is_read_as_it_is_now(size, way):
    layer, x = LI(size, size), torch.rand(2, size)
    layer(x)
    layer.weight.data = layer.weight.data.t()
    layer.reset(torch.tensor([True, True]))
    torch.testing.assert_close(layer(x), x @ layer.weight.t())
    layer.weight.data = layer.weight.data[:2]
    with pytest.raises(ValueError, match=rf"needs a weight of shape \({size}, {size}\), got \(2, {size}\)"):
        layer(x)


def test_a_parameter_in_another_place_is_read_for_what_it_is_there():
    layer = LIF(3, 2, decay=[0.5, 0.9], threshold=[0.4, 1.0], trace_decay=0.8)
    other = copy.deepcopy(layer)
    layer(torch.zeros(1, 3))
    for neuron in (layer.neuron, other.neuron):
        neuron.raw_decay, neuron.raw_threshold = neuron.raw_threshold, neuron.raw_decay
    other(torch.zeros(1, 3))
    xs = 3 * torch.rand(20, 1, 3)
    assert torch.equal(stepwise(layer, xs), stepwise(other, xs))
    raw_decay, layer.neuron = layer.neuron.raw_decay, LIS(3, 2).neuron
    layer.neuron.raw_decay = raw_decay
    torch.testing.assert_close(layer(xs[0]).sum(), torch.tensor(1.0))
