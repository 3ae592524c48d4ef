"""One step on a GPU as a recorded graph: what the plain road gives, recorded again when something moves, and only then.

Where there is no GPU, the recorder is a stand-in: it keeps the tensors that the graph was recorded with, and a replay
works on those, whatever the network has put in their places since.
"""

import contextlib
import copy
from types import SimpleNamespace

import pytest
import torch
from torch.nn import Parameter

from tests.common import BATCH, COMPILED, IN, LAYERS, OUT, Net, build, each, layers_of, normal, spikes
from tracetorch.backends import OutputSpec
from tracetorch.nn import LI
from tracetorch.nn.graph import StepGraph


class Recorder:
    """Stands in for `torch.cuda.CUDAGraph`: a replay repeats the step with everything where it was then."""

    made = 0

    def __init__(self):
        Recorder.made += 1

    def replay(self):
        layers = list(layers_of(self.net))
        now = [
            (layer._state, layer._lent, [dict(part._parameters) for part in layer.children()], layer.precision)
            for layer in layers
        ]
        self.put(layers, self.then)
        self.net.advance(self.input[None], OutputSpec(outputs=self.output))
        self.put(layers, now)

    def record(self, graph: StepGraph):
        self.net, self.input, self.output = graph._net, graph._input, graph._output
        layers = layers_of(self.net)
        self.then = [
            (layer._state, False, [dict(part._parameters) for part in layer.children()], layer.precision)
            for layer in layers
        ]

    @staticmethod
    def put(layers, held):
        for layer, (state, lent, parameters, precision) in zip(layers, held, strict=True):
            layer._state, layer._lent, layer.precision = state, lent, precision
            for part, its in zip(layer.children(), parameters, strict=True):
                part._parameters.update(its)


@pytest.fixture
def recorder(monkeypatch):
    """`Recorder` in place of CUDA, and networks that think they are on it. As there, nothing runs while it records."""
    recording, step = [], StepGraph._step

    @contextlib.contextmanager
    def graph(recorded, stream):
        recording.append(recorded)
        yield
        recording.pop()

    def step_or_record(self):
        recording[-1].record(self) if recording else step(self)

    stream = SimpleNamespace(wait_stream=lambda _: None)
    for name, fake in {
        "CUDAGraph": Recorder, "graph": graph, "Stream": lambda *_: stream, "current_stream": lambda *_: stream,
        "stream": lambda _: contextlib.nullcontext(), "device": lambda _: contextlib.nullcontext(),
    }.items():  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, fake)
    monkeypatch.setattr(StepGraph, "_step", step_or_record)
    monkeypatch.setattr(Parameter, "is_cuda", True, raising=False)
    Recorder.made = 0
    return Recorder


def chunkwise(net: Net, x: torch.Tensor) -> torch.Tensor:
    """The plain road: a chunk of one step."""
    return net.run(x[None])[0]


def same(actual: Net, wanted: Net) -> None:
    for name, value in wanted.save_state().items():
        torch.testing.assert_close(actual.save_state()[name], value, rtol=1e-12, atol=1e-12, msg=name)


@each(COMPILED)
@pytest.mark.parametrize("batch", [1, 3])
def test_replayed_steps_are_the_plain_ones_and_recorded_once(row, batch, recorder):
    net, other = build(row), build(row)
    for x in spikes(steps=8, batch=batch):
        torch.testing.assert_close(net(x), chunkwise(other, x), rtol=1e-12, atol=1e-12)
        same(net, other)
    assert recorder.made == 1


def test_warming_up_leaves_a_live_state_as_it_was(recorder):
    net = build(LAYERS[3])
    net.run(spikes())
    before = net.save_state()
    graph = StepGraph(net)
    graph._record(spikes()[0], list(layers_of(net))[-1], [layer.own_state(BATCH) for layer in layers_of(net)])
    assert before.keys() == net.save_state().keys()
    assert all(torch.equal(net.save_state()[name], value) for name, value in before.items())


# ── what moves, and what does not ───────────────────────────────────────────────────────────────────────────────────


def device_of(net: Net) -> torch.device:
    return next(net.parameters()).device


def hand_out(net: Net) -> None:
    net.held = [layer.state for layer in layers_of(net)]


def replace_parameters(net: Net) -> None:
    for layer in layers_of(net):
        for part in layer.children():
            for name, parameter in list(part.named_parameters()):
                setattr(part, name, Parameter(parameter.detach() * 0.8 + 0.05))


def new_data(net: Net) -> None:
    for parameter in net.parameters():
        parameter.data = parameter.data * 0.8 + 0.05


def load_state(net: Net) -> None:
    net.before = [layer._state for layer in layers_of(net)]  # or the new one might get the old one's memory
    net.load_state({name: value * 2 for name, value in net.save_state().items()})


def reset(net: Net) -> None:
    net.before = [layer._state for layer in layers_of(net)]
    net.reset()


def bfloat16(net: Net) -> None:
    for layer in layers_of(net):
        layer.precision = torch.bfloat16


def write_in_place(net: Net) -> None:
    for parameter in net.parameters():
        parameter.data.mul_(0.8).add_(0.05)


def run_a_chunk(net: Net) -> None:
    net.run(spikes(steps=5).to(device_of(net)))


def learn(net: Net) -> None:
    net.backward(normal(BATCH, OUT).to(device_of(net)))


def save(net: Net) -> None:
    net.save_state()


MOVES = [hand_out, replace_parameters, new_data, load_state, bfloat16]
STAYS = [write_in_place, run_a_chunk, learn, save, reset]
SOME = [row for row in LAYERS if row.name in ("LIF-groups-bias", "LI-per-neuron", "LIS-free-trace", "network")]


@each(SOME)
@pytest.mark.parametrize("event", MOVES + STAYS, ids=lambda event: event.__name__)
def test_it_is_recorded_again_when_something_moved_and_only_then(row, event, recorder):
    net, other = build(row), build(row)
    for at, x in enumerate(spikes(steps=12)):
        torch.testing.assert_close(net(x), chunkwise(other, x), rtol=1e-12, atol=1e-12)
        same(net, other)
        if at in (3, 7):
            event(net), event(other)
    again = {bfloat16: 1}.get(event, 2)  # the second time it is bfloat16 already
    assert recorder.made == 1 + (again if event in MOVES else 0)


@each(SOME)
def test_another_batch_after_a_reset_is_recorded_anew(row, recorder):
    net, other = build(row), build(row)
    for batch in (3, 1, 3):
        net.reset(), other.reset()
        for x in spikes(steps=4, batch=batch):
            torch.testing.assert_close(net(x), chunkwise(other, x), rtol=1e-12, atol=1e-12)
    assert recorder.made == 3


@each(SOME)
def test_a_copy_records_a_graph_of_its_own(row, recorder):
    net, xs = build(row), spikes()
    net(xs[0])
    other = copy.deepcopy(net)
    torch.testing.assert_close(other(xs[1]), net(xs[1]))
    same(other, net)
    assert recorder.made == 3 and other._graph is not net._graph  # the state was lent, so both go on elsewhere


def test_a_layer_put_in_the_place_of_another_is_the_one_that_steps(recorder):
    net, xs = build(SOME[-1]), spikes()
    net(xs[0])
    net.layers[0] = build(SOME[-1], seed=1)[0]
    other = copy.deepcopy(net)
    net.reset(), other.reset()
    torch.testing.assert_close(net(xs[1]), chunkwise(other, xs[1]))
    same(net, other)


# ── input and output ────────────────────────────────────────────────────────────────────────────────────────────────


@each(SOME)
def test_an_output_stays_as_it_was_given_and_input_of_any_kind_is_taken(row, recorder):
    net, other, xs = build(row), build(row), spikes()
    ways = [torch.Tensor.bool, torch.Tensor.float, lambda x: x.clone().requires_grad_(), lambda x: x.t().clone().t()]
    outputs = [net(way(x)).detach() for x, way in zip(xs, ways * 6, strict=True)]
    torch.testing.assert_close(torch.stack(outputs), torch.stack([chunkwise(other, x) for x in xs]))
    assert net._graph._input.grad_fn is None, "each step would hold on to the one before it"


@each(SOME)
@pytest.mark.parametrize("shape", [(BATCH, IN + 1), (BATCH, 1), (IN,), (1, BATCH, IN)], ids=str)
@pytest.mark.parametrize("first", [False, True], ids=["recorded", "new"])
def test_a_step_of_another_shape_is_refused(row, shape, first, recorder):
    net = build(row)
    if not first:
        net(spikes()[0])
    with pytest.raises(ValueError, match=r"expects a (step|chunk) of shape|holds a state of batch"):
        net(torch.zeros(shape, dtype=torch.float64))


# ── the same on a GPU ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@each(SOME)
@pytest.mark.parametrize("event", MOVES + STAYS, ids=lambda event: event.__name__)
def test_on_a_gpu_replayed_steps_are_the_plain_ones(row, event):
    def live(step) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        net, outputs = build(row).to("cuda"), []
        for at, x in enumerate(spikes(steps=12).to("cuda")):
            outputs.append(step(net, x))
            if at in (3, 7):
                event(net)
        return torch.stack(outputs), net.save_state()

    torch.testing.assert_close(live(lambda net, x: net(x)), live(chunkwise), rtol=1e-12, atol=1e-12)


def test_a_weight_that_was_transposed_where_it_lies_is_recorded_anew(recorder):
    layer, x = LI(IN, IN).double(), torch.rand(2, IN).double()
    layer(x)
    layer.weight.data = layer.weight.data.t()
    layer.reset(torch.tensor([True, True]))
    torch.testing.assert_close(layer(x), x @ layer.weight.t())
    assert recorder.made == 2
