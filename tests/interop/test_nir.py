"""Graphs of NIR: the round trip, other frameworks, and files that are refused."""

import logging
import re
from itertools import pairwise

import pytest
import torch
from torch import nn

import tracetorch as tt
from tracetorch.interop import TARGETS, from_nir, to_nir, write_nir

nir = pytest.importorskip("nir")
h5py = pytest.importorskip("h5py")
np = pytest.importorskip("numpy")


def dense(dtype=torch.float32, gain=3.0):
    """Two layers of LIF, one of each reset, and a readout of several kinds of constants, active throughout."""
    torch.manual_seed(0)
    decays, thresholds = [0.95, 0.8, 0.7, 0.999], torch.rand(16) + 0.3
    layers = [
        tt.nn.LIF(20, 30, decay=0.9, threshold=1.3),
        tt.nn.LIF(30, 16, decay=decays, threshold=thresholds, bias=True, reset="zero"),
    ]
    net = tt.nn.Sequential(*layers, tt.nn.LIS(16, 5, decay=0.99)).to(dtype)
    for layer in net:
        layer.weight.data *= gain
    return net


def simple(uniform=("decay", "threshold"), reset="subtract"):
    """A network with weights as initialized, in which each layer has one value of the constants in `uniform`."""
    torch.manual_seed(0)
    decay = 0.95 if "decay" in uniform else [0.95, 0.9]
    threshold = 0.4 if "threshold" in uniform else torch.linspace(0.3, 0.5, 16)
    layers = [
        tt.nn.LIF(20, 30, decay=0.9, threshold=1.3, reset=reset),
        tt.nn.LIF(30, 16, decay=decay, threshold=threshold, bias=True, reset=reset),
    ]
    return tt.nn.Sequential(*layers, tt.nn.LI(16, 5, decay=0.98))


def spikes(steps=1000, channels=20):
    return (torch.rand(steps, 3, channels, generator=torch.Generator().manual_seed(1)) < 0.3).float()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("dt", [1e-4, 1e-3])
def test_a_round_trip_through_a_file_changes_no_bit_of_outputs_and_membranes(tmp_path, dtype, dt):
    net = dense(dtype)
    write_nir(tmp_path / "net.nir", to_nir(net, dt=dt))
    read, xs = from_nir(tmp_path / "net.nir"), spikes().to(dtype)
    with torch.no_grad():
        assert torch.equal(net.run(xs), read.run(xs))
    assert [layer.kind for layer in read] == ["LIF", "LIF", "LIS"]
    assert [layer.neuron.reset for layer in read[:2]] == ["subtract", "zero"]
    before, after = net.save_state(), read.save_state()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert before["1.membrane"].abs().mean() > 0.1


def test_convolutions_pooling_and_flattening_go_round_as_well():
    torch.manual_seed(0)
    pooled = nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), nn.AvgPool2d(2))
    strided = tt.nn.LIF(nn.Conv2d(4, 3, 2, stride=2, padding=1), threshold=0.1)
    net = tt.nn.Sequential(tt.nn.LIF(pooled, threshold=0.2), strided, tt.nn.LI(27, 5))
    with pytest.raises(ValueError, match=r"input_shape=\(1, 28, 28\)"):
        to_nir(net)
    xs = (torch.rand(30, 2, 1, 12, 12) < 0.3).float()
    with torch.no_grad():
        assert torch.equal(from_nir(to_nir(net, input_shape=(1, 12, 12))).run(xs), net.run(xs))
    assert net.run(xs).std() > 0.1


def with_snntorch(graph, xs, reset):
    snntorch = pytest.importorskip("snntorch")
    net = pytest.importorskip("snntorch.import_nir").import_from_nir(graph)
    for leaky in net.modules():
        if isinstance(leaky, snntorch.Leaky) and reset == "subtract":
            leaky.reset_mechanism = "subtract"
            leaky.state_function = leaky._base_sub
    return torch.stack([net(x)[0] for x in xs])


def with_spikingjelly(graph, xs, reset):
    exchange = pytest.importorskip("spikingjelly.activation_based.nir_exchange")
    neuron = pytest.importorskip("spikingjelly.activation_based.neuron")
    net, state, outputs = exchange.import_from_nir(graph), None, []
    for node in net.modules():
        if isinstance(node, neuron.LIFNode) and reset == "subtract":
            node.v_reset = None
    for x in xs:
        output, state = net(x, state)
        outputs.append(output)
    return torch.stack(outputs)


def with_norse(graph, xs, reset):
    norse = pytest.importorskip("norse.torch")
    resets = pytest.importorskip("norse.torch.functional.reset")
    net, state, outputs = norse.from_nir(graph, dt=graph.metadata["dt"]), None, []
    for cell in net.modules():
        if isinstance(cell, norse.LIFBoxCell) and reset == "subtract":
            cell.p = cell.p._replace(reset_method=resets.reset_subtract)
    for x in xs:
        output, state = net(x, state)
        outputs.append(output)
    return torch.stack(outputs)


def with_sinabs(graph, xs, reset):
    importer, layers = pytest.importorskip("sinabs.nir"), pytest.importorskip("sinabs.layers")
    activation = pytest.importorskip("sinabs.activation")
    net = importer.from_nir(graph, batch_size=xs.shape[1])
    for layer in net.modules():
        if isinstance(layer, layers.LIFSqueeze):
            layer.spike_fn = activation.SingleSpike
            if reset == "zero":
                layer.reset_fn = activation.MembraneReset()
    output = net(xs.transpose(0, 1).flatten(0, 1))
    output = output[0] if isinstance(output, tuple) else output
    return output.unflatten(0, (xs.shape[1], len(xs))).transpose(0, 1)


READERS = {"snntorch": with_snntorch, "spikingjelly": with_spikingjelly, "norse": with_norse, "sinabs": with_sinabs}


@pytest.mark.filterwarnings("ignore")  # of the other libraries
@pytest.mark.parametrize("target", TARGETS)
def test_other_frameworks_give_the_same_spikes(target, monkeypatch):
    monkeypatch.setattr(logging, "warning", lambda *_: None)  # norse's, about r
    for reset in ("subtract", "zero"):
        net, xs = simple(TARGETS[target].uniform, reset), spikes()
        hidden = net[:2].run(xs)
        if TARGETS[target].has_li:
            expected, graph = net[2:].run(hidden), to_nir(net, target=target)
        else:
            expected, graph = hidden @ net[2].weight.T, to_nir(net, target=target, readout="current")
        assert hidden.mean() > 0.01
        with torch.no_grad():
            found = READERS[target](graph, xs, reset)
        # One spike more or less changes a current by a weight; rounding does so by a millionth.
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_what_a_framework_cannot_express_is_refused_by_name():
    net = dense()
    for target in ("snntorch", "spikingjelly", "norse"):
        with pytest.raises(ValueError, match=r"layer 2: .* no leaky integrators; with readout='current'"):
            to_nir(tt.nn.Sequential(net[0], tt.nn.LIF(30, 16), net[2]), target=target)
    with pytest.raises(ValueError, match="layer 1: spikingjelly reads one decay for all neurons"):
        to_nir(net, target="spikingjelly", readout="current")
    with pytest.raises(ValueError, match="layer 1: snntorch reads one threshold"):
        to_nir(net, target="snntorch", readout="current")
    with pytest.raises(ValueError, match=r"snntorch reads every graph with dt=0\.0001"):
        to_nir(net, target="snntorch", dt=1e-3)
    with pytest.raises(ValueError, match="reset must be 'subtract', 'zero' or None, got none"):
        from_nir(to_nir(net), reset="none")
    with pytest.raises(ValueError, match="made for sinabs"):
        from_nir(to_nir(net, target="sinabs"))
    with pytest.raises(ValueError, match="target must be one of snntorch, "):
        to_nir(net, target="brian")
    with pytest.raises(ValueError, match="layer 0: NIR has no neuron like Other"):
        to_nir(tt.nn.Layer(2, 2, neuron=type("Other", (tt.nn.neurons.LIF,), {})))


def ones(count, value=1.0):
    return np.full(count, value)


def lif(count=2, **changes):
    values = {"tau": ones(count, 1e-3), "r": ones(count, 10.0), "v_leak": ones(count, 0.0), "v_threshold": ones(count)}
    return nir.LIF(**{**values, **changes})


def chain(*nodes):
    names = [f"n{at}" for at in range(len(nodes))]
    ends = {"input": nir.Input(input_type={"input": np.array([2])}), "output": nir.Output({"output": np.array([2])})}
    order = ["input", *names, "output"]
    edges = list(pairwise(order))
    return nir.NIRGraph({**ends, **dict(zip(names, nodes, strict=True))}, edges, metadata={}, type_check=False)


WEIGHT = np.array([[0.5, 0.25], [1.0, -1.0]])


def test_a_graph_of_another_origin_is_read_as_its_equation_says():
    layer = from_nir(chain(nir.Linear(WEIGHT), lif(r=ones(2, 5.0))), reset="subtract")[0]
    torch.testing.assert_close(layer.neuron.constant("decay"), torch.tensor(0.9, dtype=torch.float64))
    torch.testing.assert_close(layer.weight.detach(), torch.tensor(WEIGHT) / 2)  # R·dt/τ = 1/2
    assert layer.neuron.reset == "subtract" and from_nir(chain(nir.Linear(WEIGHT), lif()))[0].neuron.reset == "zero"
    steps = 10.0 * (1 + np.arange(20))
    many = nir.LI(tau=1e-4 * steps, r=steps, v_leak=ones(20, 0.0))
    layer = from_nir(chain(nir.Linear(np.ones((20, 2))), many))[0]
    torch.testing.assert_close(layer.neuron.constant("decay"), torch.tensor(1 - 1 / steps))
    assert not layer.input_trace.tied  # more decays than a tied trace can have


@pytest.mark.parametrize(
    ("nodes", "why"),
    {
        "reset above zero": ([nir.Linear(WEIGHT), lif(v_reset=ones(2, 0.5))], "n1: v_reset is not 0"),
        "leak": ([nir.Linear(WEIGHT), lif(v_leak=ones(2, 0.1))], "n1: v_leak is not 0"),
        "too fast": ([nir.Linear(WEIGHT), lif(tau=ones(2, 1e-5))], "n1: tau must be above the step of dt=0.0001 s"),
        "not finite": ([nir.Linear(WEIGHT * np.inf), lif()], "n0: weight holds values that are not finite"),
        "wrong sizes": ([nir.Linear(WEIGHT), lif(3)], r"n1: tau has the shape \(3,\), and the connection 2 outputs"),
        "no connection": ([lif()], "n0: the neurons have no connection"),
        "no neurons": ([nir.Linear(WEIGHT)], "ends with a connection"),
        "another node": ([nir.Linear(WEIGHT), nir.Threshold(ones(2))], "n1: a nir.Threshold has no counterpart"),
        "text": ([nir.Linear(np.array([["a", "b"]])), lif()], "n0: weight must hold numbers"),
        "no threshold": ([nir.Linear(WEIGHT), lif(v_threshold=ones(2, 0.0))], "n1: v_threshold must be above 0"),
    }.values(),
)
def test_graphs_that_no_layer_expresses_are_refused_with_the_node_and_the_reason(nodes, why):
    with pytest.raises(ValueError, match=why):
        from_nir(chain(*nodes))


def test_branches_and_loops_are_refused():
    graph = chain(nir.Linear(WEIGHT), lif())
    graph.edges = [*graph.edges, ("n1", "n0")]
    with pytest.raises(ValueError, match="branches or loops"):
        from_nir(graph, reset="subtract")


def hostile(kind, path):
    """Write a file of HDF5 that does not hold a graph."""
    with h5py.File(path, "w") as file:
        node = file.create_group("node")
        if kind == "an external link":
            node["nodes"] = h5py.ExternalLink("/etc/hostname", "/")
        elif kind == "a soft link":
            node["nodes"] = h5py.SoftLink("/")
        elif kind == "a cycle":
            node["nodes"] = node
        elif kind == "a bomb":
            node.create_dataset("weight", shape=(1 << 20, 1 << 20), dtype="f8", chunks=(1024, 1024), compression="gzip")
        elif kind == "data elsewhere":
            node.create_dataset("weight", shape=(4,), dtype="u1", external=[("/etc/hostname", 0, 4)])
        elif kind == "a type":
            node["weight"] = np.dtype("f8")


HOSTILE = ["an external link", "a soft link", "a cycle", "a bomb", "data elsewhere", "a type", "nothing"]


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_files_are_refused_with_one_sentence(tmp_path, kind):
    path = tmp_path / "net.nir"
    hostile(kind, path)
    with pytest.raises(ValueError, match=re.escape(str(path))) as refused:
        from_nir(path)
    assert "\n" not in str(refused.value)


def test_other_files_are_refused_with_one_sentence(tmp_path):
    path = tmp_path / "net.nir"
    path.write_bytes(b"not HDF5")
    with pytest.raises(ValueError, match="is not a file of NIR"):
        from_nir(path)
    with pytest.raises(FileNotFoundError):
        from_nir(tmp_path / "absent.nir")
    write_nir(path, to_nir(simple()))
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(ValueError, match=re.escape(str(path))):
        from_nir(path)
    with pytest.raises(TypeError, match=r"takes a nir\.NIRGraph"):
        from_nir(3)
