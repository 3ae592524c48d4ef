"""Where the peers are installed: their networks in the benchmarks are equal to ours. Skipped where they are not."""

import importlib
from functools import partial

import pytest
import torch

import tracetorch as tt
from tests.benchmark_scripts import on_the_path  # noqa: F401 (a fixture)

SIZES = (200, 80, 60, 5)
STEPS, BATCH, RATE = 60, 8, 0.1
GAIN = 1.8
"""Makes both hidden layers fire, and leaves no membrane above twice its threshold, where snnTorch's reset differs."""


@pytest.fixture(params=["snntorch", "spikingjelly", "norse"])
def peer(request):
    """A peer's network with freshly drawn weights."""
    pytest.importorskip(request.param)
    contenders = importlib.import_module("contenders")
    return contenders.build(contenders.TRAINERS[request.param], SIZES, torch.device("cpu"))


def ours_like(peer) -> tt.nn.Sequential:
    """Our network, and its weights in the peer's."""
    torch.manual_seed(3)
    first, *hidden, last = SIZES
    net = tt.nn.feedforward(first, last, hidden=hidden, neuron=tt.nn.LIF, readout=tt.nn.LIS)
    with torch.no_grad():
        for layer in net:
            layer.weight.mul_(GAIN)
    peer.load([layer.weight for layer in net])
    return net


def hidden_spikes(peer, run) -> list[torch.Tensor]:
    """How often each hidden neuron fires while `run` runs, for each layer: (batch, width), seen by a forward hook."""
    counts = [torch.zeros(BATCH, width) for width in SIZES[1:-1]]

    def count(at, module, args, output):
        spikes = output[0] if isinstance(output, tuple) else output
        counts[at] += spikes.detach().reshape(-1, *counts[at].shape).sum(dim=0)

    handles = [module.register_forward_hook(partial(count, at)) for at, module in enumerate(peer.spiking)]
    run()
    for handle in handles:
        handle.remove()
    return counts


def test_a_peer_has_the_same_spikes_and_the_same_answer(peer):
    net = ours_like(peer)
    xs = tt.encode.poisson(torch.full((BATCH, SIZES[0]), RATE), STEPS, seed=1).dense()
    wanted, below = [], xs
    for layer in list(net)[:-1]:
        below = torch.stack([layer(x) for x in below])
        wanted.append(below.sum(dim=0))
    answer = torch.stack([net[-1](x) for x in below]).mean(dim=0)
    means: list[torch.Tensor] = []
    found = hidden_spikes(peer, lambda: means.append(peer.mean_distribution(xs)))
    assert all(counts.sum() > 100 for counts in wanted)  # it is alive
    for ours, theirs in zip(wanted, found, strict=True):
        assert torch.equal(ours, theirs)
    torch.testing.assert_close(means[0], answer, atol=1e-6, rtol=0)
    peer.reset()
    steps = torch.stack([peer.step(x) for x in xs]).mean(dim=0)
    torch.testing.assert_close(steps, answer, atol=1e-6, rtol=0)


def test_a_peer_has_the_same_loss_and_learns(peer):
    base = importlib.import_module("contenders.base")
    mean, target = torch.softmax(torch.randn(BATCH, SIZES[-1]), dim=-1), torch.arange(BATCH) % SIZES[-1]
    torch.testing.assert_close(base.cross_entropy(mean, target), tt.loss.cross_entropy(mean, target)[0])
    ours_like(peer)
    before = [synapse.weight.detach().clone() for synapse in peer.synapses]
    peer.train_step(torch.full((BATCH, SIZES[0]), RATE), STEPS, 0, target)
    assert all(not torch.equal(old, synapse.weight) for old, synapse in zip(before, peer.synapses, strict=True))
    peer.reset()
    peer.stream(torch.full((1, SIZES[0]), RATE), 5, 0)
