"""Time in chunks: how many steps each has, and that means, windows and kept outputs do not depend on it."""

import pytest
import torch

import tracetorch as tt
from tests.common import BATCH, IN, LAYERS, OUT, STEPS, build, spikes
from tests.kernel_cases import combined
from tracetorch import backends, device
from tracetorch.nn import LI, LIF, LIS, Sequential, network
from tracetorch.nn.network import MAX_CHUNK, chunk_steps, state_aside

ROWS = {row.name: row for row in LAYERS}


def steps_for(monkeypatch, *, inputs=64, width=64, batch=64, cache=1 << 20, dtype=torch.float32) -> int:
    monkeypatch.setattr(device, "cache_bytes", lambda _: cache)
    return chunk_steps([LIF(inputs, width).to(dtype), LI(width, 2).to(dtype)], batch)


@pytest.mark.parametrize(
    "larger", [{"width": 256}, {"inputs": 256}, {"batch": 256}, {"cache": 1 << 18}, {"dtype": torch.float64}], ids=str
)
def test_wider_networks_larger_batches_and_smaller_caches_give_shorter_chunks(larger, monkeypatch):
    usual, shorter = steps_for(monkeypatch), steps_for(monkeypatch, **larger)
    assert 1 < shorter < usual < MAX_CHUNK
    assert shorter == pytest.approx(usual / (2 if "dtype" in larger else 4), abs=1)
    assert steps_for(monkeypatch, **{"width": 5000, "batch": 5000, "cache": 0} | larger) == 1
    assert steps_for(monkeypatch, inputs=1, width=1, batch=0, cache=1 << 40) == MAX_CHUNK


def test_the_cache_is_that_of_the_threads_in_use_or_of_the_gpu(monkeypatch):
    for text, size in (("2048K\n", 2048 << 10), ("3M", 3 << 20), ("much", 1 << 20)):
        with monkeypatch.context() as patch:
            patch.setattr(device.Path, "read_text", lambda _, text=text: text)
            assert device._core_cache.__wrapped__() == size
    cpu, threads = torch.device("cpu"), torch.get_num_threads()
    one = device.cache_bytes(cpu)
    assert one >= 1 << 16
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3 * threads)
    assert device.cache_bytes(cpu) == 3 * one
    assert device.cache_bytes(torch.device("meta")) == 1 << 20
    if torch.cuda.is_available():
        assert device.cache_bytes(torch.device("cuda")) == torch.cuda.get_device_properties(0).L2_cache_size > 0


def test_a_stream_is_read_in_the_given_chunks_or_those_for_the_cache(monkeypatch):
    seen = []
    stream = tt.encode.Stream(lambda a, b: seen.append(b - a) or torch.zeros(b - a, 1, IN), STEPS, (1, IN))
    monkeypatch.setattr(network, "chunk_steps", lambda layers, batch: 7)
    LI(IN, OUT).run(stream)
    LI(IN, OUT).run(stream, chunk=10)
    assert seen == [7, 7, 7, 3, 10, 10, 4]


@pytest.mark.parametrize(
    ("name", "window", "chunk"),
    combined(name=["LIF-groups-bias", "own", "network"], window=[1, 8, 9, None], chunk=[1, 8, None]),
)
def test_a_mean_is_the_float64_mean_of_the_outputs(name, window, chunk):
    """To the bit, in whatever chunks, also where a window begins or ends with one."""
    net, xs = build(ROWS[name], dtype=torch.float32), spikes().float()
    outputs = net.run(xs, chunk=chunk)
    net.reset()
    total = torch.zeros(BATCH, OUT, dtype=torch.float64)
    for output in outputs[-(window or STEPS) :]:
        total += output
    mean = net.run(xs, reduce="mean", window=window, chunk=chunk)
    assert mean.dtype == torch.float32 and torch.equal(mean, (total / (window or STEPS)).float())


@pytest.mark.parametrize("threads", [1, 2])
def test_traces_and_membranes_decay_to_zero_in_silence_without_denormal_numbers(threads):
    """Arithmetic with denormal numbers is slow."""
    torch.manual_seed(0)
    net, before = Sequential(LIF(64, 32), LIF(32, 16)), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        net.run(torch.rand(50, 32, 64))
        assert net[0].state.trace.all()
        net.run(torch.zeros(1200, 32, 64), reduce="mean")
    finally:
        torch.set_num_threads(before)
    assert not any(layer.state.trace.any() or layer.state.neuron.membrane.any() for layer in net)
    assert float("5e-324") * 1.0 > 0, "and elsewhere such numbers are what they were"


EVENTS = [
    lambda net: net,
    lambda net: net[0].weight.data.mul_(1.2),
    lambda net: setattr(net[0].weight, "data", 1.5 * net[0].weight.data),
    lambda net: net[0].neuron.set("threshold", 0.7, tt.constrain.raw_from_positive),
    lambda net: net.reset(),
    lambda net: setattr(net[1], "connection", torch.nn.Linear(9, 3, bias=False, dtype=net[1]._like.dtype)),
    lambda net: net.reset(torch.tensor([True, False, True, False])),
    lambda net: net[0].state,
    lambda net: net[1].neuron.set("decay", 0.6, tt.constrain.raw_from_decay),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_short_chunks_of_small_layers_give_the_bits_of_the_general_path(monkeypatch, dtype):
    def results():
        torch.manual_seed(0)
        net, found = Sequential(LIF(6, 9, bias=True, decay=0.8), LIS(9, 3)).to(dtype), []
        for number, event in enumerate(EVENTS):
            event(net)
            xs = (torch.rand(7, 4, 6, generator=torch.Generator().manual_seed(number)) < 0.4).to(dtype)
            found += [net.run(xs * (1 + number % 2), reduce="mean").detach(), *net.save_state().values()]
        return found

    quick = results()
    monkeypatch.setattr(backends, "pass_through", lambda *given: False)
    assert all(torch.equal(one, other) for one, other in zip(quick, results(), strict=True))


@pytest.mark.parametrize("meanwhile", ["it runs", "it is read", "it is read and runs"])
def test_state_aside_restores_the_state_and_a_state_that_was_read_never_changes(meanwhile):
    net, xs = Sequential(LIF(6, 9), LIS(9, 3)), torch.rand(7, 4, 6)
    net.run(xs, reduce="mean")
    before, shown = net.save_state(), net[0].state
    with state_aside(net):
        net.run(xs, reduce="mean")
        read = net[1].state if "read" in meanwhile else shown
        then = read.trace.clone()
        if "runs" in meanwhile:
            net.run(xs, reduce="mean")
            net.reset()
            net.run(xs[:, :2], reduce="mean")
    for _ in range(2):
        assert all(torch.equal(value, before[name]) for name, value in net.save_state().items())
        net.reset()
        net.run(xs, reduce="mean")
    assert torch.equal(read.trace, then) and torch.equal(shown.trace, before["0.trace"])


def test_state_aside_of_a_new_network_and_of_an_output_that_is_used_later():
    net, xs = Sequential(LIF(6, 9), LIS(9, 3)), torch.rand(7, 4, 6)
    with state_aside(net):
        pass
    assert net.save_state() == {}
    net.run(xs)
    with state_aside(net):
        net.reset()
        output = net.run(xs, reduce="mean")
    with pytest.raises(RuntimeError, match="has changed since this output was computed"):
        output.sum().backward()
