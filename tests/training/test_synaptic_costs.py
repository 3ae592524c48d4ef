"""Spikes, sparsity and synaptic operations: against NeuroBench where it is installed, and against a count by hand."""

import pytest
import torch
from torch import nn

import tracetorch as tt
from tests.tiny_training import facts, train
from tracetorch.encode import Stream
from tracetorch.training.synaptic_costs import MOST_TRIALS, SynapticCosts


def counted(net, xs, dt=None):
    """The summary of a count over the input (time, batch, channels)."""
    costs = SynapticCosts(net)
    costs.add(Stream(lambda start, stop: xs[start:stop], len(xs), tuple(xs.shape[1:])))
    return costs.summary(dt)


def pruned():
    """Two layers of LIF and a readout; every third weight of the second layer is 0."""
    torch.manual_seed(0)
    net = tt.nn.Sequential(tt.nn.LIF(20, 30, decay=0.9), tt.nn.LIF(30, 16, threshold=0.5, bias=True), tt.nn.LIS(16, 5))
    net[1].weight.data.view(-1)[::3] = 0
    return net


def spikes(steps=40, batch=3, channels=20):
    """Random spikes, (steps, batch, channels), the same at each call."""
    return (torch.rand(steps, batch, channels, generator=torch.Generator().manual_seed(1)) < 0.3).float()


def by_hand(net, xs):
    """The same numbers, one multiplication at a time."""
    values = {"ones": 0, "outputs": 0, "acs": 0, "macs": 0, "dense": 0}
    net.reset()
    for step in xs:
        x = step
        for layer in net:
            is_spiking = all(value in (0.0, 1.0, -1.0) for value in x.flatten().tolist())
            for sample in x:
                for row in layer.weight.tolist():
                    values["dense"] += len(row)
                    used = sum(w != 0 and value != 0 for w, value in zip(row, sample.tolist(), strict=True))
                    values["acs" if is_spiking else "macs"] += used
            x = layer(x).detach()
            if layer.neuron.spiking:
                values["ones"] += int(x.sum())
                values["outputs"] += x.numel()
    net.reset()
    return values


@pytest.mark.parametrize("is_graded", [False, True])
def test_counts_equal_those_by_hand(is_graded):
    net, xs = pruned(), spikes(steps=8)
    xs = xs * 0.5 if is_graded else xs
    found, expected = counted(net, xs, dt=0.01), by_hand(net, xs)
    assert expected["ones"] > 0
    assert found["firing_rate_hz"] == pytest.approx(100 * expected["ones"] / expected["outputs"])
    assert found["activation_sparsity"] == pytest.approx(1 - expected["ones"] / expected["outputs"])
    assert found["connection_sparsity"] == pytest.approx(160 / (20 * 30 + 30 * 16 + 16 * 5))
    for name, key in {"synaptic_operations": "dense", "effective_acs": "acs", "effective_macs": "macs"}.items():
        assert found[name] == expected[key] / 3, name
    assert (found["effective_macs"] > 0) == is_graded


@pytest.mark.filterwarnings("ignore")  # of the other libraries
def test_counts_equal_those_of_neurobench():
    metrics = pytest.importorskip("neurobench.metrics.workload")
    static = pytest.importorskip("neurobench.metrics.static")
    models = pytest.importorskip("neurobench.models")
    snntorch = pytest.importorskip("snntorch")
    net, xs = pruned(), spikes()
    modules = []
    for layer in net:
        linear = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None)
        linear.load_state_dict(layer.connection.state_dict())
        modules.append(linear)
        if layer.neuron.spiking:
            constants = {name: float(layer.neuron.constant(name)) for name in ("decay", "threshold")}
            options = {"beta": constants["decay"], "threshold": constants["threshold"], "reset_delay": False}
            modules.append(snntorch.Leaky(**options, init_hidden=True))

    class Steps(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(*modules)

        def forward(self, x):
            return self.layers(x), None

    model = models.SNNTorchModel(Steps())
    model.register_hooks()
    data = xs.transpose(0, 1), torch.zeros(3)
    with torch.no_grad():
        preds = model(data[0])
        operations = metrics.SynapticOperations()(model, preds, data)
        sparsity = metrics.ActivationSparsity()(model, preds, data)
    found = counted(net, xs)
    assert found["effective_acs"] == pytest.approx(operations["Effective_ACs"])
    assert found["effective_macs"] == operations["Effective_MACs"] == 0
    assert found["synaptic_operations"] == pytest.approx(operations["Dense"])
    assert found["activation_sparsity"] == pytest.approx(sparsity) and 0.5 < sparsity < 0.99
    assert found["connection_sparsity"] == pytest.approx(static.ConnectionSparsity()(model), abs=1e-4)


def test_a_convolution_counts_the_weights_that_each_input_meets():
    torch.manual_seed(0)
    conv = nn.Conv2d(1, 4, 3, stride=2, padding=1)
    conv.weight.data[0] = 0
    net = tt.nn.Sequential(tt.nn.LIF(nn.Sequential(nn.AvgPool2d(2), conv), threshold=0.2), tt.nn.LI(36, 5))
    xs = (torch.rand(6, 2, 1, 12, 12) < 0.3).float()
    found = counted(net, xs)
    pooled = nn.functional.avg_pool2d(xs.flatten(0, 1), 2)
    used = nn.functional.conv2d((pooled != 0).float(), (conv.weight != 0).float(), stride=2, padding=1).sum() / 2
    assert found["effective_macs"] == pytest.approx(float(used)) and float(used) > 0
    dense = nn.functional.conv2d(torch.ones(1, 1, 6, 6), torch.ones(4, 1, 3, 3), stride=2, padding=1).sum()
    assert found["synaptic_operations"] == pytest.approx(6 * (float(dense) + 36 * 5))


def test_a_network_without_spikes_or_with_another_connection_has_only_what_is_known():
    only_readout = counted(tt.nn.Sequential(tt.nn.LI(20, 3)), spikes())
    assert "activation_sparsity" not in only_readout and only_readout["effective_acs"] > 0

    class Doubled(nn.Linear):
        pass

    class Scaled(nn.Module):
        def forward(self, x):
            return 2 * x

    assert "effective_acs" in counted(tt.nn.Sequential(tt.nn.LIF(Doubled(20, 4))), spikes())
    assert set(counted(tt.nn.Sequential(tt.nn.LIF(Scaled())), spikes())) == {
        "firing_rate_per_step",
        "activation_sparsity",
    }


def test_a_count_changes_neither_state_nor_generators_and_is_bounded():
    net, xs = pruned(), spikes(batch=64)
    net.run(xs)
    before, seed = net.save_state(), torch.get_rng_state()
    costs = SynapticCosts(net)
    costs.add(Stream(lambda start, stop: xs[start:stop], len(xs), tuple(xs.shape[1:])))
    after = net.save_state()
    assert all(torch.equal(before[name], after[name]) for name in before) and torch.equal(seed, torch.get_rng_state())
    net.reset()
    costs = SynapticCosts(net)
    costs.add(Stream(lambda start, stop: xs[start:stop], len(xs), tuple(xs.shape[1:])))
    assert costs.trials == MOST_TRIALS and not costs.wants_more


def test_every_run_has_the_numbers_in_its_summary(tmp_path):
    summary = facts(train(tmp_path))["summary"]
    assert summary["synaptic_operations"] == 10 * (12 * 8 + 8 * 3)  # steps × weights
    assert 0 <= summary["firing_rate_per_step"] == pytest.approx(1 - summary["activation_sparsity"])
    assert summary["connection_sparsity"] == 0
    assert 0 < summary["effective_acs"] + summary["effective_macs"] <= summary["synaptic_operations"]
