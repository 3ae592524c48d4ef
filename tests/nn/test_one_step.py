"""One step at a time: compiled, or as a recorded graph of a GPU (or of a stand-in for one), it is the plain step."""

import copy
import io
from contextlib import contextmanager
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from tests.common import BATCH, COMPILED, IN, LAYERS, OUT, Net, Row, build, each, layers_of, normal, spikes
from tests.kernel_cases import combined
from tracetorch import backends
from tracetorch.nn import LI, Sequential
from tracetorch.nn.graph import StepGraph

ROWS = {row.name: row for row in LAYERS}


@pytest.fixture(params=["compiled", "graph"])
def count_graphs(request, monkeypatch):
    """Networks whose steps are compiled, or seem to be on CUDA. Returns: how often a graph was recorded, or None."""
    if request.param == "compiled":
        return lambda: None
    cuda, recording, step = MagicMock(), [], StepGraph._step

    @contextmanager
    def record(graph, stream):
        recording.append(graph)
        yield
        recording.pop()

    def take_or_record(self):
        if recording:  # nothing runs meanwhile
            recording[-1].replay = lambda: step(self)
        else:
            step(self)

    cuda.graph, cuda.CUDAGraph.side_effect = record, SimpleNamespace
    for name in ("CUDAGraph", "graph", "Stream", "current_stream", "stream", "device"):
        monkeypatch.setattr(torch.cuda, name, getattr(cuda, name))
    monkeypatch.setattr(StepGraph, "_step", take_or_record)
    monkeypatch.setattr(Parameter, "is_cuda", True, raising=False)
    return lambda: cuda.CUDAGraph.call_count


def plain(monkeypatch) -> None:
    """From here on every step is a chunk of its own."""
    monkeypatch.setattr(backends, "one_step", lambda layer: "chunk")


def stepwise(net: Net, xs: Tensor) -> Tensor:
    return torch.stack([net(x) for x in xs])


def assert_equal(row: Row, actual: Tensor, wanted: Tensor) -> None:
    assert actual.dtype == wanted.dtype and (row.says != "spikes" or torch.equal(actual, wanted))
    torch.testing.assert_close(actual, wanted)


WAYS = [
    lambda x: x.bool(),
    lambda x: x.float(),
    lambda x: x.clone().requires_grad_(),
    lambda x: torch.stack([x, x + 1], -1)[..., 0],
    lambda x: x.t().contiguous().t(),
    lambda x: x[:1].expand(x.shape),
    lambda x: torch.complex(x, -x).conj().imag,  # as torch keeps it, a view with its sign flipped
    torch.Tensor.half,
]
"""In which an input may come."""


@each(LAYERS)
def test_single_steps_equal_a_run_and_an_output_never_changes(row, count_graphs):
    for xs in (spikes(batch=1).float(), spikes(batch=1).expand(-1, 3, -1), normal(24, 3, IN)):
        stepped, ran = build(row, dtype=xs.dtype), build(row, dtype=xs.dtype)
        ways = WAYS * 3 if xs.shape[1] == 3 and xs[0, 0, 0] in (0, 1) else [torch.Tensor.clone] * 24
        outputs = [stepped(way(x)) for way, x in zip(ways, xs, strict=True)]
        assert_equal(row, torch.stack([output.detach() for output in outputs]), ran.run(xs))
        torch.testing.assert_close(stepped.save_state(), ran.save_state(), rtol=1e-5, atol=1e-6)
        assert len({output.data_ptr() for output in outputs}) == len(outputs)
    assert count_graphs() in (None, 3 if row in COMPILED else 0)


def each_parameter(change):
    """An event: `change(part of a layer, name, parameter, its new values)`."""

    def event(net: Net) -> None:
        for part in [part for layer in layers_of(net) for part in layer.children()]:
            for name, value in list(part.named_parameters()):
                change(part, name, value, value.detach() * 0.8 + 0.05)

    return event


write_in_place = each_parameter(lambda part, name, value, new: value.data.copy_(new))


def load(net: Net, **how: bool) -> None:
    net.load_state_dict({name: value * 0.8 + 0.05 for name, value in net.state_dict().items()}, **how)


def copied_and_changed(net: Net) -> Net:
    other = copy.deepcopy(net)
    write_in_place(net)
    stepwise(net, live_input(2, net))
    return other


def pickled(net: Net) -> Net:
    torch.save(net, file := io.BytesIO())
    return torch.load(io.BytesIO(file.getvalue()), weights_only=False)


def other_parts(net: Net) -> None:
    for layer in layers_of(net):
        layer.connection, layer.neuron = copy.deepcopy((layer.connection, layer.neuron))
    write_in_place(net)


def load_state(net: Net) -> None:
    net.before = [layer.live_state for layer in layers_of(net)]  # or the new one might get the old one's memory
    net.load_state({name: value * 2 for name, value in net.save_state().items()})


EVENTS = {
    "write-in-place": (write_in_place, 0), "load": (load, 0), "reset": (lambda net: net.reset(), 0),
    "learn": (lambda net: net.backward(normal(BATCH, OUT).to(live_input(1, net))), 0),
    "chunk-between": (lambda net: net.run(live_input(3, net)), 0), "save": (lambda net: net.save_state(), 0),
    "new-data": (each_parameter(lambda part, name, value, new: setattr(value, "data", new)), 1),
    # The weights laid out otherwise than a layer lays them out.
    "new-data-by-rows": (each_parameter(lambda part, name, value, new: setattr(value, "data", new.contiguous())), 1),
    "new-parameters": (each_parameter(lambda part, name, value, new: setattr(part, name, Parameter(new))), 1),
    "new-weight": (lambda net: setattr(part := next(layers_of(net)).connection, "weight", Parameter(-part.weight)), 1),
    "assign": (lambda net: load(net, assign=True), 1), "double": (torch.nn.Module.double, 1),
    "precision": (lambda net: [setattr(layer, "precision", torch.bfloat16) for layer in layers_of(net)], 1),
    "hand-out": (lambda net: setattr(net, "held", [layer.state for layer in layers_of(net)]), 1),
    "load-state": (load_state, 1), "other-parts": (other_parts, 1), "pickled": (pickled, 1),
    "other-batch": (lambda net: (net.reset(), net(live_input(1, net)[0, :1]), net.reset()), 2),
    "hook": (lambda net: next(layers_of(net)).connection.register_forward_hook(lambda *how: 2 * how[-1]), None),
    "copied-and-changed": (copied_and_changed, 2),
}  # fmt: skip
"""What happens to a network between two steps, and how often its graph is recorded again; None: each layer has one."""


def live_input(steps: int, net: Net) -> Tensor:
    like = next(net.parameters())
    return spikes(steps=steps).to(like.device, like.dtype)


def steps_around(net: Net, event: str) -> tuple[Tensor, Net]:
    net.run(live_input(2, net))
    stepwise(net, live_input(4, net))
    changed = EVENTS[event][0](net)
    net = changed if isinstance(changed, torch.nn.Module) else net
    return stepwise(net, live_input(4, net)), net


SOME = [ROWS[name] for name in ("LIF-groups-bias", "LIS-free-trace", "network")]
EVERY = combined(row=SOME, event=EVENTS, count_graphs=("compiled", "graph"))


@pytest.mark.parametrize(("row", "event", "count_graphs"), EVERY, indirect=["count_graphs"])
def test_fast_steps_equal_plain_steps_after(row, event, count_graphs, monkeypatch):
    outputs, net = steps_around(build(row, dtype=torch.float32), event)
    graphs, more = count_graphs(), EVENTS[event][1]
    assert None in (graphs, more) or graphs == 1 + more
    plain(monkeypatch)
    wanted, other = steps_around(build(row, dtype=torch.float32), event)
    assert_equal(row, outputs, wanted)
    torch.testing.assert_close(net.save_state(), other.save_state(), rtol=1e-5, atol=1e-6)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("event", EVENTS)
def test_on_a_gpu_replayed_steps_are_the_plain_ones(event, monkeypatch):
    replayed, net = steps_around(build(ROWS["network"]).to("cuda"), event)
    plain(monkeypatch)
    wanted, other = steps_around(build(ROWS["network"]).to("cuda"), event)
    torch.testing.assert_close((replayed, net.save_state()), (wanted, other.save_state()), rtol=1e-12, atol=1e-12)


def test_a_step_reads_the_weights_of_a_fused_optimizer():
    """It writes them without a trace, and a large layer reads a copy."""
    layer, x = LI(80, 80, trainable="weight"), torch.rand(2, 80)
    layer(x)
    layer.weight.grad = torch.ones(80, 80)
    torch.optim.SGD([layer.weight], lr=1.0, fused=True).step()
    layer.reset(torch.tensor([True, True]))
    torch.testing.assert_close(layer(x), x @ layer.weight.t())


@pytest.mark.parametrize("size", [3, 80], ids=["small", "large"])
def test_a_weight_that_was_transposed_or_cut_in_place_is_read_as_it_is(size, count_graphs):
    layer, x = LI(size, size), torch.rand(2, size)
    layer(x)
    layer.weight.data = layer.weight.data.t()
    layer.reset(torch.tensor([True, True]))
    torch.testing.assert_close(layer(x), x @ layer.weight.t())
    layer.weight.data = layer.weight.data[:2]
    for use in (layer, lambda x: layer.run(x[None]), lambda x: Sequential(layer).run(x[None])):
        with pytest.raises(ValueError, match=rf"needs a weight of shape \({size}, {size}\), got \(2, {size}\)"):
            use(x)
